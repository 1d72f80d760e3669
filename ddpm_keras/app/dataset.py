"""The images of a training and of a run: loaded, described, recognised when they come back."""

import os
from pathlib import Path

import numpy as np

from .. import data
from ..data.words import few, shown
from ..errors import UsageError
from . import cache, console, progress

MOST_CLASSES = 12  # whose counts are printed
_UNEVEN = 0.05  # share of images of other classes than drawn ones, from which on it is said
# What the library's messages call the options of the commands.
_FLAGS = {
    "on_unreadable='skip'": "--unreadable skip",
    "image_size": "--image-size",
    "data_dir": "--data-dir",
    "cache=DIR": "--data-cache DIR",
    ", or change held_out": "",
}


def load(options, name=None, data_dir=None, data_cache=None):
    """The images that the options name, as `data.ImageData`.

    Args:
        options: a `TrainOptions`.
        name, data_dir, data_cache: in place of those of the options.

    Raises:
        UsageError: they cannot be had.
    """
    try:
        kept_back = console.log_kept_back("ddpm_keras.data")
        with kept_back, progress.counted("reading images") as report:
            return data.load(
                name or options.dataset,
                image_size=options.image_size or None,
                on_unreadable=options.unreadable,
                data_dir=data_dir or options.data_dir or None,
                progress=report,
                cache=data_cache or options.data_cache or _usual_cache(options),
            )
    except ValueError as error:
        text = str(error)
        for word, flag in _FLAGS.items():
            text = text.replace(word, flag)
        raise UsageError(text) from None


def _usual_cache(options):
    """Where images are prepared if no place is named; None for those that need no decoding."""
    return None if options.dataset in data.BUILT_IN else cache.folder() / "images"


def record(images, options):
    """What a run's config.json says of its images, a dict: `of_run` finds them by it."""
    return {
        "name": images.name,
        "path": images.path,
        "data_dir": os.path.abspath(options.data_dir) if options.data_dir else None,
        "fingerprint": images.fingerprint,
        "num_train": len(images.train),
        "num_held_out": len(images.held_out),
        "image_shape": list(images.image_shape),
        "num_classes": images.num_classes,
        "provenance": images.provenance,
    }


def of_run(run, options, data_cache=""):
    """The images that a run was begun with, whatever the working directory is.

    Args:
        run: a `Run`.
        options: its `TrainOptions`, of which `data_dir` and `data_cache` may have been changed.
        data_cache: in place of that of the options.

    Raises:
        UsageError: they are no longer where they were, or are not the same.
    """
    known, data_dir = run.data, None
    if options.data_dir == run.config["options"].get("data_dir"):
        data_dir = known.get("data_dir")
    images = load(options, _place(run, options, known.get("path")), data_dir, data_cache)
    if images.fingerprint != known["fingerprint"]:
        raise UsageError(
            f"The images of {shown(images.path or images.name)} have changed since {run.path} was "
            "begun; restore them, or begin a new run."
        )
    return images


def _place(run, options, path):
    """Where images that were at `path` are now; it may be as well where they were said to be."""
    if path is None:
        return options.dataset
    for place in (Path(str(path)), Path(options.dataset)):
        if place.exists():
            return place  # as a path, so that it is not taken for the name of a set
    raise UsageError(
        f"The images of {run.path} are no longer at {shown(path)}; put them there, or a link to "
        "them."
    )


def lines(images):
    """What there is to say of images before training: what they are, their classes, notes."""
    shape = "x".join(map(str, images.image_shape))
    result = [
        f"{shown(images.path or images.name)}: {len(images.train):,} images to train on, "
        f"{len(images.held_out):,} held out, {shape}"
    ]
    if images.num_classes:
        counts = [f"{name} {train} + {held_out}" for name, train, held_out in images.class_counts]
        result.append(f"{images.num_classes} classes: {few(counts, MOST_CLASSES)}")
    return [*result, *(f"Note: {note}" for note in images.notes)]


def of_uneven_classes(images):
    """What to say of numbers of a conditional model, which draws as many images of each class.

    Args:
        images: a `data.ImageData` with classes.

    Returns:
        A list of lines; none where about as many training images are of each class, too.
    """
    counts = np.bincount(images.train_labels, minlength=images.num_classes)
    apart = np.abs(counts / counts.sum() - 1 / len(counts)).sum() / 2
    if apart < _UNEVEN:
        return []
    return [
        "Note: as many images are drawn of each class, and training images are not: for that "
        f"{apart:.0%} of them would be of another class. Distances, precision and recall hold "
        "this difference, too."
    ]
