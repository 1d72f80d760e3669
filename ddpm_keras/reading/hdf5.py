"""HDF5 files that hold what they promise themselves, and lead nowhere else."""

import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py

from ..aliases import PathLike
from . import bounds

_FILTERS = (1, 2, 3)  # deflate, shuffle, checksums: others are code from somewhere else


class Size(NamedTuple):
    """How much a file holds: bytes of all its arrays, and how many there are."""

    nbytes: int
    arrays: int


def check_file(path: PathLike) -> Size:
    """`check` of a file by its path."""
    with open(path, "rb") as file:
        return check(file, os.fstat(file.fileno()).st_size)


def check(file: Any, length: int) -> Size:
    """The `Size` of an HDF5 file, none of whose arrays is read.

    Args:
        file: it, opened for reading bytes.
        length: its bytes.

    Raises:
        ValueError: it is no HDF5 file; it links to other files or within itself; or it would take
            far more memory than it has bytes.
    """
    needed = nbytes = arrays = 0
    try:
        with h5py.File(file, "r") as root:
            for array in _arrays(root):
                size, chunk = _bytes_of(array, array.shape), _bytes_of(array, array.chunks or ())
                nbytes, arrays, needed = nbytes + size, arrays + 1, needed + max(size, chunk)
                bounds.check("what it holds", needed, length)
    except (OSError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"it is no whole HDF5 file ({words})") from None
    return Size(nbytes, arrays)


def _arrays(root) -> Iterator[Any]:
    """The arrays of a file, each once, none of which is elsewhere."""
    seen, left = set(), [root]
    while left:
        group = left.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name[:60]!r} is a link to somewhere else")
            entry = group[name]
            place = h5py.h5o.get_info(entry.id).addr  # pyright: ignore[reportAttributeAccessIssue]
            if place in seen:
                continue
            seen.add(place)
            if isinstance(entry, h5py.Group):
                left.append(entry)
            else:
                _check_array(name[:60], entry)
                yield entry


def _check_array(name, entry):
    if not isinstance(entry, h5py.Dataset) or entry.shape is None or entry.dtype.hasobject:
        raise ValueError(f"{name!r} is no array of numbers")
    if entry.external or entry.is_virtual:
        raise ValueError(f"{name!r} is kept in another file")
    plan = entry.id.get_create_plist()
    if any(plan.get_filter(i)[0] not in _FILTERS for i in range(plan.get_nfilters())):
        raise ValueError(f"{name!r} is compressed in an unusual way")


def _bytes_of(array, shape):
    return math.prod(shape) * array.dtype.itemsize
