"""How steady a training is and how fast it gets somewhere: every measure and its formula, once.

All functions take plain sequences, so that they serve any curve. Lower values are better throughout
(losses, distances).
"""

from dataclasses import asdict, dataclass

import numpy as np

# Headings of the numbers in tables, in reading order.
COLUMNS = {
    "final": "final",
    "best": "best",
    "best_step": "at step",
    "variation": "variation",
    "relative_variation": "relative variation",
    "jitter": "jitter",
    "steps_to_10_percent": "steps to 10% of best",
    "steps_to_2_percent": "steps to 2% of best",
    "steps_to_best_raw": "steps to raw's best",
    "share_above_raw": "share worse than raw",
}

# What the report shows when a reader asks what a number is: name -> (formula, meaning).
DEFINITIONS = {
    "variance": (
        "s² = Σ (vᵢ - v̄)² / (w - 1) over each w consecutive rows; the median over all windows",
        "How noisy the training loss is around its own level.",
    ),
    "spikes": (
        "rows with v > m + 6 · 1.4826 · median |vᵢ - m|, m the median of the w rows before",
        "Sudden jumps of the training loss, judged against the rows just before them.",
    ),
    "variation": (
        "mean |vₖ₊₁ - vₖ| over the second half of the evaluations",
        "How far a number moves between two evaluations once training has settled: how much "
        "the result depends on when you happen to stop.",
    ),
    "relative_variation": (
        "variation / mean v over the same evaluations",
        "The same as a share of the level, so that curves of different height compare.",
    ),
    "jitter": (
        "√(mean (vₖ₋₁ - 2 vₖ + vₖ₊₁)² / 6) over the second half of the evaluations",
        "Noise of a number around its own straight course: what variation is without the slope "
        "of a training that still learns.",
    ),
    "final": ("the last value", "What the weights give at the end of training."),
    "best": ("min v", "The lowest value that any evaluation saw, and the step it came at."),
    "steps_to_10_percent": (
        "the first step with v ≤ best + 0.10 |best|, best that of the same curve",
        "Convergence speed: when the curve came within 10% of its own best.",
    ),
    "steps_to_2_percent": (
        "the first step with v ≤ best + 0.02 |best|, best that of the same curve",
        "Convergence speed: when the curve came within 2% of its own best.",
    ),
    "steps_to_best_raw": (
        "the first step with v ≤ min v(raw)",
        "When these weights were as good as the raw weights ever were.",
    ),
    "share_above_raw": (
        "share of the steps with v > v(raw), both curves joined by straight lines",
        "For how much of the training these weights were worse than the raw ones.",
    ),
}


@dataclass(frozen=True)
class CurveSummary:
    """What is said about one curve. Steps are optimizer steps; None: never, or not known.

    `DEFINITIONS` holds the formula of each field.
    """

    final: float
    best: float
    best_step: int
    variation: float | None
    relative_variation: float | None
    jitter: float | None
    steps_to_10_percent: int
    steps_to_2_percent: int
    steps_to_best_raw: int | None
    share_above_raw: float | None

    def as_dict(self):
        """The fields in order."""
        return asdict(self)


