"""Can a classifier tell generated images from real ones?"""

import numpy as np
from numpy.typing import ArrayLike

from ..scalars import whole
from .matrices import check_pair


def two_sample_accuracy(
    real: ArrayLike, generated: ArrayLike, folds: int = 5, seed: int = 0
) -> tuple[float, float]:
    """How often a linear classifier tells which of two sets of features a row is from.

    0.5 where it cannot, 1 where it always can. Both sets are thinned to the size of the smaller
    one, the classifier is ridge regression on the labels (with Fisher's discriminant as its
    direction), learnt on all folds but one and asked about that one. It sees what features show in
    a straight line, so an accuracy near 0.5 is no proof that sets are alike.

    Args:
        real: features `(N, D)` of real images.
        generated: features `(M, D)` of generated images.
        folds: parts that are asked about in turn, at least 2.
        seed: of the thinning and the parts.

    Returns:
        `(accuracy, standard_error)`, floats; the error is that of a share of 2 min(N, M) rows,
        which folds that share what they learnt from make a little larger in truth.

    Raises:
        ValueError: on NaN or different D, or fewer rows than folds.

    Reference:
        - Lopez-Paz, Oquab: Revisiting classifier two-sample tests (2017), section 3.
    """
    folds, seed = whole(folds, "folds", 2), whole(seed, "seed", 0)
    real, generated = check_pair(real, generated, min_rows=folds)
    size, random = min(len(real), len(generated)), np.random.RandomState(seed)
    rows = [np.asarray(x[random.permutation(len(x))[:size]], np.float64) for x in (real, generated)]
    parts = np.arange(size) % folds  # rows are in random order already
    correct = sum(_told(rows, parts != part, parts == part) for part in range(folds))
    accuracy = correct / (2 * size)
    return float(accuracy), float(np.sqrt(accuracy * (1 - accuracy) / (2 * size)))


def _told(rows, learnt, asked):
    """How many of the rows that are asked about a classifier of the others gets right."""
    x = np.concatenate([each[learnt] for each in rows])
    y = np.repeat([-1.0, 1.0], learnt.sum())
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    x = (x - mean) / spread
    ridge = x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1])
    direction = np.linalg.solve(ridge, x.T @ y)
    scores = [(each[asked] - mean) / spread @ direction for each in rows]
    return (scores[0] < 0).sum() + (scores[1] > 0).sum()
