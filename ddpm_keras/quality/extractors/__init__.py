"""Networks that turn images into features, a file each; each loads TensorFlow when first used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...choices import EXTRACTORS

if TYPE_CHECKING:  # names in annotations alone
    from ...quality.extractors.base import FeatureExtractor


def get_extractor(extractor: Any) -> FeatureExtractor:
    """An extractor by its name or file, or the given one unchanged.

    Args:
        extractor: a name in `choices.EXTRACTORS` that needs no images to learn from ("inception",
            "inception75"), the file of the FID network's weights, or an extractor.

    Raises:
        ValueError: an unknown name, or weights that are not there or do not fit.
    """
    if not isinstance(extractor, (str, Path)):
        _check_is_extractor(extractor)
        return extractor
    if extractor not in EXTRACTORS and Path(extractor).is_file():
        from .fid_inception import FIDInceptionFeatures

        return FIDInceptionFeatures(extractor)
    learner = learns(extractor)
    if learner is not None:
        raise ValueError(
            f"{extractor!r} is made of the real images: give "
            f"quality.{learner.__name__}.train(images)."
        )
    return EXTRACTORS.find(extractor)()


def learns(name: str) -> Any:
    """The class of an extractor that is made of the real images, by its `train`; None for others.

    Args:
        name: a name in `choices.EXTRACTORS`.

    Raises:
        ValueError: an unknown name.
    """
    found = EXTRACTORS.find(name)
    return found if hasattr(found, "train") else None


def _check_is_extractor(extractor):
    if not (callable(extractor) and hasattr(extractor, "fingerprint")):
        raise ValueError(
            "extractor must be a quality.FeatureExtractor or a name, one of "
            f"{', '.join(EXTRACTORS)}; got {extractor!r:.80}."
        )
