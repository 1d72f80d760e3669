"""Images in a file, of which those that are asked for are read, and checked as they are read."""

import dataclasses
import math
import os
import weakref
import zlib
from typing import Any

import numpy as np

from ..errors import UsageError
from .words import shown

_CHUNK = 2**22  # bytes read at a time where all are wanted


class DamagedImages(UsageError):
    """A prepared file does not hold what was written to it. One line that names the cure."""


class _File:
    """A file that is read at any place; closed when nothing refers to it any more."""

    def __init__(self, path):
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self.handle)


@dataclasses.dataclass(frozen=True, eq=False)
class FileRows:
    """Some of the images in a file, in any order; `np.asarray` reads them.

    Args:
        file: a `_File`.
        offset: where the first image of the file begins, in bytes.
        image_shape: (height, width, channels) of uint8.
        numbers: which images of the file these are, (N,).
        checksums: CRC-32 of each image of the file, uint32, or None if they are not known.
    """

    file: _File
    offset: int
    image_shape: tuple[int, ...]
    numbers: np.ndarray
    checksums: np.ndarray | None = None

    dtype = np.dtype(np.uint8)

    @classmethod
    def opened(cls, path, offset, shape, checksums=None):
        """All images of a file, `shape` being (N, height, width, channels)."""
        return cls(_File(path), offset, tuple(shape[1:]), np.arange(shape[0]), checksums)

    @property
    def shape(self):
        return (len(self.numbers), *self.image_shape)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, rows):
        """The images of a slice, a mask or an array of integers, not read yet."""
        return dataclasses.replace(self, numbers=self.numbers[rows])

    def __array__(self, dtype=None, copy=None):
        """Reads the images.

        Raises:
            DamagedImages: one of them is not what was written, or not there.
        """
        read = [self._read(number) for number in self.numbers.tolist()]
        images = np.frombuffer(b"".join(read), np.uint8).reshape(self.shape)
        return images if dtype is None else images.astype(dtype, copy=False)

    def _read(self, number):
        size = math.prod(self.image_shape)
        content = os.pread(self.file.handle, size, self.offset + number * size)
        is_whole = len(content) == size
        if is_whole and self.checksums is not None:
            is_whole = zlib.crc32(content) == self.checksums[number]
        if not is_whole:
            raise DamagedImages(
                f"Image {number} in {shown(self.file.path)} is damaged: remove that file, and it "
                "is prepared anew."
            )
        return content


class PreparedImages(np.memmap):
    """A memory map of images that are read from their file, and checked, row by row.

    It is an array as any other. An integer or an array of integers reads those images and compares
    their checksums; a slice is a map again; whatever else NumPy does with a map, it does unchecked.
    """

    def __new__(cls, rows):
        self: Any = super().__new__(cls, rows.file.path, np.uint8, "r", rows.offset, rows.shape)
        self._rows = rows
        return self

    def __array_finalize__(self, obj):
        super().__array_finalize__(obj)
        self._rows = None  # of a view that NumPy makes it is not known which rows it holds

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if return_scalar else np.asarray(array)  # what is computed is no map

    def __getitem__(self, key):
        if self._rows is None:
            return self.view(np.memmap)[key]
        if isinstance(key, slice):
            view: Any = super().__getitem__(key)
            view._rows = self._rows[key]
            return view
        if isinstance(key, (int, np.integer)):
            return np.asarray(self._rows[[key]])[0]
        if isinstance(key, (list, np.ndarray)) and np.ndim(key) == 1:
            return np.asarray(self._rows[key])
        return self.view(np.memmap)[key]


def is_mapped(images):
    """Whether an array is a memory map, so that it may be larger than the memory."""
    return getattr(images, "_mmap", None) is not None  # a copy of a map is of its class, too


def taken(images, start=0, stop=None):
    """Images `start..stop-1` of an array as an array in memory; of a prepared file, checked."""
    if is_mapped(images):
        return images[np.arange(*slice(start, stop).indices(len(images)))]
    return np.asarray(images[start:stop])


def chunks(array):
    """The array as arrays in memory of a few megabytes each, in order."""
    rows = max(1, _CHUNK // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(taken(array, start, start + rows))
