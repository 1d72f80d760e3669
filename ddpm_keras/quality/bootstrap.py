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

    Row i of both sets comes from the same noise, so the same rows are drawn from both, and what
    they share cancels. The interval lies below zero when `first` is better beyond chance. It is
    the basic (reflected) interval: resampling adds to each distance about the bias that N images
    have in the first place, and reflecting takes it off again. The reference is taken as given.

    Args:
        real: features `(M, D)` of real images, or their `FeatureStatistics`.
        first: features `(N, D)` of one weight set.
        second: features `(N, D)` of another, from the same noise in the same order.
        num_resamples: number of resamples; each costs two distances.
        confidence: coverage aimed at, between 0 and 1.
        seed: of the resamples.

    Returns:
        A `Difference(estimate, low, high)`.

    Raises:
        ValueError: if the two sets differ in shape, and as `frechet_distance`.

    Reference:
        - Efron, Tibshirani: An introduction to the bootstrap (1993), chapters 10 and 13.
        - Davison, Hinkley: Bootstrap methods and their application (1997), section 5.2.1.
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
    first, second = (np.asarray(rows, np.float64) for rows in (first, second))

    def difference(rows):
        one, other = (FeatureStatistics.of(features[rows]) for features in (first, second))
        return reference.distance(one) - reference.distance(other)

    random = np.random.RandomState(seed)
    estimate = difference(slice(None))
    resampled = [
        difference(random.randint(len(first), size=len(first))) for _ in range(num_resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Difference(float(estimate), float(2 * estimate - high), float(2 * estimate - low))
