"""A sampler and its network as one SavedModel, from seeds to images, for TensorFlow alone."""

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from . import files, samplers


def check_target(path):
    """Refuses a folder that `write` could not make; nothing is left behind.

    Raises:
        ValueError: something is there already.
        OSError: it cannot be written to.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already: give a new folder for the SavedModel.")
    files.check_writable(path)


def write(module, path):
    """Writes what `as_module` gave as a SavedModel, whole or not at all."""
    path = Path(path)
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        signatures = {"serving_default": module.sample, "network": module.network}
        tf.saved_model.save(module, os.path.join(folder, "model"), signatures)
        if path.is_dir():
            path.rmdir()
        os.replace(os.path.join(folder, "model"), path)


def as_module(model, values, sampler, guidance_scale=1.0):
    """A `DDPM` with one weight set and a sampler, as two functions of a `tf.Module`.

    Its `sample(seed, start, num_images)` gives what `DDPM.sample` does of these arguments, uint8
    (num_images, height, width, channels); with classes it is `sample(seed, start, labels)`, one
    image for each label. `network(x, t)`, or `network(x, t, labels)`, is the network alone.

    Args:
        model: the `DDPM`.
        values: of the weight set, aligned with `model.network.weights`.
        sampler: a `Sampler`.
        guidance_scale: of classifier-free guidance, a float.
    """
    module = tf.Module()
    module.weights = [tf.Variable(value, trainable=False) for value in values]
    # The model itself must not become part of the module, or all its weights would be written.
    scale = None if guidance_scale == 1.0 else tf.constant(guidance_scale, tf.float32)
    classes = [tf.TensorSpec((None,), tf.int32, "labels")] if model.num_classes is not None else []

    def sample(seed, start, rows):
        labels = [rows] if classes else []
        seeds = samplers.image_seeds(seed, start, tf.shape(rows)[0] if classes else rows)

        def predict(x, t):
            return model.predict_epsilon(x, t, *labels, guidance_scale=scale)

        x = tf.ensure_shape(
            samplers.initial_noise(seeds, model.image_shape), (None, *model.image_shape)
        )
        with model.weight_scope([tf.convert_to_tensor(weight) for weight in module.weights]):
            return as_uint8(sampler(predict, x, model.schedule, seed=seeds))

    def network(x, t, *labels):
        with model.weight_scope([tf.convert_to_tensor(weight) for weight in module.weights]):
            return tf.cast(model.network([x, t, *labels], training=False), tf.float32)

    whole = [tf.TensorSpec((), tf.int32, name) for name in ("seed", "start", "num_images")]
    images = tf.TensorSpec((None, *model.image_shape), tf.float32, "x")
    module.sample = _function(sample, [*whole[:2], *(classes or whole[2:])])
    module.network = _function(network, [images, tf.TensorSpec((None,), tf.int32, "t"), *classes])
    return module


def as_uint8(images):
    """Images in [-1, 1] as uint8, rounded as NumPy rounds."""
    return tf.cast(tf.round((tf.clip_by_value(images, -1.0, 1.0) + 1.0) * 127.5), tf.uint8)


def _function(function, signature):
    return tf.function(function, autograph=False, input_signature=signature)
