"""Features of a small classifier that is trained on the data set itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from ... import files, keras_internals
from ...aliases import PathLike
from ...reading import json_text, npz
from ...scalars import count, whole
from .base import FeatureExtractor, learnt_name, to_uint8

FORMAT = "ddpm-keras classifier 1"
LARGEST_SIDE = 64  # larger images are averaged down to at most this many pixels first


class ClassifierFeatures(FeatureExtractor):
    """Last hidden layer of a small convolutional classifier of the real training images.

    For pictures that an ImageNet network does not understand, such as 8x8 digits. Where there are
    no labels, the network learns by how far an image has been turned (0, 90, 180 or 270 degrees; 0
    or 180 where images are not square). Distances on these features compare with one another for
    the same extractor only, which `fingerprint` tells, and are never "FID". Features are scaled so
    that their variances over the training images add up to `dim`.

    Use `train` or `load` to make one.

    Example:

    ```python
    digits = data.load("digits")
    extractor = quality.ClassifierFeatures.train(
        digits.train, digits.train_labels, dataset="digits"
    )
    features = extractor(digits.held_out)  # (360, 64)
    ```
    """

    batch_size = 256

    def __init__(self, config: dict[str, Any], weights: Sequence[np.ndarray]):
        self.config = dict(config)
        height, width, self.channels = self.image_shape = tuple(config["image_shape"])
        self.dim = config["dim"]
        self.name = learnt_name(config["dataset"], config["target"])
        self._network = _build(self.image_shape, self.dim, config["num_outputs"], config["seed"])
        self._network.set_weights(weights)
        self._scale = np.float32(config["scale"])
        layer = self._network.get_layer("features")
        self._until_features = tf.function(
            keras.Model(self._network.inputs, layer.output, name="until_features"),
            autograph=False,
            input_signature=[tf.TensorSpec((None, height, width, self.channels), tf.float32)],
        )

    @classmethod
    def train(
        cls,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        dataset: str = "images",
        seed: int = 0,
        steps: int = 400,
        batch_size: int = 128,
        dim: int = 64,
    ) -> ClassifierFeatures:
        """Trains a classifier; the result is a function of the arguments.

        Args:
            images: uint8 `(N, H, W, C)`, the real training images; held-out images stay out of it.
            labels: ints `(N,)`, any values, or None to learn rotations.
            dataset: name of the data, which becomes part of the extractor's name.
            seed: of the initial weights, the batches and the augmentation.
            steps: number of batches.
            batch_size: images in a batch.
            dim: number of features; N should be several times as large.

        Returns:
            A `ClassifierFeatures`.

        Raises:
            ValueError: if there are too few images, labels that cannot be learnt from, or a setting
                is no such number.
        """
        images = to_uint8(images)
        cls.check_learnable(images, labels)
        steps, batch_size = count(steps, "steps"), count(batch_size, "batch_size")
        target = "rotation" if labels is None else "labels"
        turns = (0,)
        if labels is None:
            turns, classes = _rotations(images)
        else:
            classes = _class_numbers(labels, len(images))
        num_outputs = int(classes.max()) + 1

        def fit(network):
            _fit(network, _Turned(images, turns), classes, steps, batch_size, seed)

        return cls._made(images, dataset, target, dim, num_outputs, seed, fit)

    @classmethod
    def _made(cls, images, dataset, target, dim, num_outputs, seed, fit=None):
        """An extractor with the network that `fit` has trained, its features scaled."""
        dim, seed = count(dim, "dim"), whole(seed, "seed", 0)
        config = {
            "dataset": dataset,
            "target": target,
            "image_shape": list(images.shape[1:]),
            "dim": dim,
            "num_outputs": num_outputs,
            "seed": seed,
            "scale": 1.0,
        }
        network = _build(images.shape[1:], dim, num_outputs, seed)
        if fit is not None:
            fit(network)
        extractor = cls(config, network.get_weights())
        total_variance = extractor(images).var(axis=0, dtype=np.float64).sum()
        config["scale"] = float(np.sqrt(dim / max(total_variance, 1e-12)))
        return cls(config, network.get_weights())

    @staticmethod
    def check_learnable(images: ArrayLike, labels: ArrayLike | None = None) -> None:
        """Refuses what `train` could not learn from.

        Args:
            images, labels: as of `train`.

        Raises:
            ValueError: as of `train`.
        """
        if len(images) < 2:
            raise ValueError(
                f"A classifier needs at least 2 images to learn from; got {len(images)}."
            )
        if labels is not None:
            _class_numbers(labels, len(images))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture's configuration and the weights, 64 hexadecimal digits."""
        digest = hashlib.sha256((FORMAT + json.dumps(self.config, sort_keys=True)).encode())
        for weight in self._network.get_weights():
            digest.update(np.ascontiguousarray(weight))
        return digest.hexdigest()

    def accuracy(self, images: ArrayLike, labels: ArrayLike | None) -> float:
        """Share of images whose label (0..K-1, as in training) is predicted.

        Args:
            images: as of a call.
            labels: integers (N,).
        """
        images, labels = to_uint8(images), np.asarray(labels)
        _check_one_each(labels, len(images))
        logits = self._network.predict(_normalise(self._check(images)), verbose=0)
        return float((logits.argmax(axis=1) == labels).mean())

    def save(self, path: PathLike) -> None:
        """Writes configuration and weights to an npz file, complete or not at all."""
        arrays = {f"weight_{i}": w for i, w in enumerate(self._network.get_weights())}
        record = json.dumps(
            {"format": FORMAT, "fingerprint": self.fingerprint, "config": self.config}
        )
        with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, record=np.array(record), **arrays)

    @classmethod
    def load(cls, path: PathLike) -> ClassifierFeatures:
        """Reads a file written by `save`.

        Raises:
            ValueError: if it is no such file, or is damaged.
        """
        try:
            arrays = npz.read(path)
            record = json_text.parse(str(arrays["record"]))
            weights = [arrays[f"weight_{i}"] for i in range(len(arrays) - 1)]
            if record["format"] != FORMAT:
                raise ValueError("its format is another one")
            nbytes = 2 * sum(weight.nbytes for weight in weights)
            with keras_internals.bounded_variables(nbytes, 4 * len(weights)):
                extractor = cls(record["config"], weights)
            if extractor.fingerprint != record["fingerprint"]:
                raise ValueError("its checksum does not match")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is no saved ClassifierFeatures: {error}") from None
        return extractor

    def _features(self, batch):
        return self._until_features(_normalise(batch)).numpy() * self._scale


