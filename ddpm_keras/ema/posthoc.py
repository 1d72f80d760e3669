"""Any moving average after the fact, from snapshots of two power-function averages.

During training `callbacks.PowerFunctionSnapshots` stores, every so often, averages whose weight of
step tau grows like tau^gamma. Every stored average is a known mixture of the weights of all steps,
so a sum of them can be fitted to nearly any other mixture: another width, or a classical
exponential average.

Profiles. The average of width gamma taken at step t gives step tau <= t the weight
(tau^(gamma+1) - (tau-1)^(gamma+1)) / t^(gamma+1), and all steps after tau together the share
1 - (tau/t)^(gamma+1). A sum of averages with coefficients x_i is off the target by

    error = integral over tau of R(tau) d theta(tau),   R = sum_i x_i share_i - share_target,

so if weights move like a random walk the expected squared error is proportional to the integral of
R^2. That is what is minimised here, in float64, and what is reported as the predicted error:
relative to the displacement of the weights, and to the distance of the target from the raw weights,
which hold every step in full. A short average is near to the raw weights, so that what is little
beside the whole way can be much beside what tells it from them. Karras et al. 2024 (EDM2, eq.
123-127 and appendix C) minimise the squared difference of the profiles themselves, as if weights at
different steps were independent, which for the same snapshots is two to five times less exact
outside the stored widths.
"""

import dataclasses
import itertools
import logging
import math

import numpy as np

from .. import names
from ..scalars import count
from .decays import as_decay
from .power_function import power_function_gamma
from .snapshots import Snapshot, averages, list_snapshots, read_arrays
from .weight_sets import WeightSet

logger = logging.getLogger("ddpm_keras")

# A synthesis is doubted above this error, relative to its distance from the raw weights.
MAX_RELATIVE_ERROR = 0.02
# Root mean square of the rounding to float16, relative to that of the values: the last place is
# 2^-10 of the leading bit, and m in [1, 2) times that bit has mean square 7/3.
HALF_ROUNDING = 2.0**-10 / (12 * 7 / 3) ** 0.5
# An average kept in float32 is rounded at every step: a few units of its last place, 2^-23.
SINGLE_ROUNDING = HALF_ROUNDING * 2.0**-11
# Profiles of longer runs are compared on this many points of the run.
MAX_POINTS = 2**13
_WIDTHS, _WIDTHS_TRIED = (0.01, 0.28), 50  # among which the widths are that snapshots can tell


# Profiles, as functions of steps ("edges"): the share of an average that stems from later steps.


def power_share(edges, step, gamma):
    """Share of weights later than each edge in the power-function average taken at `step`.

    Args:
        edges: Steps, float64 of shape (P,).
        step: When the average was taken.
        gamma: Its exponent, see `power_function_gamma`.

    Returns:
        float64 of shape (P,), falling from 1 at edge 0 to 0 at `step` and beyond.
    """
    return 1.0 - np.minimum(edges / step, 1.0) ** (gamma + 1.0)


def decay_share(edges, step, decay):
    """Share of weights later than each edge in the average with any decay, after `step` updates.

    Args:
        edges: Whole steps, float64 of shape (P,).
        step: When the average is taken.
        decay: A `Decay`.

    Returns:
        float64 of shape (P,), falling from 1 - (the share of the initial weights) to 0.
    """
    return decay.later_share(step)[np.minimum(edges, step).astype(np.int64)]


def fit(steps, gammas, target, edges, rounding=0.0):
    """Coefficients of stored averages whose sum comes closest to a target profile.

    Args:
        steps: When each average was taken, length S.
        gammas: The exponent of each, length S.
        target: The share function of the target on `edges`; `target[0]` is the total weight.
        edges: Whole steps from 0 to the step of the target, float64 of shape (P,).
        rounding: Of each stored average, relative to the displacement of the weights. Large
            coefficients of opposite sign would amplify it, so it is part of what is minimised.

    Returns:
        (coefficients, error): float64 of shape (S,), summing to `target[0]`, and the expected error
        relative to the displacement of weights that move like a random walk.
    """
    shares = np.stack([power_share(edges, t, g) for t, g in zip(steps, gammas, strict=True)], 1)
    width = _widths(edges)
    system = np.concatenate([shares * width[:, None], rounding * np.eye(len(steps))])
    wanted = np.concatenate([target * width, np.zeros(len(steps))])
    coefficients = np.linalg.lstsq(system, wanted, rcond=None)[0]
    if target[0] > 0:
        coefficients *= target[0] / coefficients.sum()
    return coefficients, float(np.linalg.norm(system @ coefficients - wanted))


