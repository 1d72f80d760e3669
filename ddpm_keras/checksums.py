"""Checksums that files carry in themselves, by which damage to any byte of them is found.

An archive (.npz, .keras) ends with the SHA-256 of all that comes before, in the comment that zip
files have at their end. A record in JSON names the SHA-256 of its text. A PNG has a CRC in each of
its chunks. An archive without such a comment, of an older version or of another tool, is held
against the CRCs of its members, and a record without one against nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from .aliases import PathLike

ARCHIVES = (".npz", ".keras")
_KEY = "checksum"  # of a record
_COMMENT = b"sha256 "
_SEALED = re.compile(rb"sha256 [0-9a-f]{64}")
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = 2**20


def sha256(path: PathLike, without: int = 0) -> str:
    """SHA-256 of a file without so many bytes at its end, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = file.seek(0, 2) - without
        file.seek(0)
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def damage(path: PathLike) -> str | None:
    """What is wrong with an archive, a record or a PNG, by its checksums; None if nothing is.

    Args:
        path: a file. Of one whose name ends otherwise nothing is known, so None.
    """
    path = Path(path)
    if path.suffix in ARCHIVES:
        return _damage_of_archive(path)
    if path.suffix == ".png":
        return None if _is_whole_png(path.read_bytes()) else "it is no whole PNG"
    if path.suffix == ".json":
        try:
            parse_record(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return str(error)
    return None


def check(path: PathLike) -> None:
    """Refuses a file that is damaged.

    Raises:
        ValueError: in one line that names the file, and what is wrong.
        OSError: it cannot be read.
    """
    reason = damage(path)
    if reason is not None:
        raise ValueError(f"{path} is damaged ({reason}).")


def is_whole(path: PathLike) -> bool:
    """Whether nothing is wrong with a file that one can do without, else with a warning."""
    reason = damage(path)
    if reason is not None:
        _say_once(f"{path} is damaged ({reason}); going on without it.")
    return reason is None


@functools.cache
def _say_once(text):
    """A warning, however many readers of a file come to it."""
    warnings.warn(text, stacklevel=1)


# Archives


def seal_archive(path: PathLike) -> None:
    """Writes the checksum of a zip file into its comment."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _COMMENT + b"0" * 64
    digest = sha256(path, without=64)
    with open(path, "rb+") as file:
        file.seek(-64, 2)
        file.write(digest.encode())


def damage_of_seal(path: PathLike) -> str | None:
    """What is wrong with an archive by its comment alone; None if it has none."""
    return _damage_of_seal(path)[0]


def _damage_of_seal(path):
    """(what is wrong or None, whether there is a seal)."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - len(_COMMENT) - 64))
        seal = file.read()
    if _SEALED.fullmatch(seal):
        same = sha256(path, without=64).encode() == seal[-64:]
        return (None if same else "its checksum is another"), True
    if not seal.endswith(b"\0\0"):  # which say that there is no comment
        return "it is cut short or no archive", False
    return None, False


def _damage_of_archive(path):
    reason, is_sealed = _damage_of_seal(path)
    if reason or is_sealed:
        return reason
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile and zlib fail on broken files in many ways
        return f"it is cut short or no archive: {' '.join(str(error).split())[:100]}"
    return wrong and f"the checksum of its {wrong} is another"


# Records


def sealed_text(value: dict[str, Any]) -> str:
    """A record as indented JSON that names its checksum."""
    return json.dumps(value | {_KEY: _digest(value)}, indent=2) + "\n"


def _digest(value):
    return hashlib.sha256(json.dumps(value, indent=2).encode()).hexdigest()


def parse_record(text: str, **arguments: Any) -> Any:
    """What a file of JSON holds, without its checksum.

    Args:
        text: of the file; every character of one that names its checksum is as it was written.
        **arguments: of `json.loads`.

    Raises:
        ValueError: it is no JSON, or its checksum is another.
    """
    try:
        value = json.loads(text, **arguments)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict) or not value:
        return value
    name = _KEY if _KEY in value else list(value)[-1]
    record = {key: each for key, each in value.items() if key != name}
    if name != _KEY and value[name] != _digest(record):
        return value
    if text != sealed_text(record):
        raise ValueError(f"its checksum is another; if you changed it yourself, remove its {_KEY}")
    return record


def is_sealed(path: PathLike) -> bool:
    """Whether a file of JSON names its checksum, right or not."""
    return f'"{_KEY}"'.encode() in Path(path).read_bytes()


# Pictures


def _is_whole_png(data):
    """Whether the bytes of a file are a signature and whole chunks, the last of them its end.

    Reference:
        - PNG specification, third edition (W3C 2025), sections 5.2 and 5.3.
    """
    place, kind = len(_PNG), None
    while kind != b"IEND" and place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        place = end
    return data.startswith(_PNG) and kind == b"IEND" and place == len(data)