def _normalise(images):
    return np.asarray(images, np.float32) / np.float32(127.5) - 1


def _build(image_shape, dim, num_outputs, seed):
    """A convolutional network of logits whose layer "features" has `dim` outputs.

    Sizes are halved down to at most 4 pixels, and the place of things is kept until there.
    """
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))

    def settings(name):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        return {"kernel_initializer": initializer, "dtype": "float32", "name": name}

    inputs = keras.Input(image_shape, dtype="float32", name="images")
    x = inputs
    height, width = image_shape[:2]
    pool = -(-max(height, width) // LARGEST_SIDE)
    if pool > 1:
        x = keras.layers.AveragePooling2D(pool, padding="same", dtype="float32", name="average")(x)
    filters = 32
    x = keras.layers.Conv2D(filters, 3, padding="same", **settings("conv_0"))(x)
    x = keras.layers.Activation("silu", dtype="float32", name="silu_0")(x)
    level = 0
    while max(x.shape[1:3]) > 4:
        level += 1
        filters = min(2 * filters, 128)
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", **settings(f"conv_{level}"))(
            x
        )
        x = keras.layers.Activation("silu", dtype="float32", name=f"silu_{level}")(x)
    x = keras.layers.Flatten(dtype="float32", name="flatten")(x)
    x = keras.layers.Dense(dim, activation="silu", **settings("features"))(x)
    logits = keras.layers.Dense(num_outputs, **settings("logits"))(x)
    return keras.Model(inputs, logits, name="classifier")


def _fit(network, images, classes, steps, batch_size, seed):
    """Trains with label smoothing, on shifted images, at a rate that falls to zero."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-2)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    targets = np.eye(network.output_shape[-1], dtype=np.float32)[classes]
    optimizer.build(network.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, network(x, training=True))
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

    random = np.random.RandomState(seed)
    for _ in range(steps):
        rows = random.randint(len(images), size=batch_size)
        step(_shift(_normalise(images[rows]), random), targets[rows])


def _shift(images, random):
    """Moves each image by up to a sixteenth of its size, repeating its border."""
    reach = [max(1, round(side / 16)) for side in images.shape[1:3]]
    padded = np.pad(images, ((0, 0), *((r, r) for r in reach), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    moved = np.empty_like(images)
    for i in range(len(images)):
        top, left = (random.randint(2 * r + 1) for r in reach)
        moved[i] = padded[i, top : top + height, left : left + width]
    return moved


def _rotations(images):
    """The turns that keep the shape of images, and of all images in each the number of its turn."""
    turns = (0, 1, 2, 3) if images.shape[1] == images.shape[2] else (0, 2)
    return turns, np.repeat(np.arange(len(turns)), len(images))


class _Turned:
    """Images in each of several turns, one turn after the other, made when they are asked for."""

    def __init__(self, images, turns):
        self.images, self.turns = images, turns

    def __len__(self):
        return len(self.images) * len(self.turns)

    def __getitem__(self, rows):
        turns, rows = np.divmod(rows, len(self.images))
        images = self.images[rows]
        turned = [
            np.rot90(image, self.turns[turn]) for image, turn in zip(images, turns, strict=True)
        ]
        return np.stack(turned)


def _class_numbers(labels, num_images):
    labels = np.asarray(labels)
    _check_one_each(labels, num_images)
    values, classes = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(
            f"All labels are {values[0]}: pass labels=None to learn rotations instead."
        )
    return classes


def _check_one_each(labels, num_images):
    if labels.shape != (num_images,):
        raise ValueError(f"{num_images} images need labels ({num_images},); got {labels.shape}.")
