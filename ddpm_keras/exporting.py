"""A sampler and its network as one SavedModel, from seeds to images, for TensorFlow alone."""

import os
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from . import files, samplers
from .networks.compiled import plainly


def write(drawing, path):
    """Writes network and sampler as a SavedModel, whole or not at all.

    Args:
        drawing: the `Sampling` that says with what is drawn.
        path: a new or empty folder.

    Raises:
        ValueError: something is at `path` already.
    """
    path = Path(path)
    files.check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    module: Any = as_module(drawing)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        made = os.path.join(folder, "model")
        signatures = {"serving_default": module.sample, "network": module.network}
        with plainly():  # whoever loads it may lack XLA
            tf.saved_model.save(module, made, signatures)
        if path.is_dir():
            path.rmdir()
        os.replace(made, path)


def as_module(drawing):
    """A `tf.Module` with the functions `sample` and `network` of `DDPM.export_sampler`.

    Args:
        drawing: a `Sampling`.
    """
    model, shape = drawing.model, drawing.model.image_shape
    module: Any = tf.Module()  # the model is no part of it, or all its weights would be written
    module.weights = [[tf.Variable(v, trainable=False) for v in each] for each in drawing.values]

    def tensors(weights):
        return [tf.convert_to_tensor(weight) for weight in weights]

    def images(seeds, labels=None):
        values, *guides = map(tensors, module.weights)
        guide = guides[0] if guides else None

        def predict(x, t):
            return model.predict_output(x, t, labels, drawing.guidance, guide)

        x = tf.ensure_shape(samplers.initial_noise(seeds, shape), (None, *shape))
        with model.weight_scope(values):
            images = drawing.sampler(
                predict, x, model.schedule, seed=seeds, prediction=model.prediction
            )
            return as_uint8(images)

    def sample(seed, start, num_images):
        return images(samplers.image_seeds(seed, start, num_images))

    def sample_classes(seed, start, labels):
        return images(samplers.image_seeds(seed, start, tf.shape(labels)[0]), labels)

    def network(x, t, *labels):
        with model.weight_scope(tensors(module.weights[0])):
            return tf.cast(model.network([x, t, *labels], training=False), tf.float32)

    whole = [tf.TensorSpec((), tf.int32, name) for name in ("seed", "start", "num_images")]
    noisy = [tf.TensorSpec((None, *shape), tf.float32, "x"), tf.TensorSpec((None,), tf.int32, "t")]
    if model.num_classes is None:
        module.sample, module.network = _function(sample, whole), _function(network, noisy)
    else:
        labels = tf.TensorSpec((None,), tf.int32, "labels")
        module.sample = _function(sample_classes, [*whole[:2], labels])
        module.network = _function(network, [*noisy, labels])
    return module


def as_uint8(images):
    """Images in [-1, 1] as uint8, rounded as NumPy rounds."""
    return tf.cast(tf.round((tf.clip_by_value(images, -1.0, 1.0) + 1.0) * 127.5), tf.uint8)


def _function(function, signature):
    return tf.function(function, autograph=False, input_signature=signature)
