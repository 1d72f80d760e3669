"""Principal components of pixels: features without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...scalars import count
from ..statistics import FeatureStatistics
from .base import FeatureExtractor, to_uint8

LARGEST_SIDE = 32  # larger images are averaged down to at most this many pixels first


class PixelFeatures(FeatureExtractor):
    """The first principal components of the pixels of the real training images.

    They see blur and contrast, and no meaning: a second opinion on a ranking by a network. Features
    are scaled so that their variances over the training images add up to `dim`. Use `train`.

    Example:

    ```python
    extractor = quality.PixelFeatures.train(digits.train, dataset="digits", dim=32)
    features = extractor(digits.held_out)  # (360, 32)
    ```
    """

    batch_size = 256

    def __init__(
        self,
        image_shape: Sequence[int],
        dataset: str,
        mean: np.ndarray,
        components: np.ndarray,
        fingerprint: str,
    ) -> None:
        self.image_shape, self.channels = tuple(image_shape), image_shape[-1]
        self.name = f"{dataset} principal components of pixels"
        self.dim = components.shape[1]
        self.fingerprint = fingerprint
        self._mean, self._components = mean, components

    @classmethod
    def train(
        cls,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        dataset: str = "images",
        dim: int = 64,
    ) -> PixelFeatures:
        """Finds the components; the result is a function of the arguments.

        Args:
            images: uint8 `(N, H, W, C)`, the real training images, at least 2.
            labels: of no use here; taken so that extractors are made alike.
            dataset: name of the data, which becomes part of the extractor's name.
            dim: components, or as many as there are of any variance.

        Returns:
            A `PixelFeatures`.

        Raises:
            ValueError: there are fewer than 2 images, or all are the same, or `dim` is no count.
        """
        del labels
        images, dim = to_uint8(images), count(dim, "dim")
        if len(images) < 2:
            raise ValueError(f"Components of pixels need at least 2 images; got {len(images)}.")
        statistics = FeatureStatistics()
        digest = hashlib.sha256(f"components of pixels 1, {dim}, {images.shape}".encode())
        for start in range(0, len(images), cls.batch_size):
            batch = np.ascontiguousarray(images[start : start + cls.batch_size])
            digest.update(batch)
            statistics.update(_rows(batch))
        components = _components(statistics.covariance, dim)
        mean = np.asarray(statistics.mean, np.float32)
        return cls(images.shape[1:], dataset, mean, components, digest.hexdigest())

    def _features(self, batch):
        return (_rows(batch) - self._mean) @ self._components


def _components(covariance, dim):
    """Directions (pixels, dim), the widest first, scaled to a mean variance of 1."""
    variances, vectors = np.linalg.eigh(covariance)
    kept = np.flatnonzero(variances > 1e-9 * max(variances[-1], 1e-12))[::-1][:dim]
    if not len(kept):
        raise ValueError("All images are the same, so their pixels have no components.")
    scale = np.sqrt(len(kept) / variances[kept].sum())
    return np.asarray(scale * vectors[:, kept], np.float32)


def _rows(images):
    """Images as rows of float32 pixels in 0..1, averaged down where they are large."""
    images = np.asarray(images, np.float32) / np.float32(255)
    height, width = images.shape[1:3]
    side = -(-max(height, width) // LARGEST_SIDE)
    if side > 1:
        margins = [(0, 0), (0, -height % side), (0, -width % side), (0, 0)]
        images = np.pad(images, margins, mode="edge")
        count, height, width, channels = images.shape
        blocks = images.reshape(count, height // side, side, width // side, side, channels)
        images = blocks.mean(axis=(2, 4))
    return images.reshape(len(images), -1)
