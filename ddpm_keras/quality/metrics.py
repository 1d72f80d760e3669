"""From features to numbers: every metric of `choices.METRICS` at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from .. import choices
from ..aliases import PathLike, Progress
from .extractors import get_extractor
from .features import extract_features
from .matrices import check_features
from .metric import FeatureSets

if TYPE_CHECKING:  # names in annotations alone
    from ..quality.extractors.base import FeatureExtractor
    from ..quality.metric import Metric, Number
    from ..quality.statistics import FeatureStatistics


def every_metric() -> dict[str, Metric]:
    """Dict name -> `Metric`, of all that `choices.METRICS` names.

    Raises:
        ValueError: two of them give a number of the same name.
    """
    found = {name: choices.METRICS.find(name) for name in choices.METRICS}
    seen = {}
    for name, metric in found.items():
        for key in metric.numbers:
            if key in seen:
                raise ValueError(
                    f"Both {seen[key]!r} and {name!r} of choices.METRICS give {key!r}: give the "
                    "number of one another name."
                )
            seen[key] = name
    return found


def every_number() -> dict[str, Number]:
    """Dict name -> `Number`, of all metrics."""
    return {key: number for each in every_metric().values() for key, number in each.numbers.items()}


def shown_numbers() -> dict[str, Number]:
    """Dict name -> `Number`, of those that have a column of their own."""
    return {key: number for each in every_metric().values() for key, number in each.shown.items()}


def evaluate_images(
    extractor: FeatureExtractor | PathLike,
    images: Any,
    real: ArrayLike | FeatureStatistics,
    held_out: Any = None,
    num_images: int | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Every metric of generated images, as `evaluate_features`, with the name of the extractor.

    Args:
        extractor: a `FeatureExtractor`, or a name or file as for `get_extractor`.
        images: as in `extract_features`, as are `num_images` and `progress`.
        real: features `(N, dim)` of the training images, or `FeatureStatistics`.
        held_out: features of held-out images, or None.
        seed: of the kernel distance's subsets.

    Returns:
        A dict as of `evaluate_features`, with `"extractor"` and `"metric"` (their names) besides.

    Example:

    ```python
    real, held_out = extractor(digits.train), extractor(digits.held_out)
    quality.evaluate_images(extractor, model.sample(1000), real, held_out)["frechet"]
    ```
    """
    extractor = get_extractor(extractor)
    features = extract_features(extractor, images, num_images, progress=progress)
    result = evaluate_features(real, features, held_out, seed=seed)
    return {**result, "extractor": extractor.name, "metric": extractor.metric}


def evaluate_features(
    real: ArrayLike | FeatureStatistics,
    generated: ArrayLike,
    held_out: Any = None,
    num_subsets: int = 100,
    seed: int = 0,
    pixels: Any = None,
) -> dict[str, Any]:
    """Fréchet distance, kernel distance, precision and recall, and what `choices.METRICS` adds.

    Args:
        real: features `(N, D)` of real images; or their `FeatureStatistics`, with which only the
            Fréchet distance can be had.
        generated: features `(M, D)`, M >= 2.
        held_out: features (or statistics) of real images that were not trained on, or None.
        num_subsets: subsets of the kernel distance, each of 1,000 images of either set or, for
            small sets, of half the smaller one, so that subsets differ.
        seed: of the subsets.
        pixels: None, or a pair of what `nearest` says of the pixels of generated and of held-out
            images: their distances to the nearest training image, which `copying_pixels` is of.

    Returns:
        A dict of plain numbers: `"frechet"` (Fréchet distance to `real`), `"frechet_held_out"`,
        `"kid"`, `"kid_std"`, `"precision"`, `"recall"`, those of other metrics, and `"num_images"`
        (M). None stands for what cannot be computed.

    Raises:
        ValueError: on NaN, on another number of features, on fewer than 2 images.
    """
    generated = check_features(generated, "generated")
    sets = FeatureSets(real, generated, held_out, num_subsets, seed, pixels)
    result = {}
    for metric in every_metric().values():
        result |= metric.of(sets)
    return result | {"num_images": len(generated)}
