"""Is one weight set better than another? An interval for the difference on the same noise."""

import typing

import numpy as np

from .frechet import GaussianReference
from .matrices import check_pair, check_same_width
from .statistics import FeatureStatistics


class Difference(typing.NamedTuple):
    """Estimate of a difference with its confidence interval."""

    estimate: float
    low: float
    high: float


def paired_difference(real, first, second, num_resamples=1000, confidence=0.95, seed=0):
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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95; got {confidence}.")
    first, second = check_pair(first, second)
    if len(first) != len(second):
        raise ValueError(
            f"The two sets must come from the same noise, row by row; got {len(first)} and "
            f"{len(second)} rows."
        )
    if not isinstance(real, FeatureStatistics):
        real = FeatureStatistics.of(real)
    check_same_width(real.dim, first.shape[1])
    reference = GaussianReference(real)
    one, other = (reference.distance(FeatureStatistics.of(rows)) for rows in (first, second))
    estimate = one - other
    influence = reference.influence(first) - reference.influence(second)
    random = np.random.RandomState(seed)
    resampled = [
        influence[random.randint(len(influence), size=len(influence))].mean()
        for _ in range(num_resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Difference(float(estimate), float(estimate - high), float(estimate - low))
