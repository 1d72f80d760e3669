"""The seal of an archive: a comment at its end, with the SHA-256 of all that comes before.

It also names the run that the archive is of. Zip files have room for a comment there, so that
whatever reads them reads these as well.
"""

import hashlib
import re
import zipfile

from ..aliases import PathLike
from . import owners

ARCHIVES = (".npz", ".keras")
_SUM = b"sha256 "
_DIGITS = 64
_SEAL = re.compile(rb"(?:run ([0-9a-f]{1,64}) )?sha256 [0-9a-f]{64}\Z")
_LONGEST = len(b"run  ") + 64 + len(_SUM) + _DIGITS
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


def seal(path: PathLike) -> None:
    """Writes its checksum, and the run in whose directory it is, into the comment of a zip file."""
    owner = owners.of_place(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = (f"run {owner} ".encode() if owner else b"") + _SUM + b"0" * _DIGITS
    digest = sha256(path, without=_DIGITS)
    with open(path, "rb+") as file:
        file.seek(-_DIGITS, 2)
        file.write(digest.encode())


def damage(path: PathLike) -> str | None:
    """What is wrong with an archive by its seal alone; None if it has none, and needs none."""
    return _damage(path)[0]


def damage_of_archive(path: PathLike) -> str | None:
    """What is wrong with an archive by its seal, or by the checksums of its members."""
    reason, is_sealed = _damage(path)
    if reason or is_sealed:
        return reason
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile and zlib fail on broken files in many ways
        return f"it is cut short or no archive: {' '.join(str(error).split())[:100]}"
    return wrong and f"the checksum of its {wrong} is another"


def _damage(path):
    """(what is wrong or None, whether there is a seal)."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - _LONGEST))
        end = file.read()
    found = _SEAL.search(end)
    if not found and not end.endswith(b"\0\0"):  # which say that there is no comment
        return "it is cut short or no archive", False
    if found and sha256(path, without=_DIGITS).encode() != end[-_DIGITS:]:
        return "its checksum is another", True
    if found and found[1] and owners.is_foreign(path, found[1].decode()):
        return owners.OTHER, True
    return None, bool(found)
