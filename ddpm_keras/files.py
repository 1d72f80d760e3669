"""Files that appear under their final name only when they are complete."""

import contextlib
import errno
import json
import os
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

from . import checksums
from .reading import seals
from .reading.seals import sha256 as sha256

# Bytes that file systems allow for one name; and for a path, with room for what lies below it.
LONGEST_NAME, LONGEST_PATH = 255, 3800
PARTIAL = ".partial-"  # how the name of a file begins that is not complete
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what a disk says that has no room


def a_path(value, name):
    """A `Path`, refused by the name of its argument if it is none."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{name} must be a path; got {value!r:.80}.")
    return Path(value)


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path`, which takes its name if the block succeeds.

    The temporary file keeps the suffixes of the final one, since writers choose the format by it,
    and only the end of its name, which might be as long as a name can be. An archive is sealed, see
    `reading.seals`. Where the block raises, it is removed and what was at `path` stays as it was.

    Raises:
        OSError: it cannot be written; of a full disk with the name of `path`.

    Example:

    >>> with atomic_path("model.keras") as temporary:
    ...     model.save(temporary)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=f"-{path.name[-40:]}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if path.suffix in seals.ARCHIVES and zipfile.is_zipfile(temporary):
            seals.seal(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL or error.filename == name:  # which none but this function knows
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def errors_of(path):
    """Gives an `OSError` of the block the name of a file, which that of a full disk has not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def one_at_a_time(path, what):
    """Lets one process at a time into the block, by a lock of the operating system on a file.

    Args:
        path: of that file, which is there while a process holds or awaits the lock.
        what: what the others are told that they wait for, as in "prepares the images".

    Raises:
        OSError, NotImplementedError: it cannot be written or locked; before the block.
    """
    import filelock
    from tqdm import tqdm

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        tqdm.write(f"Waiting for another process that {what} ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who opened it by now tries again
        lock.release()


@contextlib.contextmanager
def made_by_one(path):
    """Lets one process at a time make a file, by `one_at_a_time`.

    Where no lock can be written the block is entered all the same: the file may be there already,
    to be read alone.

    Args:
        path: of the file that is made, a `Path`.
    """
    with contextlib.ExitStack() as held:
        lock = one_at_a_time(path.with_name(f"{path.name}.lock"), f"makes {path}")
        with contextlib.suppress(OSError, NotImplementedError):
            held.enter_context(lock)
        yield


def typed(argument):
    """What one types in a command line for it: a path that begins as an option does is no option.

    Args:
        argument: a path, or anything with a `str`.
    """
    text = str(argument)
    return f"./{text}" if isinstance(argument, os.PathLike) and text.startswith("-") else text


def check_writable(folder):
    """Refuses a folder that cannot be written to, or not be made; nothing is left behind.

    Args:
        folder: a path; folders above it that are missing would be made, too.

    Raises:
        OSError: of the nearest folder above that exists, or of a name that is too long.
    """
    folder = Path(folder)
    whole = len(os.fsencode(os.path.abspath(folder)))
    if whole > LONGEST_PATH or any(len(os.fsencode(x)) > LONGEST_NAME for x in folder.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder))
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:  # which would name the temporary file
        raise OSError(error.errno, error.strerror, str(nearest)) from None


def check_new_folder(path):
    """Refuses a folder that could not be made, or that holds something.

    Raises:
        ValueError: something is there already.
        OSError: it cannot be written to.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already: give a new or empty folder.")
    check_writable(path)


def _umask():
    """The process's file creation mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path, text):
    """Writes `text` to `path`, `encoded`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded(text))


def encoded(text):
    """`text` in UTF-8, bytes; what that has not, as of names of files, is spelled out."""
    return text.encode("utf-8", errors="backslashreplace")


def write_json(path, value):
    """Writes `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_record(path, value):
    """Writes a dict as JSON that names its checksum and its run, whole or not at all."""
    write_text(path, checksums.record_text(path, value))


read_record = checksums.read_record


def set_aside(path, reason):
    """Renames a file that cannot be read, so that another is begun in its place, with a warning."""
    path = Path(path)
    kept = path.replace(path.with_name(f"{path.name}.damaged"))
    warnings.warn(f"{checksums.told(path, reason)}; it is kept as {kept}.", stacklevel=2)
