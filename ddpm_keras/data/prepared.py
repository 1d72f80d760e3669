"""The file of a prepared data set: an uncompressed `.npz` that is mapped into memory.

It holds x_train, x_test and, of a labelled set, y_train, y_test; the CRC-32 of every image in
crc32_train, crc32_test; and about.json, what else an `ImageData` says. So NumPy reads it too.
"""

import io
import json
import struct
import zipfile
import zlib

import numpy as np

from .image_data import ImageData
from .rows import FileRows, PreparedImages, chunks
from .words import reason, shown

_FORMAT = "ddpm-keras images 2"
_PARTS = {"train": "train", "test": "held_out"}
_SAID = ("name", "class_names", "provenance", "path", "notes")


def write(path, images, name):
    """Writes an `ImageData` of any size, a few megabytes at a time.

    Args:
        path: where.
        images: the `ImageData`.
        name: of the file, in the end; under another one it is not read.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for part, attribute in _PARTS.items():
            _write_images(archive, part, getattr(images, attribute))
            labels = getattr(images, f"{attribute}_labels")
            if labels is not None:
                _write_array(archive, f"y_{part}", labels)
        about = {said: getattr(images, said) for said in _SAID}
        about |= {"format": _FORMAT, "file": name, "fingerprint": images.fingerprint}
        archive.writestr("about.json", json.dumps(about))


def _write_images(archive, part, images):
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(images.shape)}
    checksums = []
    with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks(images):
            file.write(chunk)
            checksums += map(zlib.crc32, chunk)
    _write_array(archive, f"crc32_{part}", np.array(checksums, np.uint32))


def _write_array(archive, name, array):
    with archive.open(f"{name}.npy", "w") as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def read(path):
    """The `ImageData` in a prepared file, whose images stay there.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or was written under another name, which tells what it is of.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
            if about["format"] != _FORMAT:
                raise ValueError(f"its format is {about['format']!r}, not {_FORMAT!r}")
            if about["file"] != path.name:
                raise ValueError(f"it was written as {about['file'][:100]}")
            train, held_out = (_mapped(path, archive, part) for part in _PARTS)
            is_labelled = "y_train.npy" in archive.namelist()
            labels = [_array(archive, f"y_{part}") if is_labelled else None for part in _PARTS]
        said = {name: about[name] for name in _SAID}
        said |= {name: tuple(said[name]) for name in ("class_names", "notes")}
        checksum = about["fingerprint"]
        return ImageData(
            train=train,
            held_out=held_out,
            train_labels=labels[0],
            held_out_labels=labels[1],
            checksum=checksum,
            **said,
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy fail on broken files in many ways
        raise ValueError(f"{shown(path)} is damaged ({reason(error)})") from None


def _array(archive, name):
    """A small array, whose checksum zipfile compares when it has read it whole."""
    return np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


def _mapped(path, archive, part):
    """The images of a part, as a memory map."""
    member = archive.getinfo(f"x_{part}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with archive.open(member) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    checksums = _array(archive, f"crc32_{part}")
    expected = int(np.prod(shape, dtype=object)) + start
    if dtype != np.uint8 or len(shape) != 4 or member.file_size != expected:
        raise ValueError(f"{member.filename} holds something else")
    if checksums.dtype != np.uint32 or checksums.shape != shape[:1]:
        raise ValueError(f"crc32_{part} holds something else")
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        start += member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return PreparedImages(FileRows.opened(path, start, shape, checksums))
