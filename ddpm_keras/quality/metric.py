"""What a metric is: what measures it, the numbers it gives, and how each of them is shown."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import FeatureStatistics


@dataclass(frozen=True)
class Number:
    """One number of a metric.

    Attributes:
        title: what it is called in sentences.
        heading: of its column; None is the title.
        lower_is_better: None for what is neither, such as a standard deviation.
        digits: behind the point, in the table that the commands print.
        scale: what it is multiplied by there.
        spread: the number of the same metric that is its standard deviation, shown behind "±".
        at_least, at_most: its range.
    """

    title: str
    heading: str | None = None
    lower_is_better: bool | None = True
    digits: int = 2
    scale: int = 1
    spread: str | None = None
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def column(self) -> str:
        """The heading of its column."""
        return self.title if self.heading is None else self.heading

    def text(self, value: float | None, spread: float | None = None) -> str:
        """A value as the printed table shows it, with its spread; nothing for None."""
        if value is None:
            return ""
        text = f"{self.scale * value:.{self.digits}f}"
        return text if spread is None else f"{text} ± {self.scale * spread:.{self.digits}f}"


@dataclass(frozen=True)
class FeatureSets:
    """What metrics compare: features `(N, D)`, one row an image.

    Attributes:
        real: of real images; or their `FeatureStatistics`.
        generated: of generated images.
        held_out: as `real`, of images that were not trained on, or None.
        num_subsets, seed: for a metric that draws subsets.
        pixels: distances of the pixels of generated and of held-out images to the nearest training
            image, float64 (N,) and (M,); or None.
    """

    real: Any
    generated: Any
    held_out: Any = None
    num_subsets: int = 100
    seed: int = 0
    pixels: Any = None


@dataclass(frozen=True)
class Metric:
    """An entry of `choices.METRICS`.

    Attributes:
        measure: function of `FeatureSets` that gives the `numbers`, in their order.
        numbers: dict name -> `Number`. The name is the key in evaluation.json.
        formula, meaning: what the report says of it.
        min_images: real and generated images that it needs.
        takes_statistics: whether `FeatureStatistics` of the real images are enough.

    Example:

    ```python
    choices.METRICS["means"] = quality.Metric(
        lambda sets: [abs(sets.real.mean(0) - sets.generated.mean(0)).sum()],
        {"means": quality.Number("distance of means", at_least=0)},
        "Σ |μ₁ - μ₂|",
        "How far the means of the features are apart.",
    )
    ```
    """

    measure: Callable[[FeatureSets], Sequence[float | None]]
    numbers: Mapping[str, Number]
    formula: str = ""
    meaning: str = ""
    min_images: int = 2
    takes_statistics: bool = False

    @property
    def shown(self) -> dict[str, Number]:
        """The numbers that have a column of their own: all but standard deviations."""
        return {key: each for key, each in self.numbers.items() if each.lower_is_better is not None}

    def of(self, sets: FeatureSets) -> dict[str, float | None]:
        """Dict number -> value, plain floats; None for all where the sets do not suffice."""
        if not self._suffice(sets):
            return dict.fromkeys(self.numbers)
        values = [None if each is None else float(each) for each in self.measure(sets)]
        return dict(zip(self.numbers, values, strict=True))

    def _suffice(self, sets):
        if isinstance(sets.real, FeatureStatistics):
            return self.takes_statistics
        return min(len(sets.real), len(sets.generated)) >= self.min_images
