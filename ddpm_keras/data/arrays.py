"""Files of NumPy arrays, and what images and labels in arrays must be like.

An `.npy` file holds the images. An `.npz` file holds them, and may hold labels, under these names:

    images, labels                 also x, y; arr_0, arr_1; and more of the kind
    x_train, y_train, x_test, y_test                 as the mnist.npz of Keras
    train_images, train_labels, test_images ...      as the files of MedMNIST; or val_images

An `.npz` file with a single array may call it anything. Images are uint8, `(N, H, W)` or
`(N, H, W, C)` with 1, 3 or 4 channels, the fourth opacity; labels are integers from 0 on or names,
`(N,)`. Nothing is ever unpickled.
"""

import contextlib
import functools
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..reading import npz
from .decode import each_fitted
from .image_data import ImageData
from .listing import stamp
from .memory import check_bytes
from .request import FILES
from .split import check_parts, divide, stratified
from .words import few, in_order, reason, shown

SUFFIXES = FILES

_SINGLE = "the array"  # of an .npy file
# Names in lower case, {} being the name of a part.
_WHOLE = ("images", "image", "x", "data", "samples", "arr_0")
_WHOLE_LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
_PARTED = ("x_{}", "{}_x", "{}_images", "images_{}")
_PARTED_LABELS = ("y_{}", "{}_y", "{}_labels", "labels_{}")
_HELD_OUT = ("test", "val", "valid", "validation")


class Part(NamedTuple):
    """Images, their labels or None, and what to call both in messages."""

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    labels_source: str = ""


def reads(request):
    """Whether this is such a file."""
    return request.path.is_file() and request.path.suffix.lower() in SUFFIXES


def signature(request):
    """What changes when the file is written."""
    yield stamp(request.path)


def load(request):
    """The images of an `.npz` or `.npy` file, as `ImageData`."""
    path = request.path
    lengths = _lengths(path)
    pairs = _pairs(path, list(lengths))
    left_out = sorted(set(lengths) - {name for pair in pairs for name in pair})
    return from_parts(
        request,
        shown(path.stem),
        [_part(request, lengths, *pair) for pair in pairs],
        provenance=f"arrays of the file {shown(path.name)}",
        notes=(f"Left out arrays by the names of {few(left_out)}.",) if left_out else (),
    )


def _lengths(path):
    """The names of the arrays in a file, and how many bytes each has."""
    with _damage_in_one_line(path):
        return npz.lengths(path) if _is_archive(path) else {_SINGLE: path.stat().st_size}


def _is_archive(path):
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _part(request, lengths, images, labels):
    """The `Part` that a pair of names stands for."""
    path, names = request.path, (images, labels)
    for name in filter(None, names):
        if request.cache is None:
            where = f"{shown(name)} in {shown(path)}"
            check_bytes(where, lengths[name], "save fewer images, as uint8")
    sources = (f"{shown(name)} in {shown(path)}" for name in names)
    return Part(_images(request, images), _read(path, labels) if labels else None, *sources)


def from_parts(request, name, parts, provenance, notes):
    """The `ImageData` of arrays.

    Args:
        request: what was asked for.
        name: of the data set.
        parts: the `Part` to train on, and the held-out one where there is one.
        provenance, notes: of the `ImageData`, whose provenance is completed.

    Raises:
        ValueError: the arrays are no images and labels, or do not belong together.
    """
    parts = [part._replace(images=_checked_images(part)) for part in parts]
    size, channels = _common_shape(request, parts)
    class_names, labels = _classes(parts)
    images = [_filled(request, part, (len(part.images), *size, channels)) for part in parts]
    fields = {
        "class_names": class_names,
        "provenance": f"{provenance}, as {'greyscale' if channels == 1 else 'RGB'} of "
        f"{size[0]}x{size[1]}",
        "path": str(request.path),
        "notes": tuple(notes),
    }
    if len(parts) == 1:
        is_held_out = stratified(labels[0], len(images[0]), request.share, request.seed)
        return divide(name, images[0], labels[0], is_held_out, **fields)
    request.refuse_share(shown(request.path), parts[1].source)
    check_parts(name, *map(len, images))
    return ImageData(name, *images, *labels, **fields)


def _filled(request, part, shape):
    """The images of a part in one shape, where those of the request are kept."""

    def read(start):
        return each_fitted(part.images[start:], shape[1:3], shape[3])

    return request.fill(part.source, shape, read)[0]


