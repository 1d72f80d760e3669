"""What trainings say together: effects with intervals, corrections, components of variance.

One number a training goes in, never one an image: what is told holds for further trainings. Ratios
are handled as logarithms and shares as log-odds, so that no interval leaves what can be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats


@dataclass(frozen=True)
class Effect:
    """What trainings say of one quantity.

    Attributes:
        estimate: its value.
        low, high: ends of the confidence interval; None where there is no spread to make it from:
            of a single training, or of several with the same effect, as correlations of few ranks
            may have.
        p: of the two-sided test that there is no effect (a ratio of 1, a difference of 0); None
            where nothing is tested, or without an interval.
        count: trainings.
    """

    estimate: float
    low: float | None
    high: float | None
    p: float | None
    count: int


def difference(first: Sequence, second: Sequence, confidence: float = 0.95) -> Effect:
    """The mean of `first - second`, paired by training, with Student's interval and test.

    Args:
        first, second: one number a training, in the same order.
        confidence: of the interval, in (0, 1).
    """
    one, other = _paired(first, second)
    return _student(one - other, confidence)


def ratio(first: Sequence, second: Sequence, confidence: float = 0.95) -> Effect:
    """The geometric mean of `first / second`, paired by training; tested against 1.

    Args:
        first, second: one positive number a training, in the same order.
        confidence: of the interval, in (0, 1).
    """
    logs = [_logs(values) for values in _paired(first, second)]
    return _mapped(_student(logs[0] - logs[1], confidence), math.exp)


def level(values: Sequence, confidence: float = 0.95) -> Effect:
    """The geometric mean of positive numbers, one a training; its interval stays positive."""
    return _untested(_mapped(_student(_logs(values), confidence), math.exp))


def share(values: Sequence, num_images: int, confidence: float = 0.95) -> Effect:
    """The middle of shares, one a training, by their log-odds; its interval stays in 0..1.

    Args:
        values: shares in 0..1, such as precision.
        num_images: what each is a share of; 0 and 1 count as half an image more and less.
        confidence: of the interval, in (0, 1).
    """
    shares = np.asarray(values, np.float64)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"Shares lie between 0 and 1; got {shares.min():g} to {shares.max():g}.")
    odds = special.logit((shares * num_images + 0.5) / (num_images + 1))
    return _untested(_mapped(_student(odds, confidence), special.expit))


def correlation(values: Sequence, num_items: int, confidence: float = 0.95) -> Effect:
    """The middle of correlations, one a training, by Fisher's z; tested against 0.

    Args:
        values: correlations in -1..1.
        num_items: what each is a correlation of; its values are drawn in by 1 / num_items, so that
            -1 and 1 have a z. The interval stays within -1..1.
        confidence: of the interval, in (0, 1).
    """
    found = np.asarray(values, np.float64)
    if not (np.abs(found) <= 1).all():
        raise ValueError(f"Correlations lie between -1 and 1; got {np.abs(found).max():g}.")
    z = np.arctanh(found * num_items / (num_items + 1))
    return _mapped(_student(z, confidence), math.tanh)


def holm(p_values: Sequence) -> list:
    """p-values corrected for their number, in their order: the family errs at most so often.

    Args:
        p_values: of the tests of one family; None stands for one that was not made.

    Reference:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected, largest = [None] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected


def sign_test(first: Sequence, second: Sequence) -> tuple[int, int, float | None]:
    """How often `first` is below `second`, how often above, and p of the exact test; ties drop out.

    Args:
        first, second: one number a training, in the same order; infinity for "never".
    """
    one, other = _paired(first, second)
    below, above = int((one < other).sum()), int((one > other).sum())
    made = below + above
    return below, above, float(stats.binomtest(below, made).pvalue) if made else None


@dataclass(frozen=True)
class Components:
    """Where the variance of a number comes from; a negative estimate is set to 0.

    Attributes:
        training: between trainings (seeds).
        drawing: between drawings of the same weights.
        classifier: between classifiers, the same for all trainings.
        training_by_classifier: how classifiers differ about trainings.
        rest: what is left, drawings by classifiers.
    """

    training: float
    drawing: float
    classifier: float
    training_by_classifier: float
    rest: float


def variance_components(values: np.ndarray) -> Components:
    """Components of variance, by the mean squares of a balanced design.

    Args:
        values: float `(A, D, C)`: A trainings, D drawings in each, C classifiers that measure all;
            at least 2 of each.

    Reference:
        Searle, Casella, McCulloch 1992, "Variance Components", chapter 4.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or min(values.shape) < 2:
        raise ValueError(f"At least 2 of each are needed; got the shape {values.shape}.")
    a, d, c = values.shape
    mean = values.mean()
    by_a, by_c = values.mean(axis=(1, 2)), values.mean(axis=(0, 1))
    by_ad, by_ac = values.mean(axis=2), values.mean(axis=1)
    ms_a = d * c * ((by_a - mean) ** 2).sum() / (a - 1)
    ms_d = c * ((by_ad - by_a[:, None]) ** 2).sum() / (a * (d - 1))
    ms_c = a * d * ((by_c - mean) ** 2).sum() / (c - 1)
    ms_ac = d * ((by_ac - by_a[:, None] - by_c + mean) ** 2).sum() / ((a - 1) * (c - 1))
    rest = values - by_ad[:, :, None] - by_ac[:, None, :] + by_a[:, None, None]
    ms_e = (rest**2).sum() / (a * (d - 1) * (c - 1))
    found = (
        (ms_a - ms_d - ms_ac + ms_e) / (d * c),
        (ms_d - ms_e) / c,
        (ms_c - ms_ac) / (a * d),
        (ms_ac - ms_e) / d,
        ms_e,
    )
    return Components(*(max(float(each), 0.0) for each in found))


def chosen_elsewhere(choice: dict, judged: dict) -> tuple[str, float]:
    """The best by one set of numbers, and what it is by another, which did not choose it.

    Args:
        choice: dict name -> number, less is better.
        judged: dict name -> number, of the same names.

    Returns:
        `(name, its number in judged)`.
    """
    best = min(choice, key=choice.get)
    return best, judged[best]


def _paired(first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"Paired values must come from the same trainings; got {first.shape} and "
            f"{second.shape}."
        )
    return first, second


def _logs(values):
    values = np.asarray(values, np.float64)
    if not (values > 0).all():
        raise ValueError(f"Ratios need positive numbers; got {values.min():g}.")
    return np.log(values)


def _student(values, confidence):
    """Mean, t-interval and test of independent values."""
    count, mean = len(values), float(np.mean(values))
    if count > 1 and not np.any(values):  # two names of one thing
        return Effect(0.0, 0.0, 0.0, 1.0, count)
    if np.ptp(values) == 0:
        return Effect(mean, None, None, None, count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Effect(mean, mean - half, mean + half, p, count)


def _mapped(effect, function):
    """An effect on the scale that `function` brings it back to."""
    low, high = (None if end is None else float(function(end)) for end in (effect.low, effect.high))
    return Effect(float(function(effect.estimate)), low, high, effect.p, effect.count)


def _untested(effect):
    return Effect(effect.estimate, effect.low, effect.high, None, effect.count)
