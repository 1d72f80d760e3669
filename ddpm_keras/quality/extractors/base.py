"""What every feature extractor shares: uint8 images in, batch by batch, features out."""

import warnings

import numpy as np
from numpy.typing import ArrayLike

from ...data.rows import taken

METRIC = "Fréchet distance"
# What a network that learns from the images is called, by what it learns.
LEARNT = {"labels": "classifier", "rotation": "rotation network", "random": "random network"}


def metric_of(name: str) -> str:
    """What the Fréchet distance on the features of an extractor of this name is called."""
    return f"{METRIC}, {name}"


def learnt_name(dataset: str, target: str) -> str:
    """What a network is called that learns a key of `LEARNT` from the images of a data set."""
    return f"{dataset} {LEARNT[target]}"


class FeatureExtractor:
    """Turns images into feature vectors.

    A subclass sets the attributes below and defines `_features(batch)`, from uint8 `(B, H, W, C)`
    to float32 `(B, dim)`, where row i depends on image i alone.

    Attributes:
        name: what a person reads, such as `"digits classifier"`.
        metric: what the Fréchet distance on these features is called.
        dim: number of features.
        fingerprint: checksum of weights and preprocessing, for cache keys and records.
        batch_size: images computed at a time; but for rounding it does not change the features.
        channels: channels that the network expects.
        image_shape: (height, width, channels) of the only images it takes; None: of any size.
    """

    name: str
    dim: int
    fingerprint: str
    batch_size = 64
    channels = 3
    image_shape = None

    @property
    def metric(self) -> str:
        return metric_of(self.name)

    def __call__(self, images: ArrayLike) -> np.ndarray:
        """Features of images, in their order.

        Args:
            images: a batch, or a list of single images, whose sizes may differ, each as follows.
                uint8 `(N, H, W, C)` in 0..255, or float in -1..1, which is rounded to uint8
                first, since a saved picture has no more levels. N may be 0. Greyscale is repeated
                to RGB where the network expects RGB.

        Returns:
            float32 array `(N, dim)`.

        Raises:
            ValueError: if the images have another shape or range.
        """
        if isinstance(images, list):
            return self._of_each_size(images)
        images = to_uint8(images)
        self._check(images[:0])
        features = np.empty((len(images), self.dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = self._check(taken(images, start, start + self.batch_size))
            features[start : start + len(batch)] = self._features(batch)
        return features

    def _of_each_size(self, images):
        """Features of a list of images (H, W, C): one batch for all images of a size."""
        features = np.empty((len(images), self.dim), np.float32)
        shapes = [np.shape(image) for image in images]
        for shape in sorted(set(shapes)):
            rows = [row for row, other in enumerate(shapes) if other == shape]
            features[rows] = self(np.stack([images[row] for row in rows]))
        return features

    def _check(self, images):
        """Brings greyscale to the channels of the network."""
        if images.shape[-1] == 1 and self.channels == 3:
            images = np.repeat(images, 3, axis=-1)
        if images.shape[-1] != self.channels:
            raise ValueError(
                f"The {self.name} expects images with {self.channels} channels; got shape "
                f"{images.shape}."
            )
        if self.image_shape not in (None, images.shape[1:]):
            raise ValueError(
                f"The {self.name} is of images {self.image_shape}; got {images.shape[1:]}."
            )
        return images

    def _features(self, batch):
        """Features of a checked batch, uint8 (B, H, W, C): float32 (B, dim)."""
        raise NotImplementedError(f"{type(self).__name__} must define _features(batch).")


def to_uint8(images: ArrayLike) -> np.ndarray:
    """Returns images as uint8 `(N, H, W, C)`; float in -1..1 is rounded as for a saved picture.

    A memory map of uint8 stays one. Of floats that are all in the upper half, a warning tells.

    Raises:
        ValueError: if they are no batch of images, or floats beyond -1..1.
    """
    images = np.asanyarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"Images must be a batch (N, height, width, channels); got shape {images.shape}."
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"Images must be uint8 in 0..255 or float in -1..1; got {images.dtype}.")
    if images.size and not (np.abs(images) <= 1.0 + 1e-5).all():
        raise ValueError(
            f"Float images must lie in -1..1; got {np.nanmin(images):g}..{np.nanmax(images):g}, or "
            "NaN. Pass uint8 for the range 0..255."
        )
    if images.size and images.min() >= 0 and images.max() > 0.5:
        warnings.warn(
            "All of these float images lie in [0, 1], half of -1..1: if that is their whole range, "
            "give 2 * images - 1, or uint8.",
            stacklevel=3,
        )
    return np.clip(np.round((images.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
