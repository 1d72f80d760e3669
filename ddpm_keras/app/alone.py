"""A run directory that one process has to itself, and what a process that was killed left in it."""

import contextlib
import os
import warnings
from pathlib import Path

from .. import files, names
from ..errors import UsageError

LOCK = ".lock"


@contextlib.contextmanager
def alone(*paths):
    """Keeps every other command from writing to run directories while the block runs.

    The lock is one of the operating system, which ends with the process that holds it, however that
    ends. A directory that is made for it is removed again, unless something was put there.

    Args:
        paths: of the directories; those that do not exist are made.

    Raises:
        UsageError: another process has one of them.
        OSError: one cannot be written to.
    """
    with contextlib.ExitStack() as held:
        for path in {os.path.realpath(each): Path(each) for each in paths}.values():
            held.enter_context(_one(path))
        yield


@contextlib.contextmanager
def _one(path):
    import filelock

    files.check_writable(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(
            f"{path} is in use by another process; wait for its end, or name another directory."
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        warnings.warn(f"{path} cannot be locked ({reason}): use it once at a time.", stacklevel=2)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held: who opened it by now tries again
            (path / LOCK).unlink()
        lock.release()
        _remove_empty(made)


def _remove_empty(folders):
    """Removes folders, the innermost first, up to one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def tidy(run):
    """Removes what a killed process left half done in a run that this one has to itself."""
    for path in filter(Path.is_file, run.path.rglob(f"{files.PARTIAL}*")):
        path.unlink()
    for weights in run.checkpoints.glob("*.weights.h5"):
        step = names.parse_weights(weights.name)
        if step is not None and not (run.checkpoints / names.checkpoint_record(step)).exists():
            weights.unlink()