def relative_error(error, target, edges):
    """A predicted error relative to the distance of the target from the raw weights.

    Both are of weights that move like a random walk. The raw weights hold every step in full, so
    the square of the distance is the integral of (1 - target)^2.

    Args:
        error: What `fit` gave, relative to the displacement of the weights.
        target: The share function of the target on `edges`.
        edges: Whole steps from 0 to the step of the target, float64 of shape (P,).

    Returns:
        A float; infinity for a target that is the raw weights themselves.
    """
    distance = np.linalg.norm((1.0 - target) * _widths(edges))
    return float(error / distance) if distance > 0 else math.inf


def _widths(edges):
    """Roots of the lengths of the intervals that begin at each edge, in shares of the run."""
    return np.sqrt(np.diff(edges, append=edges[-1]) / edges[-1])


# Synthesis.


@dataclasses.dataclass
class SynthesizedWeights(WeightSet):
    """A `WeightSet` made from snapshots.

    Attributes:
        step: The optimizer step it belongs to.
        predicted_error: Expected error relative to the distance of the weights from their start.
        relative_error: Expected error relative to the distance from the raw weights of that step;
            infinite if there should be none. It decides whether the average is doubted.
        warnings: One line for each doubt about it, empty if there is none.
    """

    step: int = 0
    predicted_error: float = 0.0
    relative_error: float = 0.0
    warnings: list = dataclasses.field(default_factory=list)


def synthesize(run_or_snapshots, *, sigma_rel=None, decay=None, step=None):
    """An average that was never tracked, from the snapshots of a run.

    Args:
        run_or_snapshots: A run directory, a directory of snapshots, or a list of `Snapshot`.
        sigma_rel: The relative width of a power-function average, above 0 and below 0.2887; or
        decay: a float such as 0.999, or any decay, as if it had been tracked from the first step.
        step: The optimizer step at which the average is taken; default: the last snapshot.

    Returns:
        `SynthesizedWeights`, float32, aligned with `network.weights`: pass it wherever a weight set
        is asked for. Its name tells the step unless that is the last snapshot's.

    Raises:
        ValueError: If there are no snapshots up to `step`, or not exactly one target is given.

    Example:

    ```python
    weights = posthoc.synthesize("runs/digits", sigma_rel=0.08)
    print(weights.predicted_error)
    images = model.sample(16, weights=weights)
    ```
    """
    initial, stored, last = _snapshots(run_or_snapshots, step)
    step = int(step or last)
    name, target, edges = _target(sigma_rel, decay, step)
    name = names.at_step(name, None if step == last else step)
    initial_share = 1.0 - float(target[0])
    if initial_share > 0 and initial is None:
        raise ValueError(
            f"{name} holds {initial_share:.1%} of the initial weights, and their snapshot (step 0) "
            "is missing: ask for a shorter decay or a sigma_rel."
        )
    columns = [(s, row) for s in stored for row in range(len(s.widths))]
    coefficients, error = fit(*_profiles(columns), target, edges, _rounding(stored, initial))
    values = _mix(columns, coefficients, initial, initial_share)
    result = SynthesizedWeights(name, values, step, error, relative_error(error, target, edges))
    result.warnings = _doubts(result, stored)
    for line in result.warnings:
        logger.warning(line)
    return result


def supported_widths(run_or_snapshots, step=None):
    """The widths of averages that snapshots can tell: those of which none is doubted.

    Args:
        run_or_snapshots, step: as of `synthesize`.

    Returns:
        (narrowest, widest) relative width, of which the stored ones are always part.

    Raises:
        ValueError: If there are no snapshots up to `step`.
    """
    initial, stored, last = _snapshots(run_or_snapshots, step)
    columns = [(s, row) for s in stored for row in range(len(s.widths))]
    rounding = _rounding(stored, initial)

    def is_told(width):
        _, target, edges = _target(width, None, int(step or last))
        error = fit(*_profiles(columns), target, edges, rounding)[1]
        return relative_error(error, target, edges) <= MAX_RELATIVE_ERROR

    widths = [s.widths[row] for s, row in columns]
    widths += filter(is_told, map(float, np.geomspace(*_WIDTHS, _WIDTHS_TRIED)))
    return min(widths), max(widths)