def _pairs(path, names):
    """The names of images and labels: one pair, or one to train on and one held out."""
    by_lower = {name.lower(): name for name in names}

    def first(patterns, split):
        present = (by_lower.get(pattern.format(split)) for pattern in patterns)
        return next(filter(None, present), None)

    def pair(images, labels, split=""):
        found = first(images, split)
        return found and (found, first(labels, split))

    train = pair(_PARTED, _PARTED_LABELS, "train")
    if train:
        held_out = (pair(_PARTED, _PARTED_LABELS, split) for split in _HELD_OUT)
        return [train, *list(filter(None, held_out))[:1]]
    whole = pair(_WHOLE, _WHOLE_LABELS)
    if not whole and len(names) == 1:
        return [(names[0], None)]
    if not whole:
        raise ValueError(
            f"{shown(path)} holds arrays by the names of {few(names) or 'nothing'}: call the "
            "images 'images', or 'x_train' and 'x_test', and the labels 'labels', or 'y_train' "
            "and 'y_test'."
        )
    return [whole]


def _images(request, name):
    """The images of a file; to be prepared, they need not fit into memory."""
    path = request.path
    if request.cache is None:
        return _read(path, name)
    with _damage_in_one_line(path):
        if not _is_archive(path):
            return npz.map_npy(path)
        unpack = functools.partial(request.store.unpack, shown(path))
        return npz.map_member(path, name, unpack)


def _read(path, name):
    """One array of a file."""
    with _damage_in_one_line(path):
        return npz.read(path, name.__eq__)[name] if _is_archive(path) else npz.read_npy(path)


@contextlib.contextmanager
def _damage_in_one_line(path):
    """NumPy and zipfile fail on broken files in many ways."""
    try:
        yield
    except UsageError:  # of a cache that has no room
        raise
    except Exception as error:
        raise ValueError(
            f"{shown(path)} cannot be read as arrays of NumPy ({reason(error)}): it is damaged or "
            "of another kind; save it again with np.savez or np.save."
        ) from None


def _checked_images(part):
    """The images of a part as (N, H, W, C), if they are that."""
    images, source = part.images, part.source
    if images.dtype != np.uint8:
        raise ValueError(
            f"{source} is an array of {images.dtype}: save uint8 in 0..255, for floats in 0..1 by "
            "np.round(255 * images).astype(np.uint8)."
        )
    shape = images.shape
    is_one_image = images.ndim == 3 and shape[2] in (1, 3, 4) and shape[1] != shape[2]
    if images.ndim == 3 and images.size and not is_one_image:
        return images[..., None]
    if images.ndim == 4 and shape[-1] in (1, 3, 4) and images.size:
        return images
    cure = "give (N, height, width) or (N, height, width, channels) with 1, 3 or 4 channels"
    if images.ndim == 4 and shape[1] in (1, 3, 4):
        cure = "put the channels last, by images.transpose(0, 2, 3, 1)"
    elif is_one_image:
        cure = "that is a single image; give (N, height, width, channels)"
    raise ValueError(f"{source} has the shape {shape}: {cure}.")


def _common_shape(request, parts):
    """((height, width), channels) that all parts are brought to."""
    shapes = {(*part.images.shape[1:3], min(part.images.shape[3], 3)) for part in parts}
    sizes, channels = {shape[:2] for shape in shapes}, {shape[2] for shape in shapes}
    if (len(sizes) > 1 and not request.size) or (len(channels) > 1 and not request.channels):
        raise ValueError(
            f"{' and '.join(part.source for part in parts)} differ in shape, "
            f"{' and '.join(str(part.images.shape[1:]) for part in parts)}: save images of one "
            "shape."
        )
    return request.size or sizes.pop(), request.channels or channels.pop()


def _classes(parts):
    """Names of the classes, and for each part the numbers of its images' classes, or None."""
    labelled = [part for part in parts if part.labels is not None]
    if not labelled:
        return (), [None] * len(parts)
    if len(labelled) < len(parts):
        raise ValueError(
            f"There is {labelled[0].labels_source}, and no labels for the other part: give labels "
            "for both parts, or for none."
        )
    labels = [_checked_labels(part) for part in parts]
    if len({each.dtype.kind == "U" for each in labels}) > 1:
        raise ValueError(
            f"{' and '.join(part.labels_source for part in parts)} are of different kinds: save "
            "both as integers, or both as names."
        )
    values = np.unique(np.concatenate(labels))
    names = in_order(values.tolist())
    number = np.array([names.index(value) for value in values.tolist()], np.int32)
    return tuple(map(shown, names)), [number[np.searchsorted(values, each)] for each in labels]


def _checked_labels(part):
    """The labels of a part as (N,), if they are labels of its images."""
    labels, source, count = part.labels, part.labels_source, len(part.images)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise ValueError(
            f"{source} has the shape {labels.shape}: give one class an image, for one-hot labels "
            "by labels.argmax(axis=1)."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise ValueError(
            f"{source} is an array of {labels.dtype} and shape {labels.shape}: give integers or "
            f"names of shape ({count},)."
        )
    if len(labels) != count:
        raise ValueError(
            f"{source} has {len(labels)} labels for the {count} images of {part.source}: give one "
            "label an image."
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(
            f"{source} holds {labels.min()}: number the classes from 0, and leave images without a "
            "class out."
        )
    return labels
