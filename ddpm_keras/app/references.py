"""What generated images are measured with and against: the extractor, and the real images."""

import contextlib
from pathlib import Path

from tqdm import tqdm

from .. import checksums, choices, files, quality
from ..errors import UsageError
from ..quality import extractors
from ..version import __version__
from . import cache, progress


def choose_extractor(name, images):
    """The feature network for `--extractor`.

    "auto" is a classifier trained on the images themselves, which needs no download. What is made
    of the images is made once for a data set and kept in the cache, where it can be; a damaged file
    is made again.
    """
    name = "classifier" if name == "auto" else name
    learner = learner_of(name)
    if learner is None:
        return named_extractor(name)
    if not hasattr(learner, "load"):
        return _learnt(learner, images)
    path = cache.file(name, ".npz", dataset=images.name, fingerprint=images.fingerprint)
    with files.made_by_one(path):
        return _known_or_made(name, learner, images, path)


def _known_or_made(name, learner, images, path):
    """What was made of the images before, or is made now for all that ask later."""
    try:
        return learner.load(path)
    except (FileNotFoundError, ValueError) as error:
        why = "once" if isinstance(error, FileNotFoundError) else f"since {path} is damaged"
    tqdm.write(f"Making the extractor {name} of {images.name}, {why} ...")  # above any bar
    extractor = _learnt(learner, images)
    with files.atomic_path(path) as temporary:
        extractor.save(temporary)
    return learner.load(path)


def learner_of(name):
    """The class of an extractor that is made of the real images, or None."""
    return extractors.learns(name) if name in choices.EXTRACTORS else None


def _learnt(learner, images):
    return learner.train(images.train, _labels(images), dataset=images.name)


def _labels(images):
    """The labels of the training images; None where all are one, which nothing is learnt from."""
    labels = images.train_labels
    return labels if labels is not None and (labels != labels[0]).any() else None


def check_learnable(images):
    """Refuses images that the extractor "auto" could not learn from, before it is needed."""
    quality.ClassifierFeatures.check_learnable(images.train, _labels(images))


def named_extractor(name):
    """An extractor whose weights are known beforehand: Inception, or a file of the FID network."""
    try:
        return quality.get_extractor(name)
    except ValueError as error:
        raise UsageError(f"--extractor {name}: {error}") from error


def choose_reference(name, real):
    """What `--reference` names: features of the train or held-out images, or a statistics file."""
    if name in choices.REFERENCES:
        return real[name.replace("-", "_")]
    if not Path(name).is_file():
        known = ", ".join(choices.REFERENCES)
        raise UsageError(f"--reference {name}: give {known}, or an .npz of mu and sigma.")
    statistics = quality.FeatureStatistics.load(name)
    if statistics.dim != real["train"].shape[1]:
        raise UsageError(
            f"--reference {name} is of {statistics.dim} features, the extractor gives "
            f"{real['train'].shape[1]}; choose the --extractor that it was made with."
        )
    return statistics


def real_features(extractor, images):
    """Features of the training and of the held-out images, from the cache where it has them."""
    result = {}
    for split in ("train", "held_out"):
        identity = {"dataset": images.name, "split": split, "fingerprint": images.fingerprint}
        path = quality.reference_path(cache.folder(), extractor, **identity)
        with progress.counted(
            f"features of {split.replace('_', '-')}", len(getattr(images, split))
        ) as bar:
            result[split] = quality.extract_features(
                extractor, getattr(images, split), path=path, progress=bar, identity=identity
            )
    return result


def floor(extractor, images, real, num_images):
    """The distance of as many real images as are drawn, from the cache where it has it.

    Args:
        extractor, images: what was measured with, and of what.
        real: features of the training and of the held-out images.
        num_images: images that are drawn.

    Returns:
        A float, or None where too few images are held out.
    """
    path = cache.file(
        *("floor", ".json"),
        dataset=images.name,
        fingerprint=images.fingerprint,
        extractor=extractor.fingerprint,
        num_images=num_images,
        version=__version__,
    )
    if path.is_file() and checksums.is_whole(path):
        return files.read_record(path)["floor"]
    found = None
    with contextlib.suppress(ValueError):  # too few
        found = quality.frechet_floor(*real, num_images)
    files.write_record(path, {"floor": found})
    return found
