"""Checks shared by all metrics on feature matrices, one row an image and one column a feature."""

import weakref

import numpy as np

BLOCK, NUMBERS = 2048, 2**25  # rows, and float64 numbers, that are handled at a time


def block_of(features):
    """How many rows of a matrix (N, D) are handled at a time: of wide ones, as of images, fewer."""
    return min(BLOCK, max(1, NUMBERS // features.shape[1]))


def blocks(features):
    """Yields float64 blocks of rows of a matrix (N, D), which may be a memory map."""
    rows = block_of(features)
    for start in range(0, len(features), rows):
        yield np.asarray(features[start : start + rows], np.float64)


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
            row = index * block_of(features) + int(np.argmin(finite))
            raise ValueError(
                f"`{name}` has NaN or infinite features, first in row {row}: look at that image."
            )
    return features


_PAIR = ("real", "generated")


def check_pair(first, second, min_rows=2, names=_PAIR):
    """Checks two feature matrices, which errors call by `names`, and that both are as wide."""
    first, second = (
        check_features(each, name, min_rows)
        for each, name in zip((first, second), names, strict=True)
    )
    check_same_width(first.shape[1], second.shape[1], names)
    return first, second


def check_same_width(first, second, names=_PAIR):
    """Raises ValueError unless both widths are equal."""
    if first != second:
        raise ValueError(
            f"`{names[0]}` has {first} features an image and `{names[1]}` {second}: "
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
