"""Images decoded into files, which go on from where an interrupted preparation stopped."""

import contextlib
import json
import math
import os
import shutil
import time
import zlib

import numpy as np

from .. import files
from ..errors import UsageError
from . import memory
from .rows import FileRows
from .words import reason, shown

_BLOCK = 2**20  # bytes that have one checksum
_SECONDS = 2.0  # between two notes of how far it has come


@contextlib.contextmanager
def cache_errors(folder):
    """Says of an `OSError` in the block that it is the cache that cannot be written to."""
    try:
        yield
    except OSError as error:
        raise NoRoom(
            f"The prepared images cannot be written to {shown(folder)} ({reason(error)}): make room"
            " there, or name another folder with cache=DIR."
        ) from None


class NoRoom(UsageError):
    """There is no place for prepared images. One line that names the cure."""


class Scratch:
    """Decodes images into files beside a path, as the module `memory` does into memory.

    Args:
        path: of the prepared file that is to be; the names of the others begin with its name.
    """

    def __init__(self, path):
        self.path = path
        self._parts = self._copies = 0

    def fill(self, source, shape, read, progress):
        """As `memory.fill`; the images are `FileRows`."""
        self._parts += 1
        path = self.path.with_name(f"{self.path.name}.part-{self._parts}")
        with _Part(path, shape) as part:
            self._check_room(source, (2 * shape[0] - part.done) * part.size)
            for image in read(part.done):
                part.append(image)
                if progress is not None:
                    progress(part.done, shape[0])
            part.save()
        is_read = np.ones(shape[0], bool)
        is_read[part.left_out] = False
        return FileRows.opened(path, 0, shape)[is_read], is_read

    def unpack(self, source, file, length):
        """Copies what a file holds, so that it can be mapped into memory.

        Args:
            source: what it is, for messages.
            file: it, opened for reading bytes.
            length: how many bytes it is said to hold; more are not copied.

        Returns:
            The path of the copy, which goes when the images are prepared.
        """
        self._copies += 1
        path = self.path.with_name(f"{self.path.name}.copy-{self._copies}")
        self._check_room(source, length)
        with cache_errors(path.parent):
            copy = open(path, "wb")
        with copy:
            while chunk := file.read(min(_BLOCK, length - copy.tell())):
                with cache_errors(path.parent):
                    copy.write(chunk)
                    copy.flush()
        return path

    def _check_room(self, what, needed):
        folder = self.path.parent
        with cache_errors(folder):
            free = shutil.disk_usage(folder).free
        if needed > free:
            raise NoRoom(
                f"To prepare {what} takes {memory.gib(needed)} GiB, and {memory.gib(free)} GiB are "
                f"free in {shown(folder)}: make room there, or name another folder with cache=DIR."
            )


class _Part:
    """A file of images of one shape, and beside it a note of how many there are, in blocks.

    Attributes:
        done: images in it; those of an earlier process count as far as their blocks are intact.
        left_out: numbers of images that could not be read, zeros in the file.
    """

    def __init__(self, path, shape):
        self.path, self.shape = path, shape
        self.size = math.prod(map(int, shape[1:]))
        self.rows = max(1, _BLOCK // self.size)  # of a block
        self.note = path.with_name(f"{path.name}.json")
        self.checksums, self.left_out = self._intact()
        self.done = min(len(self.checksums) * self.rows, shape[0])
        self.left_out = [number for number in self.left_out if number < self.done]
        self.pending = []

    def __enter__(self):
        with cache_errors(self.path.parent):
            self.file = open(self.path, "r+b" if self.done else "w+b")
            self.file.truncate(self.done * self.size)
            self.file.seek(0, os.SEEK_END)
        self.saved = time.monotonic()
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            with contextlib.suppress(ValueError):  # of a disk that is full, which is known then
                self.save()
        self.file.close()

    def append(self, image):
        """Adds an image, or None for one that is left out."""
        if image is None:
            self.left_out.append(self.done)
        self.pending.append(bytes(self.size) if image is None else image.tobytes())
        self.done += 1
        if len(self.pending) == self.rows or self.done == self.shape[0]:
            self._write_block()

    def _write_block(self):
        block = b"".join(self.pending)
        with cache_errors(self.path.parent):
            self.file.write(block)
        self.checksums.append(zlib.crc32(block))
        self.pending = []
        if time.monotonic() > self.saved + _SECONDS:
            self.save()

    def save(self):
        """Notes what is there: first the images are written, then the claim that they are."""
        note = {"shape": self.shape, "checksums": self.checksums, "left_out": self.left_out}
        with cache_errors(self.path.parent):
            self.file.flush()
            os.fsync(self.file.fileno())
            files.write_json(self.note, note)
        self.saved = time.monotonic()

    def _intact(self):
        """(checksums, left_out) of the blocks before the first that is not what was written."""
        try:
            note = json.loads(self.note.read_text())
            if note["shape"] != list(self.shape):
                return [], []
            with open(self.path, "rb") as file:
                intact = []
                for checksum in note["checksums"]:
                    if zlib.crc32(file.read(self.rows * self.size)) != checksum:
                        break
                    intact.append(checksum)
            return intact, [int(number) for number in note["left_out"]]
        except (OSError, ValueError, KeyError, TypeError):
            return [], []
