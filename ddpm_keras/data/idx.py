"""Folders of IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST are published.

The files are known by their names, whatever separates the words: `train-images-idx3-ubyte`,
`t10k-labels.idx1-ubyte.gz`, `emnist-balanced-test-images-idx3-ubyte.gz`. They may be compressed,
and labels may be missing.

Reference:
    - LeCun, Cortes and Burges, "The MNIST database of handwritten digits", which has the format.
    - Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten letters".
"""

import functools
import gzip
import math
import os
import pathlib
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..reading import bounds
from .arrays import Part, from_parts
from .listing import is_litter, stamp
from .memory import check_bytes
from .words import few, reason, shown

_NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test)[-_. ](?P<kind>images|labels)[-_. ]idx\d[-_. ]ubyte"
    r"(\.gz)?",
    re.IGNORECASE,
)
_UNSIGNED_BYTES = 8  # the code of the only type of values that images have


class _File(NamedTuple):
    path: pathlib.Path
    set: str
    part: str
    kind: str


def find(root):
    """The IDX files of a folder, or of the only folder in it, a list that may be empty."""
    while True:
        names = sorted(name for name in os.listdir(root) if not is_litter(name))
        files = [file for name in names if (file := _parse(root / name))]
        if any(file.kind == "images" for file in files):
            return files
        if len(names) != 1 or not (root / names[0]).is_dir() or (root / names[0]).is_symlink():
            return []
        root = root / names[0]


def reads(request):
    """Whether this is a folder of IDX files."""
    return request.path.is_dir() and bool(find(request.path))


def signature(request):
    """What changes when one of the files is written, or another comes."""
    folder = find(request.path)[0].path.parent
    for path in sorted(folder.iterdir()):
        yield f"{path.name} {stamp(path)}"


def load(request):
    """The images of a folder of IDX files, as `ImageData`."""
    files = find(request.path)
    parts = _by_part(request.path, files)
    notes = _notes(files, parts)
    order = [part for part in ("train", "test") if part in parts]
    is_transposed = "emnist" in files[0].set
    provenance = f"IDX files of the folder {shown(request.path.name)}"
    return from_parts(
        request,
        shown(request.path.name),
        [_read_part(request, parts[part], is_transposed) for part in order],
        provenance + (", turned upright" if is_transposed else ""),
        notes,
    )


def read_idx(path, unpack=None):
    """The array that an IDX file of unsigned bytes holds.

    Args:
        path: the file, compressed by gzip or not, whatever its name says.
        unpack: None to read it into memory; or, for a memory map of a copy, a function of a file
            and how many bytes it holds that copies them, and gives the path.

    Raises:
        ValueError: in one line, if it is damaged or holds something else.
    """
    try:
        with _opened(path) as file:
            shape = _shape(file)
            length = math.prod(shape)
            if unpack is None:
                check_bytes(shown(path), length, "give fewer images")
            bounds.check("what it promises", length, os.stat(path).st_size)
            values = _values(file, length) if unpack is None else _mapped(unpack(file, length))
            if len(values) < length or file.read(1):
                wrong = "ends before" if len(values) < length else "goes on after"
                raise ValueError(f"it {wrong} the {'x'.join(map(str, shape))} values it promises")
    except UsageError:  # of a cache that has no room
        raise
    except Exception as error:  # gzip fails on broken files in many ways
        raise ValueError(
            f"{shown(path)} is no whole IDX file of bytes ({reason(error)}): get it again."
        ) from None
    return values.reshape(shape)


def _values(file, length):
    return np.frombuffer(file.read(length), np.uint8)


def _mapped(path):
    return np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.empty(0, np.uint8)


def image_size(root):
    """(height, width) of the images in a folder of IDX files, or None if there are none."""
    try:
        files = find(pathlib.Path(os.path.expanduser(root)))
        path = next(file.path for file in files if file.kind == "images")
        with _opened(path) as file:
            return _shape(file)[1:3]
    except (OSError, ValueError, EOFError, StopIteration, struct.error, zlib.error):
        return None


def _opened(path):
    """The content of a file, which tells itself whether it is compressed."""
    with open(path, "rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_compressed else open(path, "rb")


def _shape(file):
    """Reads the header: two zeros, the type of the values, the number of lengths, and these."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"it begins with {magic!r}")
    if magic[2] != _UNSIGNED_BYTES or magic[3] not in (1, 3, 4):
        raise ValueError(f"it holds values of type {magic[2]} in {magic[3]} dimensions")
    return struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))


def _parse(path):
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    part = "train" if match["part"].lower() == "train" else "test"
    return _File(path, match["set"].strip("-_. ").lower(), part, match["kind"].lower())


def _by_part(root, files):
    """Maps each part to its files: {"train": {"images": path, "labels": path}, ...}."""
    sets = sorted({file.set for file in files})
    if len(sets) > 1:
        raise ValueError(
            f"{shown(root)} holds several sets of IDX files, {few(sets, most=9)}: put one of them "
            "into a folder of its own."
        )
    parts = {}
    for file in files:
        kinds = parts.setdefault(file.part, {})
        twin = kinds.setdefault(file.kind, file.path)
        # A compressed file stays where it was unpacked; the shorter name comes first.
        if file.path.name not in (twin.name, f"{twin.name}.gz"):
            raise ValueError(
                f"{shown(root)} holds both {shown(twin.name)} and {shown(file.path.name)}: leave "
                "one of them there."
            )
    return {part: kinds for part, kinds in parts.items() if "images" in kinds}


def _notes(files, parts):
    folder = files[0].path.parent
    known = {file.path.name for file in files if file.part in parts}
    others = [name for name in sorted(os.listdir(folder)) if not is_litter(name)]
    left_out = [name for name in others if name not in known]
    notes = [f"Left out beside the IDX files: {few(left_out)}."] if left_out else []
    if "train" not in parts:
        notes.append("The test files are divided, since there are no training files.")
    return notes


def _read_part(request, paths, is_transposed):
    labels = paths.get("labels")
    unpack = request.cache and functools.partial(request.store.unpack, shown(paths["images"]))
    images = read_idx(paths["images"], unpack)
    if is_transposed:
        images = images.swapaxes(1, 2)
    return Part(
        images,
        None if labels is None else read_idx(labels),
        shown(paths["images"]),
        "" if labels is None else shown(labels),
    )
