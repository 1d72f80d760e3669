"""What a run has left behind by a checkpoint, so that what is gone since then is missed."""

from .. import checksums, names
from ..data.words import few
from ..reading import event_files


def of(run):
    """What lies in the directory of a run, a dict path -> bytes; of event files those of a folder.

    Args:
        run: a `Run`.
    """
    pictures = (path for path in run.samples.glob("*.png") if _is_of_run(path.name))
    snapshots = (
        path for path in run.snapshots.glob("*") if names.parse_snapshot(path.name) is not None
    )
    events = filter(lambda path: path.is_dir(), run.tensorboard.glob("*"))
    records = filter(lambda path: path.is_file(), [run.trajectory])
    found = sorted((*pictures, *snapshots, *events, *records))
    return {path.relative_to(run.path).as_posix(): _size(path) for path in found}


def tell_what_is_gone(run, record):
    """Warns of files that are gone since a checkpoint, and of event files that are shorter.

    Whether any other file is as it was is told by its own checksums.

    Args:
        run: a `Run`.
        record: a `run_record.Checkpoint` of it.
    """
    lost = [_lost(run.path / name, name, then) for name, then in record.files.items() if then]
    if any(lost):
        checksums.say_once(
            f"{run.path} has lost {few(list(filter(None, lost)))}, which were there at step "
            f"{record.step}; going on without."
        )


def _lost(path, name, then):
    """What is gone of so many bytes, or None; of torn event files `events.cut` tells."""
    if not path.is_dir():
        return None if path.exists() else name  # one that is empty is told by who reads it
    now = _size(path)
    files = event_files.found(path)
    if now < then and all(map(event_files.ends_with_a_record, files)):
        return f"{then - now} bytes of {name}" if files else name
    return None


def _is_of_run(name):
    return name == names.REAL_PICTURE or names.parse_picture(name) is not None


def _size(path):
    """Bytes of a file, 0 where there is none, or of the event files of a folder."""
    if path.is_dir():
        return sum(each.stat().st_size for each in event_files.found(path))
    return path.stat().st_size if path.is_file() else 0
