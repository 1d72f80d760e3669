"""TensorBoard's event files: records, each with its length before and checksums around it."""

import struct
from pathlib import Path

from ..aliases import PathLike

HEAD, FOOT = struct.calcsize("<QI"), struct.calcsize("<I")  # length and checksum; checksum
PATTERN = "events.out.tfevents.*"  # of their names


def found(folder: PathLike) -> list[Path]:
    """Those of a folder."""
    return list(Path(folder).glob(PATTERN))


def ends_with_a_record(path: PathLike) -> bool:
    """Whether a file is not empty and ends where a record does, as far as the lengths tell."""
    with open(path, "rb") as file:
        size, place = file.seek(0, 2), 0
        while place < size:
            file.seek(place)
            place += HEAD + int.from_bytes(file.read(8), "little") + FOOT
    return 0 < size == place
