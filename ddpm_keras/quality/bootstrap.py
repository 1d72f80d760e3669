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
    weight, so that all takes the time of about ten distances, not of two for each resample. The
    interval is about the difference without the bias of a finite N, which the halves of both sets
    tell (it is twice as large there), so the estimate need not be at its centre. It is rough where
    N is below D. The reference is taken as given.

    Args:
        real: features `(M, D)` of real images, or their `FeatureStatistics`.
        first: features `(N, D)` of one weight set, N >= 4.
        second: features `(N, D)` of another, from the same noise in the same order.
        num_resamples: number of resamples.
        confidence: coverage aimed at, between 0 and 1.
        seed: of the resamples and the halves.

    Returns:
        A `Difference(estimate, low, high)`.

    Raises:
        ValueError: if the two sets differ in shape, on fewer than 4 rows, NaN or another D.

    Reference:
        - Efron, Tibshirani: An introduction to the bootstrap (1993), chapters 13 and 22 (the
          linear approximation of a bootstrap by influence).
        - Chong, Forsyth: Effectively unbiased FID and Inception Score and where to find them
          (2020): the bias is proportional to 1/N.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95; got {confidence}.")
    first, second = check_pair(first, second, min_rows=4)
    if len(first) != len(second):
        raise ValueError(
            f"The two sets must come from the same noise, row by row; got {len(first)} and "
            f"{len(second)} rows."
        )
    if not isinstance(real, FeatureStatistics):
        real = FeatureStatistics.of(real)
    check_same_width(real.dim, first.shape[1])
    reference = GaussianReference(real)

    def difference(rows):
        one, other = (FeatureStatistics.of(features[rows]) for features in (first, second))
        return reference.distance(one) - reference.distance(other)

    random = np.random.RandomState(seed)
    order = random.permutation(len(first))
    estimate = difference(slice(None))
    in_halves = np.mean([difference(order[half::2]) for half in (0, 1)])
    unbiased = 2 * estimate - in_halves
    influence = reference.influence(first) - reference.influence(second)
    resampled = [
        influence[random.randint(len(influence), size=len(influence))].mean()
        for _ in range(num_resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Difference(float(estimate), float(unbiased - high), float(unbiased - low))
