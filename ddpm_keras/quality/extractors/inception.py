"""Features of the InceptionV3 network that comes with Keras."""

from __future__ import annotations

import hashlib
import pathlib

import keras
import numpy as np
import tensorflow as tf

from ... import keras_internals
from ...aliases import PathLike
from ...reading import keras_file
from ...scalars import whole
from .base import FeatureExtractor

WEIGHTS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"


class InceptionFeatures(FeatureExtractor):
    """The 2048 pooled features of `keras.applications.InceptionV3` trained on ImageNet.

    Convenient, since Keras downloads the weights, but another network than that of 2015-12-05: the
    Fréchet distance on it compares only with itself at the same `size`, and is named accordingly.
    Images are resized bilinearly (antialiased where they are larger), then scaled to -1..1.

    Args:
        size: pixels a side that images are resized to, at least 75. 299 is what the network was
            trained on; 75 is about 15 times faster.
        weights: `"imagenet"`, which Keras downloads once and checks; or the path of that file,
            `inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5`.

    Raises:
        ValueError: if the weights can be neither found nor fetched, or do not fit.
    """

    dim = 2048
    batch_size = 32

    def __init__(self, size: int = 299, weights: PathLike = "imagenet"):
        self.size = whole(size, "size", 75)
        self._network = _network(self.size, weights)
        self.name = f"Keras InceptionV3 at {self.size} pixels"
        if weights != "imagenet":
            self.name += f", weights {self.fingerprint[:8]}"
        self._compute = tf.function(
            self._resize_and_compute,
            autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and the size, 64 hexadecimal digits."""
        digest = hashlib.sha256(f"bilinear, antialiased, {self.size}, x / 127.5 - 1".encode())
        for weight in self._network.get_weights():
            digest.update(np.ascontiguousarray(weight))
        return digest.hexdigest()

    def _features(self, batch):
        return self._compute(batch).numpy()

    def _resize_and_compute(self, batch):
        resized = tf.image.resize(batch, (self.size, self.size), "bilinear", antialias=True)
        return self._network(resized / 127.5 - 1.0, training=False)


def at_75_pixels() -> InceptionFeatures:
    """`InceptionFeatures` at the smallest size, for small images in little time."""
    return InceptionFeatures(size=75)


def _network(size, weights):
    if weights != "imagenet" and not pathlib.Path(weights).is_file():
        raise ValueError(f'{weights} is not there: give the path of {WEIGHTS_FILE}, or "imagenet".')
    path = _fetch() if weights == "imagenet" else weights
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # InceptionV3 takes no dtype
    try:
        network = keras.applications.InceptionV3(
            include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg"
        )
    finally:
        keras.config.set_dtype_policy(policy)
    try:
        keras_file.check_weights(path)
        network.load_weights(path)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold the weights of {WEIGHTS_FILE}: {reason}") from None
    network.trainable = False
    return network


def _fetch():
    """Path of the ImageNet weights in Keras' cache; fetched whole, and checked, where missing."""
    try:
        return keras.utils.get_file(
            WEIGHTS_FILE,
            keras_internals.INCEPTION_V3_WEIGHTS,
            cache_subdir="models",
            file_hash="bcbd6486424b2319ff4ef7d526e38f63",
        )
    except Exception as error:  # of the network, the disk, the checksum
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The ImageNet weights cannot be fetched ({reason}): supply {WEIGHTS_FILE} as "
            "weights=, or use ClassifierFeatures, which works offline."
        ) from None
