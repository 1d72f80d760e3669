"""A search for the best width of an average, as a record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..checked import Checked, bounded
from . import metrics
from .metric import Number


@dataclass(frozen=True)
class Trial(Checked):
    """A relative width that was tried, the strength of guidance, and the number that was found."""

    sigma_rel: float = bounded(0)
    guidance: float = bounded(0)
    value: float


@dataclass(frozen=True)
class Tuning(Checked):
    """Widths tried on the images of one seed; the best of them judged on the images of another.

    Attributes:
        metric: the number of a `Measurement` that was to be best, such as "frechet".
        trials: every `Trial`, in the order they were made.
        seed: of the images that the width was chosen on.
        judged: the number of the best width on other images, which is the one to report.
        judged_seed: of these images.
        num_images: images drawn for each number.
        guide: the weight set that guided, or None.
        guidance_rescale, guidance_low, guidance_high: how it guided, as of a `Measurement`.
        step: optimizer steps that the weights had made.
        options: as of an `Evaluation`.
        way: how the best width was judged, in words, as `Evaluation.way`.
    """

    metric: str
    trials: tuple[Trial, ...]
    seed: int = bounded(0)
    judged: float
    judged_seed: int = bounded(0)
    num_images: int = bounded(1)
    guide: str | None = None
    step: int | None = bounded(0, default=None)
    guidance_rescale: float | None = bounded(0, 1, default=None)
    guidance_low: int | None = bounded(0, default=None)
    guidance_high: int | None = bounded(1, default=None)
    options: dict[str, str] = field(default_factory=dict)
    way: str = ""

    def __post_init__(self):
        super().__post_init__()
        if not self.trials:
            raise ValueError("trials holds no width")
        if self.metric not in metrics.every_number():
            raise ValueError(f"metric is {self.metric!r:.60}, which is unknown")
        if self.seed == self.judged_seed:
            raise ValueError(f"seed is {self.seed}, and judged_seed too")

    @property
    def number(self) -> Number:
        """The `Number` that the metric is."""
        return metrics.every_number()[self.metric]

    @property
    def best(self) -> Trial:
        """The best `Trial`."""
        return best_trial(self.metric, self.trials)

    @property
    def curves(self) -> dict[float, list[Trial]]:
        """Dict strength of guidance -> its trials, by their widths."""
        found = {}
        for trial in sorted(self.trials, key=lambda trial: (trial.guidance, trial.sigma_rel)):
            found.setdefault(trial.guidance, []).append(trial)
        return found

    @property
    def at_an_end(self) -> bool:
        """Whether no narrower, or no wider average was tried than the best one."""
        widths = [trial.sigma_rel for trial in self.curves[self.best.guidance]]
        return self.best.sigma_rel in (widths[0], widths[-1])


def best_trial(metric: str, trials: Sequence[Trial]) -> Trial:
    """The `Trial` with the best number of a metric."""
    lower = metrics.every_number()[metric].lower_is_better
    return (min if lower else max)(trials, key=lambda trial: trial.value)
