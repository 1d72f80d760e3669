"""Zip files whose members are no more than the file can hold, each of them once."""

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator

from ..aliases import PathLike
from . import bounds

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_IS_ENCRYPTED = 1
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[zipfile.ZipFile]:
    """A zip file, to be read once its list of members has been checked.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: it is no zip file, or as of `check`.
    """
    with zipfile.ZipFile(path) as archive:
        check(archive, os.stat(path).st_size)
        yield archive


def check(archive: zipfile.ZipFile, length: int) -> None:
    """Refuses an archive whose members would take far more than its length, or hide each other.

    Args:
        archive: a zip file.
        length: its bytes.

    Raises:
        ValueError: says which member, and what is wrong with it.
    """
    members = archive.infolist()
    seen = set()
    for member in members:
        name = member.filename[:60]
        if member.filename in seen:
            raise ValueError(f"it holds two members {name!r}")
        seen.add(member.filename)
        if member.compress_type not in (_STORED, _DEFLATED) or member.flag_bits & _IS_ENCRYPTED:
            raise ValueError(f"its member {name!r} is encrypted or packed in an unusual way")
        if member.compress_type == _STORED and member.file_size != member.compress_size:
            raise ValueError(f"its member {name!r} is said to have two lengths")
    if sum(member.compress_size for member in members) > length:
        raise ValueError("its members lie on each other")
    bounds.check("what it holds", sum(member.file_size for member in members), length)


def stored(data: bytes, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a member that is not compressed, as a view of those of the whole zip file.

    Raises:
        ValueError: it is compressed, reaches outside the file, or is damaged.
    """
    name = member.filename[:60]
    if member.compress_type != _STORED:
        raise ValueError(f"its member {name!r} is compressed")
    start = member.header_offset
    if not 0 <= start <= len(data) - _LOCAL_HEADER.size:
        raise ValueError(f"its member {name!r} lies outside the file")
    signature, of_name, of_extra = _LOCAL_HEADER.unpack_from(data, start)
    start += _LOCAL_HEADER.size + of_name + of_extra
    if signature != b"PK\3\4" or start + member.file_size > len(data):
        raise ValueError(f"its member {name!r} lies outside the file")
    found = memoryview(data)[start : start + member.file_size]
    if zlib.crc32(found) != member.CRC:
        raise ValueError(f"its member {name!r} is damaged: its checksum is another")
    return found
