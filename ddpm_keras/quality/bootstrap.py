"""Is one weight set better than another? An interval for the difference on the same noise."""

import numpy as np
from numpy.typing import ArrayLike

from ..scalars import count, number, whole
from .frechet import GaussianReference
from .matrices import check_features, check_pair, check_same_width
from .record import Difference
from .statistics import FeatureStatistics


def paired_difference(
    real: ArrayLike | FeatureStatistics,
    first: np.ndarray,
    second: np.ndarray,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Fréchet distance of `first` minus that of `second`, with a paired bootstrap interval.

    Row i of both sets comes from the same noise, so rows are drawn in pairs, and what they share
    cancels. The interval lies below zero when `first` is better beyond chance.

    What is resampled is the influence of each row on the distance, its derivative by the row's
    weight, so that all takes the time of a few distances, not of two for each resample. The
    interval is for the difference at this N, as drawn again from other noise: both distances carry
    the bias of N images, and the reference is taken as given.

    Args:
        real: features `(M, D)` of real images, or their `FeatureStatistics`.
        first: features `(N, D)` of one weight set, N >= 2.
        second: features `(N, D)` of another, from the same noise in the same order.
        num_resamples: number of resamples.
        confidence: coverage aimed at, between 0 and 1.
        seed: of the resamples.

    Returns:
        A `Difference(estimate, low, high)`.

    Raises:
        ValueError: if the two sets differ in shape, on fewer than 2 rows, NaN or another D.

    Reference:
        - Efron, Tibshirani: An introduction to the bootstrap (1993), chapters 13 and 22 (the
          linear approximation of a bootstrap by influence).
    """
    num_resamples, seed = count(num_resamples, "num_resamples"), whole(seed, "seed", 0)
    if not 0 < number(confidence, "confidence") < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95; got {confidence}.")
    first, second = check_pair(first, second, names=("first", "second"))
    if len(first) != len(second):
        raise ValueError(
            f"The two sets must come from the same noise, row by row; got {len(first)} and "
            f"{len(second)} rows."
        )
    if not isinstance(real, FeatureStatistics):
        real = FeatureStatistics.of(real)
    check_same_width(real.dim, first.shape[1], ("real", "first"))
    reference = GaussianReference(real)
    one, other = (reference.distance(FeatureStatistics.of(rows)) for rows in (first, second))
    influence = reference.influence(first) - reference.influence(second)
    return resampled(one - other, influence, num_resamples, confidence, seed)


def influence(real, generated):
    """How much each row of generated features moves their Fréchet distance.

    With it, and the distances, weight sets measured at different times can be compared: the
    difference of two influences is what `resampled` takes.

    Args:
        real: features `(M, D)` of real images, or their `FeatureStatistics`.
        generated: features `(N, D)`.

    Returns:
        float64 `(N,)`: the derivative of the distance by the row's weight, centred.
    """
    if not isinstance(real, FeatureStatistics):
        real = FeatureStatistics.of(real)
    return GaussianReference(real).influence(check_features(generated, "generated"))


def resampled(estimate, influence, num_resamples=1000, confidence=0.95, seed=0):
    """A `Difference` with the interval that resampling of rows gives.

    Args:
        estimate: the difference itself.
        influence: of each row on it, `(N,)`.
        num_resamples, confidence, seed: as in `paired_difference`.
    """
    random = np.random.RandomState(seed)
    means = [
        influence[random.randint(len(influence), size=len(influence))].mean()
        for _ in range(num_resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(estimate), float(estimate - high), float(estimate - low))
