"""The verdict of an evaluation: is an average better than the raw weights?

It is made here alone; the terminal, the report, the comparison of runs and the study repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import names
from .record import Difference

if TYPE_CHECKING:  # names in annotations alone
    from ..quality.record import Evaluation, Evaluations

BETTER, WORSE, CHANCE, UNDECIDED = "better", "worse", "within chance", "undecided"


def outcome(low: float | None, high: float | None) -> str:
    """What an interval of "average minus raw" says of a number of which less is better.

    Args:
        low, high: ends of the interval, or None where there is none.

    Returns:
        "better" where it lies below zero, "worse" where above, "within chance" where it holds zero,
        and "undecided" where there is no interval.
    """
    if low is None or high is None:
        return UNDECIDED
    if high < 0:
        return BETTER
    return WORSE if low > 0 else CHANCE


@dataclass(frozen=True)
class Verdict:
    """The best average against the raw weights.

    Attributes:
        outcome: "better", "worse", "within chance" or "undecided", as of `outcome`.
        average: the average with the lowest distance, or None where none was measured.
        value, raw: its distance and that of the raw weights, or None.
        difference: the first minus the second with its 95% interval, or None.
    """

    outcome: str
    average: str | None = None
    value: float | None = None
    raw: float | None = None
    difference: Difference | None = None

    @property
    def weights(self) -> str | None:
        """The weight set to use: the one with the lower distance; None where nothing is known."""
        if self.raw is None or self.value is None:
            return self.average if self.raw is None else names.RAW
        lower = self.average if self.value < self.raw else names.RAW
        return {BETTER: self.average, WORSE: names.RAW}.get(self.outcome, lower)

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        if self.average is None:
            return "No average was measured beside the raw weights." if self.raw is not None else ""
        if self.raw is None:
            return f"{self.average} is at {self.value:.2f}; raw was not measured beside it."
        said = f"{self.average} is at {self.value:.2f}, raw at {self.raw:.2f}: {self._meaning}."
        if self.difference is None:
            return said
        found = self.difference
        return (
            f"{said} Difference {found.estimate:.2f} "
            f"(95% interval {found.low:.2f} to {found.high:.2f})."
        )

    @property
    def _meaning(self):
        if self.outcome == BETTER:
            times = f"{self.raw / self.value:.1f} times " if self.value > 0 else ""
            return f"{times}closer to the real images"
        return {
            WORSE: "no average is better than raw; train longer, or take a shorter average",
            CHANCE: "a difference within chance",
            UNDECIDED: "no interval tells whether that is more than chance; evaluate both at once",
        }[self.outcome]


def verdict(values: Mapping[str, float], differences: Mapping[str, Difference]) -> Verdict:
    """The verdict on distances to the real images.

    Args:
        values: dict weight set -> distance.
        differences: dict average -> `Difference` of its distance to that of raw, where known.

    Returns:
        A `Verdict` on the average with the lowest distance.
    """
    averages = [name for name in values if name != names.RAW]
    raw = values.get(names.RAW)
    if not averages:
        return Verdict(UNDECIDED, raw=raw)
    best = min(averages, key=values.get)
    found = differences.get(best) if raw is not None else None
    told = outcome(found.low, found.high) if found else UNDECIDED
    return Verdict(told, best, values[best], raw, found)


def of_evaluation(evaluation: Evaluation) -> Verdict:
    """The verdict of an `Evaluation`."""
    values = {name: each.frechet for name, each in evaluation.weights.items()}
    return verdict(values, evaluation.differences)


def of_run(evaluations: Evaluations) -> tuple[Verdict, Evaluation]:
    """The verdict of a run's `Evaluations`, and the `Evaluation` that it is of.

    That is the newest of the last step that was measured; or, where it compares no average with
    raw, the newest that does.
    """
    newest_first = (evaluations.current, *evaluations.apart)
    last_step_first = sorted(newest_first, key=lambda each: -(each.step or 0))
    candidates = [(of_evaluation(each), each) for each in last_step_first]
    told = (pair for pair in candidates if pair[0].outcome != UNDECIDED)
    both = (pair for pair in candidates if None not in (pair[0].average, pair[0].raw))
    return next(told, None) or next(both, candidates[0])