def _snapshots(run_or_snapshots, step):
    """(that of the initial weights or None, those up to a step, the step of the last of all)."""
    step = None if step is None else count(step, "step")
    snapshots = run_or_snapshots
    if not isinstance(snapshots, (list, tuple)):
        snapshots = list_snapshots(getattr(run_or_snapshots, "directory", run_or_snapshots))
    wrong = [each for each in snapshots if not isinstance(each, Snapshot)]
    if wrong:
        raise ValueError(
            f"A list is of what posthoc.list_snapshots gives, not of {wrong[0]!r:.60}: give the "
            "directory of the snapshots."
        )
    snapshots = sorted(snapshots, key=lambda each: each.step)
    for one, other in itertools.pairwise(snapshots):
        if one.step == other.step:
            raise ValueError(
                f"{one.path} and {other.path} are both of step {one.step}: give the snapshots of "
                "one training."
            )
    initial = next((s for s in snapshots if s.step == 0), None)
    stored = [s for s in snapshots if 0 < s.step <= (step or s.step)]
    if not stored:
        raise ValueError(
            f"There is no snapshot{f' up to step {step}' if step else ''} in {run_or_snapshots}: "
            "train with callbacks.PowerFunctionSnapshots."
        )
    return initial, stored, max(s.step for s in snapshots)


def _profiles(columns):
    """(step, exponent) of each stored average: two lists."""
    gammas = [power_function_gamma(s.widths[row]) for s, row in columns]
    return [s.step for s, _ in columns], gammas


def _target(sigma_rel, decay, step):
    """Name of the target, and its share function on edges that cover the run up to `step`."""
    if (sigma_rel is None) == (decay is None):
        raise ValueError("Give either sigma_rel (a power-function width) or decay (such as 0.999).")
    edges = np.unique(np.round(np.linspace(0, step, min(step, MAX_POINTS) + 1)))
    if sigma_rel is not None:
        share = power_share(edges, step, power_function_gamma(sigma_rel))
        return names.of_width(sigma_rel), share, edges
    decay = as_decay(decay)
    return names.of_decay(decay.name), decay_share(edges, step, decay), edges


def _mix(columns, coefficients, initial, initial_share):
    """Sum of coefficient * average, accumulated in float32, in the order of `network.weights`.

    Weights that are not averaged are taken from the last snapshot.
    """
    values, places = {}, averages(*columns[-1]).keys()
    for (snapshot, row), x in zip(columns, coefficients, strict=True):
        for i, value in averages(snapshot, row, places).items():
            values[i] = values.get(i, np.float32(0)) + np.float32(x) * value
    if initial_share > 0:
        start = averages(initial, 0, places)
        values = {i: v + np.float32(initial_share) * start[i] for i, v in values.items()}
    values |= read_arrays(columns[-1][0], "copy_")
    return [values[i] for i in sorted(values)]


def _rounding(stored, initial):
    """Rounding of a stored average, relative to the displacement of the weights."""
    last = averages(stored[-1], 0)
    start = dict.fromkeys(last, np.float32(0))
    if initial is not None:
        start = averages(initial, 0, last)
    displacement = _norm(last[i] - start[i] for i in last)
    half = any(snapshot.dtype == "float16" for snapshot in stored)
    relative = HALF_ROUNDING if half else SINGLE_ROUNDING
    return relative * _norm(last.values()) / max(displacement, 1e-30)


def _norm(arrays):
    return np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays))


def _doubts(result, stored):
    lines = []
    last = stored[-1].step
    if last < result.step:
        lines.append(
            f"{result.name}: the last snapshot is of step {last:,}, so the steps up to "
            f"{result.step:,} are missing; ask for that step instead."
        )
    if math.isinf(result.relative_error):
        lines.append(
            f"{result.name}: after {result.step:,} steps it is a copy of the raw weights, whose "
            "part of the run has not begun; ask for a later step."
        )
    elif result.relative_error > MAX_RELATIVE_ERROR:
        lines.append(
            f"{result.name}: predicted error {result.relative_error:.1%} of its distance from the "
            f"raw weights ({result.predicted_error:.1%} of the distance travelled), so it lies "
            "outside what these snapshots support: take them more often, in float32, or of widths "
            "nearer to it."
        )
    return lines
