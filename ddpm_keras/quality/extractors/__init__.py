"""Networks that turn images into features, a file each; each loads TensorFlow when first used."""

from pathlib import Path

from ...choices import EXTRACTORS


def get_extractor(extractor):
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
    if extractor == "classifier":
        raise ValueError(
            "A classifier learns from the real images: give "
            "quality.ClassifierFeatures.train(images, labels)."
        )
    if extractor not in EXTRACTORS and Path(extractor).is_file():
        from .fid_inception import FIDInceptionFeatures

        return FIDInceptionFeatures(extractor)
    return EXTRACTORS.find(extractor)()


def _check_is_extractor(extractor):
    if not (callable(extractor) and hasattr(extractor, "fingerprint")):
        raise ValueError(
            "extractor must be a quality.FeatureExtractor or a name, one of "
            f"{', '.join(EXTRACTORS)}; got {extractor!r:.80}."
        )
