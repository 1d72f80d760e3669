"""What a run has left behind by a checkpoint, so that what is gone since then is missed."""

from .. import checksums, names
from ..data.words import few


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
    found = sorted((*pictures, *snapshots, *events))
    return {path.relative_to(run.path).as_posix(): _size(path) for path in found}


def tell_what_is_gone(run, record):
    """Warns of files that are gone since a checkpoint, and of event files that are shorter.

    Whether any other file is as it was is told by its own checksums.

    Args:
        run: a `Run`.
        record: a `run_record.Checkpoint` of it.
    """
    sizes = {name: (size, _size(run.path / name)) for name, size in record.files.items()}
    lost = [name for name, (then, now) in sizes.items() if then and not now]
    for name, (then, now) in sizes.items():
        if (run.path / name).is_dir() and 0 < now < then:
            lost.append(f"{then - now} bytes of {name}")
    if lost:
        checksums.say_once(
            f"{run.path} has lost {few(lost)}, which were there at step {record.step}; "
            "going on without."
        )


def _is_of_run(name):
    return name == names.REAL_PICTURE or names.parse_picture(name) is not None


def _size(path):
    """Bytes of a file, 0 where there is none, or of the event files of a folder."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.glob("events.out.tfevents.*"))
    return path.stat().st_size if path.is_file() else 0