def summarize(steps, values, raw=None):
    """Summarizes the curve of one weight set.

    Args:
        steps: increasing optimizer steps `(n,)`, n >= 1.
        values: the measured values `(n,)`, lower is better.
        raw: values of the raw weights at the same steps, or None.

    Returns:
        A `CurveSummary`.
    """
    steps, values = _curve(steps, values)
    settled = values[len(values) // 2 :]
    moved = variation(values)
    level = float(np.mean(settled))
    return CurveSummary(
        final=float(values[-1]),
        best=float(values.min()),
        best_step=int(steps[values.argmin()]),
        variation=moved,
        relative_variation=None if moved is None or level <= 0 else moved / level,
        jitter=jitter(values),
        steps_to_10_percent=steps_to_within(steps, values, 0.10),
        steps_to_2_percent=steps_to_within(steps, values, 0.02),
        steps_to_best_raw=None if raw is None else steps_to_reach(steps, values, np.min(raw)),
        share_above_raw=None if raw is None else share_above(steps, values, raw),
    )


def windowed_variance(values, window):
    """Unbiased variance in each sliding window of `window` >= 2 rows: `(n - window + 1,)`.

    Without a whole window the result is empty.
    """
    values = np.asarray(values, np.float64)
    if len(values) < window:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    return windows.var(axis=1, ddof=1)


def spikes(values, window, threshold=6.0):
    """Indices of values that jump above what came just before them.

    A value is a spike if it lies more than `threshold` robust standard deviations (1.4826 times the
    median absolute deviation) above the median of the `window` values before it. Values that are
    not finite are spikes, too.
    """
    values = np.asarray(values, np.float64)
    found = [int(i) for i in np.flatnonzero(~np.isfinite(values)) if i < window]
    for i in range(window, len(values)):
        before = values[i - window : i]
        before = before[np.isfinite(before)]
        center = np.median(before) if len(before) else np.nan
        deviation = 1.4826 * np.median(np.abs(before - center)) if len(before) else np.nan
        if not np.isfinite(values[i]) or values[i] > center + threshold * deviation:
            found.append(i)
    return found


def variation(values):
    """Mean absolute change between consecutive values of the second half; None below two values."""
    settled = np.asarray(values, np.float64)[len(values) // 2 :]
    return float(np.abs(np.diff(settled)).mean()) if len(settled) > 1 else None


def jitter(values):
    """Noise around a straight course, in the second half; None below three values there.

    Independent noise of standard deviation s on a straight line gives second differences of
    variance 6 s² (von Neumann et al. 1941 do so with first differences), so that s is expected.
    """
    settled = np.asarray(values, np.float64)[len(values) // 2 :]
    return float(np.sqrt((np.diff(settled, 2) ** 2).mean() / 6)) if len(settled) > 2 else None


def pays_from(steps, values, raw):
    """The first step from which on a curve stays below `raw` to the end, or None."""
    steps, values = _curve(steps, values)
    behind = np.flatnonzero(values >= np.asarray(raw, np.float64))
    first = behind[-1] + 1 if len(behind) else 0
    return int(steps[first]) if first < len(steps) else None


def steps_to_reach(steps, values, target):
    """The first step at which the curve is at or below `target`, or None."""
    steps, values = _curve(steps, values)
    reached = np.flatnonzero(values <= target)
    return int(steps[reached[0]]) if len(reached) else None


def steps_to_within(steps, values, fraction):
    """The first step at which the curve is within `fraction` of its own best value."""
    best = np.min(values)
    return steps_to_reach(steps, values, best + fraction * abs(best))


def share_above(steps, values, reference):
    """Share of the steps, in 0..1, during which the curve lies above `reference`.

    Both curves are joined by straight lines, so a crossing between two evaluations is found. With a
    single step the share is 0 or 1.
    """
    steps, values = _curve(steps, values)
    difference = values - np.asarray(reference, np.float64)
    if len(steps) == 1:
        return float(difference[0] > 0)
    left, right = difference[:-1], difference[1:]
    span = np.abs(left) + np.abs(right)
    positive = np.maximum(left, 0) + np.maximum(right, 0)
    # On a line from a to b, the part above zero is max(a,0)+max(b,0) of |a|+|b| if they differ in
    # sign, all of it if both are positive; two zeros are not above.
    share = np.divide(positive, span, out=np.zeros_like(span), where=span > 0)
    return float(np.average(share, weights=np.diff(steps)))


def _curve(steps, values):
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if steps.shape != values.shape or steps.ndim != 1 or not len(steps):
        raise ValueError(
            f"A curve needs as many steps as values, at least one; got {steps.shape} steps and "
            f"{values.shape} values."
        )
    return steps, values
