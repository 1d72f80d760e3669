"""Tiny images and data sets on disk for the tests of data: written by hand where Pillow cannot."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def write(path, content):
    """Writes bytes, or an image of one value, to a path whose folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(np.full((2, 2), content, np.uint8)).save(path)


def tree(root, *names, first=0):
    """Writes 2x2 images, each of its own value, under these names; returns the root."""
    for value, name in enumerate(names, first):
        write(Path(root) / name, value)
    return root


def png(array, colour_type, depth=16, key=None):
    """The bytes of a PNG: colour type 0 grey, 2 RGB, 4 grey and opacity, 6 RGBA; key is tRNS."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    array = np.asarray(array).astype(">u2" if depth == 16 else "u1")
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour_type, 0, 0, 0)
    result = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if key is not None:
        result += chunk(b"tRNS", np.array(key, ">u2").tobytes())
    return result + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(array, bits, photometric=1, sample_format=1):
    """The bytes of an uncompressed grey TIFF; photometric 0 is white at zero."""
    height, width = array.shape
    content = array.tobytes()
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    entries += [(273, 8), (277, 1), (278, height), (279, len(content)), (339, sample_format)]
    head = b"II*\0" + struct.pack("<I", 8 + len(content)) + content
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return head + struct.pack("<H", len(entries)) + directory + bytes(4)


def idx(array, kind=8):
    """The bytes of an IDX file."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def idx_folder(root, names, compress=False, side=4):
    """Writes IDX files by a dict from names to numbers of images; returns the root.

    Image number i is filled with i, but for its upper right corner, 255; its label is i % 2.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, count in names.items():
        array = np.arange(count) % 2
        if "images" in name:
            array = np.zeros((count, side, side)) + np.arange(count)[:, None, None]
            array[:, 0, -1] = 255
        content = gzip.compress(idx(array)) if compress else idx(array)
        (root / name).write_bytes(content)
    return root


def is_utf8_only(folder):
    """Whether this file system refuses names that are no UTF-8."""
    try:
        os.close(os.open(os.fsencode(folder) + b"/\xff", os.O_CREAT))
    except OSError:
        return True
    os.unlink(os.fsencode(folder) + b"/\xff")
    return False
