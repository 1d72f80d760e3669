"""Checks shared by all metrics on feature matrices, one row an image and one column a feature."""

import weakref

import numpy as np

BLOCK = 2048  # rows handled at a time, so that a matrix on disk never has to fit in memory


def blocks(features):
    """Yields float64 blocks of rows of a matrix (N, D), which may be a memory map."""
    for start in range(0, len(features), BLOCK):
        yield np.asarray(features[start : start + BLOCK], np.float64)


def check_features(features, name, min_rows=2):
    """Returns `features` as an array (N, D) of finite numbers, without copying it.

    Raises:
        ValueError: if it is no matrix of numbers, has too few rows, or holds NaN or infinity.
    """
    features = np.asanyarray(features)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(
            f"`{name}` must be a feature matrix (images, features); got shape {features.shape}. "
            "Pass images through an extractor first."
        )
    if isinstance(features, np.ma.MaskedArray):
        raise ValueError(f"`{name}` is a masked array, and the mask means nothing: give the rows.")
    if features.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` must hold real numbers; got dtype {features.dtype}.")
    if len(features) < min_rows:
        raise ValueError(f"`{name}` has {len(features)} rows; at least {min_rows} are needed.")
    for index, block in enumerate(blocks(features)):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = index * BLOCK + int(np.argmin(finite))
            raise ValueError(
                f"`{name}` has NaN or infinite features, first in row {row}: look at that image."
            )
    return features


def check_pair(real, generated, min_rows=2):
    """Checks two feature matrices and that they have the same number of columns."""
    real = check_features(real, "real", min_rows)
    generated = check_features(generated, "generated", min_rows)
    check_same_width(real.shape[1], generated.shape[1])
    return real, generated


def check_same_width(real, generated):
    """Raises ValueError unless both widths are equal."""
    if real != generated:
        raise ValueError(
            f"`real` has {real} features an image and `generated` {generated}: "
            "use one extractor for both."
        )


def check_no_constant_column(features, name):
    """Raises ValueError if a column has one value in all rows."""
    low = np.min([block.min(axis=0) for block in blocks(features)], axis=0)
    high = np.max([block.max(axis=0) for block in blocks(features)], axis=0)
    constant = np.flatnonzero(low == high)
    if constant.size:
        raise ValueError(
            f"`{name}` has {constant.size} constant columns of {features.shape[1]}, first column "
            f"{constant[0]} with {low[constant[0]]:g} in all {len(features)} rows: use more "
            "images, drop the columns, or pass FeatureStatistics, which are taken as they are."
        )


class Remembered:
    """A function of arrays that keeps its last result, where nobody can have changed the arrays.

    One weight set after the other is measured against the same real images, whose features lie in
    read-only memory maps: what is a function of them alone is computed once.
    """

    def __init__(self, function):
        self.function = function
        self._arrays, self._result = (), None

    def __call__(self, *arrays):
        known = [array() for array in self._arrays]
        if len(known) == len(arrays) and all(a is b for a, b in zip(known, arrays, strict=True)):
            return self._result
        result = self.function(*arrays)
        if all(isinstance(each, np.memmap) and not each.flags.writeable for each in arrays):
            self._arrays, self._result = tuple(map(weakref.ref, arrays)), result
        return result
