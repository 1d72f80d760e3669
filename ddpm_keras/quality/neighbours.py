"""Precision (are the samples realistic?) and recall (is all of the data covered?)."""

import numpy as np
from numpy.typing import ArrayLike

from ..scalars import count
from .matrices import Remembered, block_of, check_pair
from .metric import Metric, Number

_NEIGHBOUR = 3  # the k of the paper


def precision_recall(
    real: ArrayLike, generated: ArrayLike, k: int = _NEIGHBOUR
) -> tuple[float, float]:
    """Improved precision and recall: shares of points inside the other set's neighbourhood balls.

    Around each point of a set lies a ball that reaches to its k-th nearest neighbour in the same
    set. Precision is the share of generated points inside at least one real ball, recall the share
    of real points inside at least one generated ball. Both depend on N and M: compare equal sizes.

    Args:
        real: features `(N, D)` of real images, N > k.
        generated: features `(M, D)` of generated images, M > k.
        k: number of the neighbour, the point itself not counted.

    Returns:
        `(precision, recall)`, floats in 0..1.

    Raises:
        ValueError: on `k < 1`, on `k` or fewer rows, NaN or different D.

    Reference:
        - Kynkäänniemi et al.: Improved precision and recall metric for assessing generative models
          (2019), equations 1 and 2.
    """
    k = count(k, "k")
    real, generated = check_pair(real, generated, min_rows=k + 1)
    return _shares(real, generated, _radii(real, k), _radii(generated, k))


def _shares(real, generated, real_radii, generated_radii):
    """Precision and recall from squared radii of both sets."""
    real_inside = np.zeros(len(real), bool)
    generated_inside = np.zeros(len(generated), bool)
    for i, j, squared in distances(real, generated):
        generated_inside[j] |= (squared <= real_radii[i, None]).any(axis=0)
        real_inside[i] |= (squared <= generated_radii[None, j]).any(axis=1)
    return float(generated_inside.mean()), float(real_inside.mean())


def _radii(features, k):
    """Squared distance of each row to its k-th nearest other row, (N,)."""
    radii, size = np.empty(len(features)), block_of(features)
    for start in range(0, len(features), size):
        rows = slice(start, start + size)
        nearest = None  # the k smallest distances so far
        for _, j, squared in distances(features[rows], features):
            own = np.arange(max(start, j.start), min(start + size, j.stop))
            squared[own - start, own - j.start] = np.inf
            if nearest is not None:
                squared = np.concatenate([nearest, squared], axis=1)
            kept = min(k, squared.shape[1])
            nearest = np.partition(squared, kept - 1, axis=1)[:, :kept]
        radii[rows] = nearest.max(axis=1)
    return radii


def distances(x, y):
    """Yields (rows of x, rows of y, squared distances) block by block."""
    size = block_of(x)
    for i in range(0, len(x), size):
        a = np.asarray(x[i : i + size], np.float64)
        a_squared = (a * a).sum(axis=1)
        for j in range(0, len(y), size):
            b = np.asarray(y[j : j + size], np.float64)
            squared = a_squared[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
            yield (
                slice(i, i + len(a)),
                slice(j, j + len(b)),
                np.maximum(squared, 0, out=squared),
            )


_radii_of_real = Remembered(lambda real: _radii(real, _NEIGHBOUR))


def _measure(sets):
    """`precision_recall` of feature sets, the radii of the real images found once."""
    real, generated = check_pair(sets.real, sets.generated, min_rows=_NEIGHBOUR + 1)
    return _shares(real, generated, _radii_of_real(real), _radii(generated, _NEIGHBOUR))


_SHARE = {"lower_is_better": False, "digits": 3, "at_least": 0, "at_most": 1}
METRIC = Metric(
    _measure,
    {"precision": Number("precision", **_SHARE), "recall": Number("recall", **_SHARE)},
    "shares of points within the k-th neighbour radius of the other set, k = 3",
    "Precision: how many generated images look real. Recall: how many real images the generator "
    "could have made.",
    min_images=4,
)
