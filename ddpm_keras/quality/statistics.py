"""Mean and covariance of features, gathered batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import files
from ..aliases import PathLike
from ..reading import npz
from .matrices import blocks, check_features

_COPIES = 4  # of a covariance at a time, while it is checked


class FeatureStatistics:
    """Running mean and covariance of feature vectors, in float64.

    Batches of any size, and statistics gathered elsewhere, are combined by the pairwise update of
    Chan et al., which stays accurate where sums of squares cancel.

    Attributes:
        num_images: number of rows seen; None for a file that does not tell it.

    Example:

    ```python
    statistics = FeatureStatistics()
    for batch in batches:
        statistics.update(extractor(batch))
    statistics.save("reference.npz")
    ```

    Reference:
        - Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
          variances (1979).
    """

    def __init__(self):
        self.num_images = 0
        self._mean: Any = None
        self._scatter = None  # sum of outer products of centred rows, (D, D)
        self._covariance = None  # only of a loaded file whose number of images is unknown

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureStatistics:
        """Statistics of a feature matrix `(N, D)`, which may be a memory map."""
        statistics = cls()
        for block in blocks(check_features(features, "features", min_rows=1)):
            statistics._update(block)
        return statistics

    def update(self, features: ArrayLike) -> None:
        """Adds a batch of features `(N, D)`, N >= 1.

        Raises:
            ValueError: on NaN, on another number of features than before, on a matrix without
                rows, or if these statistics come from a file that does not tell their N.
        """
        for block in blocks(check_features(features, "features", min_rows=1)):
            self._update(block)

    def merge(self, other: FeatureStatistics) -> None:
        """Adds what another `FeatureStatistics` has seen, for instance on another replica.

        Raises:
            ValueError: as `update`.
        """
        if other.num_images is None:
            raise ValueError("Statistics from a file without N cannot be merged.")
        if other.num_images:
            self._combine(other.num_images, other._mean, other._scatter)

    @property
    def mean(self) -> np.ndarray:
        """float64 vector `(D,)`."""
        self._require(1)
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """float64 matrix `(D, D)`, divided by N - 1."""
        if self._covariance is not None:
            return self._covariance
        self._require(2)
        return self._scatter / (self.num_images - 1)

    @property
    def dim(self) -> int | None:
        """Number of features, D; None before the first batch."""
        return None if self._mean is None else len(self._mean)

    def save(self, path: PathLike) -> None:
        """Writes an npz file with `mu` and `sigma`, and N as `num_images`.

        pytorch-fid, EDM and clean-fid read the first two and ignore the third.
        """
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self.num_images is not None:
            arrays["num_images"] = np.int64(self.num_images)
        with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: PathLike) -> FeatureStatistics:
        """Reads an npz file with `mu` and `sigma`, written here or by another tool.

        Raises:
            ValueError: if the file is not such a file; nothing in it is executed.
        """
        mean, covariance, num_images = _read(path)
        statistics = cls()
        statistics._mean = mean
        statistics.num_images = num_images
        if num_images is None:
            statistics._covariance = covariance
        else:
            statistics._scatter = covariance * (num_images - 1)
        return statistics

    def _update(self, rows):
        mean = rows.mean(axis=0)
        centred = rows - mean
        self._combine(len(rows), mean, centred.T @ centred)

    def _combine(self, count, mean, scatter):
        if self.num_images is None:
            raise ValueError("Statistics from a file without N cannot be continued.")
        if self.num_images == 0:
            self.num_images, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        if len(mean) != self.dim:
            raise ValueError(f"These statistics are of {self.dim} features; got {len(mean)}.")
        total = self.num_images + count
        delta = mean - self._mean
        self._scatter += scatter
        self._scatter += np.outer(delta, delta * (self.num_images * count / total))
        self._mean = self._mean + delta * (count / total)  # one that was given out stays
        self.num_images = total

    def _require(self, rows):
        if self.num_images is not None and self.num_images < rows:
            raise ValueError(
                f"These statistics have seen {self.num_images} images; at least {rows} are needed."
            )


def _read(path):
    """Returns mean (D,), covariance (D, D) and N or None."""
    try:
        arrays = npz.read(path, ("mu", "sigma", "num_images").__contains__)
        npz.check_converted("what it holds", arrays, _COPIES, path)
        mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
        num_images = int(arrays["num_images"]) if "num_images" in arrays else None
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is no statistics file (npz with arrays mu and sigma): {error}"
        ) from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path} has mu of shape {mean.shape} and sigma of shape {covariance.shape}; "
            "expected (D,) and (D, D)."
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{path} holds NaN or infinity: make the statistics again.")
    if num_images is not None and num_images < 2:
        raise ValueError(f"{path} is of {num_images} images: make the statistics of 2 or more.")
    if not _is_covariance(covariance):
        raise ValueError(
            f"{path} has a sigma that is no covariance, since it is not symmetric or has a "
            "negative eigenvalue: make the statistics again."
        )
    return mean, covariance, num_images


def _is_covariance(matrix, tolerance=1e-3):
    """Whether a matrix (D, D) is symmetric without negative eigenvalues, but for rounding."""
    slack = tolerance * np.abs(matrix).max(initial=0.0)
    if np.abs(matrix - matrix.T).max(initial=0.0) > slack:
        return False
    raised = matrix.copy()
    raised.flat[:: len(matrix) + 1] += slack or 1.0  # by which no eigenvalue is negative any more
    try:
        np.linalg.cholesky(raised)  # much faster than all eigenvalues
    except np.linalg.LinAlgError:
        return False
    return True
