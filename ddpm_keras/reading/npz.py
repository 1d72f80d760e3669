"""Arrays in `.npz` and `.npy` files, none of which is unpickled or larger than its file allows."""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from ..aliases import PathLike
from ..errors import UsageError
from . import bounds, seals
from .zips import opened

_LONGEST_HEADER = 10_000  # characters, as NumPy's own bound


def read(
    path: PathLike, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file, by their names.

    Args:
        path: the file.
        wanted: whether an array of this name is read; by default all are.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, holds Python objects, or would take far more memory than it has
            bytes.
    """
    return _each(path, wanted, read_array)


def map_member(
    path: PathLike, name: str, unpack: Callable[[IO[bytes], int], PathLike]
) -> np.ndarray:
    """An array of an `.npz` file as a read-only memory map of a copy; it raises what `read` does.

    Args:
        path: the file.
        name: of the array.
        unpack: function of a file and how many bytes it holds that copies them, and gives the path.
    """

    def take(file, length):
        copy = unpack(file, length)
        if file.read(1):  # which is also when an archive compares its checksum
            raise ValueError("it goes on after its array")
        return map_npy(copy)

    return _each(path, name.__eq__, take)[name]


def _each(path, wanted, take):
    """dict name -> `take(file in the format of .npy, its bytes)` of the arrays of an archive."""
    with damage_as_value_error(), opened(path) as archive:
        _check_seal(path)
        found = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if wanted(name):
                with damage_as_value_error(f"{name[:60]!r}: "), archive.open(member) as file:
                    found[name] = take(file, member.file_size)
        return found


def _check_seal(path):
    """Refuses a file whose own checksum is another, see `checksums`."""
    reason = seals.damage(path)
    if reason:
        raise ValueError(f"it is damaged: {reason}")


def lengths(path: PathLike) -> dict[str, int]:
    """The bytes of the arrays in an `.npz` file, by their names; it raises what `read` does."""
    with damage_as_value_error(), opened(path) as archive:
        members = archive.infolist()
    return {each.filename.removesuffix(".npy"): each.file_size for each in members}


def read_npy(path: PathLike) -> np.ndarray:
    """The array of an `.npy` file; what it raises is that of `read`."""
    with damage_as_value_error(), open(path, "rb") as file:
        return read_array(file, os.fstat(file.fileno()).st_size)


def read_array(file: IO[bytes], length: int) -> np.ndarray:
    """The array that a file in the format of `.npy` holds, which has so many bytes.

    Raises:
        ValueError: it is damaged, holds Python objects, or ends before or after its array.
    """
    _check_header(file, length)
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_LONGEST_HEADER)
    if file.read(1):  # which is also when an archive compares its checksum
        raise ValueError("it goes on after its array")
    return array


def map_npy(path: PathLike) -> np.ndarray:
    """As `read_npy`, but the array stays in its file, a read-only memory map."""
    with damage_as_value_error(), open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        if _check_header(file, length) < length - file.tell():
            raise ValueError("it goes on after its array")
        return np.load(path, "r", allow_pickle=False, max_header_size=_LONGEST_HEADER)


def _check_header(file, length):
    """The bytes of the array in a file in the format of `.npy`, which has as many or more."""
    shape, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if not dtype.itemsize:
        raise ValueError("its values have no bytes")
    needed = math.prod(shape) * dtype.itemsize  # Python's integers do not overflow
    if needed > length:
        raise ValueError("its array is longer than the file")
    return needed


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of the array in a file in the format of `.npy`.

    Raises:
        ValueError: it is no such file.
    """
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    of_version = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
        shape, _, dtype = of_version[not first](file, max_header_size=_LONGEST_HEADER)
    if min(shape, default=0) < 0:
        raise ValueError("its shape is negative")
    return shape, dtype


def check_converted(what: str, arrays: dict[str, np.ndarray], copies: int, path: PathLike) -> None:
    """Refuses arrays that would take too much as float64, in so many copies; see `bounds.check`."""
    size = sum(array.size for array in arrays.values())
    bounds.check(what, 8 * copies * size, os.stat(path).st_size)


@contextlib.contextmanager
def damage_as_value_error(where: str = "") -> Iterator[None]:
    """NumPy, zipfile and zlib fail on broken files in many ways."""
    try:
        yield
    except UsageError:  # of who was called in the block
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{where}it is damaged: {_in_one_line(error)}") from None
    except ValueError as error:
        raise ValueError(f"{where}{_in_one_line(error)}") from None
    except Exception as error:
        raise ValueError(f"{where}it is damaged: {_in_one_line(error)}") from None


def _in_one_line(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
