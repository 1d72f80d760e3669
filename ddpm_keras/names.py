"""Names, built and read in one place: weight sets, the columns and files that are called by them.

A weight set is "raw", "ema_<average>", or "posthoc_sigma_<width>" and "posthoc_ema_<decay>", which
are synthesised afterwards; "raw@500" is that of step 500 in a run that went on. A column of
history.csv that belongs to a weight set, such as "val_loss_ema_0.999", is the name of what was
measured before that of the weight set.
"""

import hashlib
import re

RAW = "raw"
LAST = "ema"  # stands for the last average, wherever a weight set is asked for

_AVERAGE, _WIDTH, _DECAY, _SNAPSHOT = "ema_", "posthoc_sigma_", "posthoc_ema_", "snapshot_"
_AT = "@"  # no average's name holds it
_COLUMN = re.compile(rf"(.+?)_({RAW}|(?:{_AVERAGE}|{_WIDTH}|{_DECAY}).+)", re.DOTALL)
_PICTURE = re.compile(r"epoch-(\d+)(?:-(.+))?\.png", re.DOTALL)
_LONGEST = 100  # characters of an average's name, which is part of names of files


def number(value):
    """A number as short as it can be told from every other: 0.999, 1e-05, 1."""
    return repr(float(value)).removesuffix(".0")


# Weight sets


def check_averages(names):
    """Refuses names of averages that cannot be told apart, or not be part of a file or a column.

    Args:
        names: what the averages are called, strings.

    Raises:
        ValueError: in one line that names the cure.
    """
    seen = set()
    for name in names:
        wrong = not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or len(name) > _LONGEST
        if wrong or name == RAW or name.startswith(_SNAPSHOT):
            raise ValueError(
                f"{name!r} cannot name an average: use up to {_LONGEST} letters, digits and "
                f"'_.+-' (but not {RAW!r}, nor '{_SNAPSHOT}' at the beginning)."
            )
        if name.casefold() in seen:
            raise ValueError(
                f"Two averages would both be called {name!r}, in small letters or not: pass a dict "
                "name -> decay whose names can be told apart."
            )
        seen.add(name.casefold())


def average(name):
    """The weight set of an average: "0.999" is "ema_0.999"."""
    return f"{_AVERAGE}{name}"


def average_of(weight_set):
    """The average that a weight set is, without the prefix: the inverse of `average`."""
    return weight_set.removeprefix(_AVERAGE)


def of_width(sigma_rel):
    """The weight set synthesised for a relative width."""
    return f"{_WIDTH}{number(sigma_rel)}"


def of_decay(name):
    """The weight set synthesised for a decay of this name."""
    return f"{_DECAY}{name}"


def synthesis(weight_set):
    """What a synthesised weight set was made for: `("sigma_rel" or "decay", text)`, else None."""
    weight_set, _ = split_step(weight_set)
    for prefix, argument in ((_WIDTH, "sigma_rel"), (_DECAY, "decay")):
        if weight_set.startswith(prefix):
            return argument, weight_set.removeprefix(prefix)
    return None


def at_step(weight_set, step):
    """The weight set as it was at an earlier step of its run; None: as it is at the end."""
    return weight_set if step is None else f"{weight_set}{_AT}{step}"


def split_step(weight_set):
    """`(weight set, step)`, the inverse of `at_step`; the step is None where it names none."""
    name, at, step = weight_set.rpartition(_AT)
    return (name, int(step)) if at and step.isdecimal() else (weight_set, None)


def snapshot_average(width):
    """The average that is kept for snapshots of a relative width; it is no weight set."""
    return f"{_SNAPSHOT}{number(width)}"


# Columns of history.csv and of trajectory.npz


def column(what, weight_set):
    """The column of what was measured of a weight set, such as `column("val_loss", "raw")`."""
    return f"{what}_{weight_set}"


def parse_column(name):
    """`(what, weight set)` of a column, or None for one that belongs to no weight set."""
    match = _COLUMN.fullmatch(name)
    return match and match.groups()


# Files of a run directory


def picture(epoch, weight_set=None):
    """The file of an epoch's samples of a weight set, or of all of them side by side."""
    return f"epoch-{epoch:04d}.png" if weight_set is None else f"epoch-{epoch:04d}-{weight_set}.png"


def parse_picture(name):
    """`(epoch, weight set or None)` of a file of samples, or None for any other file."""
    match = _PICTURE.fullmatch(name)
    return match and (int(match[1]), match[2])


REAL_PICTURE = "real.png"  # beside them: real images, as many
WRITTEN = "written.json"  # beside figures and tables: which files a report wrote


def checkpoint(step):
    """The file of the weights of the checkpoint made after a step."""
    return f"step-{step:08d}.weights.h5"


def checkpoint_record(step):
    """The file that is written after it, without which a checkpoint does not count."""
    return f"step-{step:08d}.json"


def parse_checkpoint(name):
    """The step of the record of a checkpoint, or None for any other file."""
    match = re.fullmatch(r"step-(\d+)\.json", name)
    return match and int(match[1])


def parse_weights(name):
    """The step of the weights of a checkpoint, or None for any other file."""
    match = re.fullmatch(r"step-(\d+)\.weights\.h5", name)
    return match and int(match[1])


def of_way(what, key, suffix):
    """The file of something measured in one way, by its `Evaluation.key`."""
    return f"{what}-{hashlib.sha256(key.encode()).hexdigest()[:16]}{suffix}"


def nearest(weight_set, key):
    """The file of the samples of a weight set, drawn in one way, nearest to training images."""
    return of_way(f"nearest-{weight_set}", key, ".png")


def snapshot(step):
    """The file of the snapshots taken after a step."""
    return f"snapshot-{step:08d}.npz"


def parse_snapshot(name):
    """The step of a file of snapshots, or None for any other file."""
    match = re.fullmatch(r"snapshot-(\d+)\.npz", name)
    return match and int(match[1])
