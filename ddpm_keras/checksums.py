"""Checksums that files carry in themselves, by which damage to any byte of them is found.

An archive (.npz, .keras) ends with the SHA-256 of all that comes before, see `reading.seals`. A
record in JSON names the SHA-256 of its text. A PNG has a CRC in each of its chunks. An archive
without a seal, of an older version or of another tool, is held against the CRCs of its members, and
a record without one against nothing. Archives, records and pictures in the directory of a run name
the run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

from .aliases import PathLike
from .reading import bounds, owners, seals

_KEY = "checksum"  # of a record
_PNG = b"\x89PNG\r\n\x1a\n"


def damage(path: PathLike) -> str | None:
    """What is wrong with an archive, a record or a PNG, by its checksums; None if nothing is.

    Args:
        path: a file. Of one whose name ends otherwise nothing is known, so None.
    """
    path = Path(path)
    if path.suffix in seals.ARCHIVES:
        return seals.damage_of_archive(path)
    if path.suffix == ".png":
        return _damage_of_png(path)
    if path.suffix == ".json":
        try:
            read_record(path)
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
        raise ValueError(f"{told(path, reason)}.")


def is_whole(path: PathLike) -> bool:
    """Whether nothing is wrong with a file that one can do without, else with a warning."""
    reason = damage(path)
    if reason is not None:
        say_once(f"{told(path, reason)}; going on without it.")
    return reason is None


def told(path: PathLike, reason: object) -> str:
    """What is wrong with a file, by a reason that `damage` gave."""
    if str(reason) == owners.OTHER:
        return f"{path} is of another run"
    return f"{path} is damaged ({reason})"


@functools.cache
def say_once(text: str) -> None:
    """A warning, however many readers of a file come to it."""
    warnings.warn(text, stacklevel=1)


# Records


def record_text(path: PathLike, value: dict[str, Any]) -> str:
    """The text of a record at a place: JSON with its checksum, and the run that it is of."""
    owner = owners.of_place(path)
    return sealed_text({owners.KEY: owner} | value if owner else value)


def read_record(path: PathLike, **arguments: Any) -> Any:
    """What a record holds, without its checksum and, but for a config.json, the run that it is of.

    Args:
        path: the file.
        **arguments: of `json.loads`.

    Raises:
        ValueError: it is damaged, of another run, too long, or no JSON.
        OSError: it cannot be read.
    """
    bounds.check_text(os.stat(path).st_size)
    record = parse_record(Path(path).read_text(encoding="utf-8"), **arguments)
    if not isinstance(record, dict) or os.path.basename(path) == owners.CONFIG:
        return record
    if owners.is_foreign(path, record.get(owners.KEY, "")):
        raise ValueError(owners.OTHER)
    return {key: value for key, value in record.items() if key != owners.KEY}


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


def png_text(path: PathLike) -> dict[str, str]:
    """The text that a PNG at a place carries: the run that it is of, where it is of one."""
    owner = owners.of_place(path)
    return {owners.KEY: owner} if owner else {}


def _damage_of_png(path):
    chunks = _chunks(path.read_bytes())
    if chunks is None:
        return "it is no whole PNG"
    named = f"{owners.KEY}\0".encode()
    for kind, content in chunks:
        if kind == b"tEXt" and content.startswith(named):
            owner = content[len(named) :].decode("latin-1")
            return owners.OTHER if owners.is_foreign(path, owner) else None
    return None


def _chunks(data):
    """(kind, content) of the chunks of a PNG; None where it is no whole one.

    It is a signature and whole chunks, the last of them its end.

    Reference:
        - PNG specification, third edition (W3C 2025), sections 5.2 and 5.3.
    """
    place, kind, found = len(_PNG), None, []
    while kind != b"IEND" and place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        found.append((kind, data[place + 8 : end - 4]))
        place = end
    is_whole = data.startswith(_PNG) and kind == b"IEND" and place == len(data)
    return found if is_whole else None
