"""Snapshots of power-function averages on disk: one .npz file a time."""

import dataclasses
import json
import os

import numpy as np

from .. import checksums, names
from ..files import atomic_path
from ..reading import json_text, npz

FORMAT = "ddpm-keras power-function snapshot, version 1"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One file: when it was taken and the widths it holds (none: these are initial weights)."""

    path: str
    step: int
    widths: tuple
    dtype: str


def write_snapshot(directory, ema, dtype="float32"):
    """Stores the power-function averages of an `EMA` as they are, or the initial weights at step 0.

    The file appears under its final name only when it is complete.

    Args:
        directory: Where to write; made if missing.
        ema: An `EMA` with `snapshot_widths`.
        dtype: "float32" or "float16" (half the size, three digits).

    Returns:
        The `Snapshot` written.
    """
    check_dtype(dtype)
    step = ema.last_move
    widths = ema.snapshot_widths if step else ()
    arrays, averaged = {}, set(ema.averaged_positions)
    for row, width in enumerate(widths or (None,)):
        variables = ema.sources if width is None else ema.snapshot_variables(width)
        for i, variable in enumerate(variables):
            if i in averaged:
                arrays[f"{row}_{i}"] = _stored(variable.numpy(), dtype)
            elif row == 0:
                arrays[f"copy_{i}"] = variable.numpy()
    record = {"format": FORMAT, "step": step, "widths": widths, "dtype": dtype}
    arrays["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    path = os.path.join(directory, names.snapshot(step))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    return Snapshot(path, step, tuple(widths), dtype)


def check_dtype(dtype):
    """`dtype`; refused where it is no dtype of snapshots."""
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype of snapshots must be 'float32' or 'float16'; got {dtype!r}.")
    return dtype


def _stored(value, dtype):
    stored = np.asarray(value, np.float32).astype(dtype)
    if dtype == "float16" and not np.array_equal(np.isfinite(stored), np.isfinite(value)):
        raise ValueError("A weight is too large for float16 snapshots: use dtype='float32'.")
    return stored


def list_snapshots(directory):
    """The snapshots of a run, oldest first.

    Args:
        directory: A run directory, or the directory with the snapshots itself.

    Returns:
        A list of `Snapshot`, without those that are damaged, of which a warning tells.

    Raises:
        ValueError: If there is no such directory, or a file in it is something else.
    """
    directory = os.fspath(directory)
    inner = os.path.join(directory, "snapshots")
    directory = inner if os.path.isdir(inner) else directory
    if not os.path.isdir(directory):
        raise ValueError(f"There is no directory {directory}: give a run or its snapshots.")
    found = sorted(n for n in os.listdir(directory) if names.parse_snapshot(n) is not None)
    whole = filter(checksums.is_whole, [os.path.join(directory, name) for name in found])
    return sorted(map(_read_record, whole), key=lambda snapshot: snapshot.step)


def _read_record(path):
    try:
        text = npz.read(path, "record".__eq__)["record"].tobytes().decode()
        record = json_text.parse(text)
        if record["format"] != FORMAT:
            raise ValueError("it is of another kind")
        if record["step"] != names.parse_snapshot(os.path.basename(path)):
            raise ValueError("its name is of another step")
        return Snapshot(path, record["step"], tuple(record["widths"]), record["dtype"])
    except (OSError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is not a snapshot of power-function averages: remove it."
        ) from None


def initial_values(snapshot):
    """The averaged weights in the snapshot of step 0: place in `network.weights` -> array."""
    return read_arrays(snapshot, "0_")


def read_arrays(snapshot, prefix):
    """The arrays of a snapshot with this prefix, by their place in `network.weights`."""
    arrays = npz.read(snapshot.path, lambda name: name.startswith(prefix))
    return {int(name[len(prefix) :]): array for name, array in arrays.items()}


def averages(snapshot, row, places=()):
    """The averages of a width of a snapshot, float32, by their place in `network.weights`.

    Args:
        row: Number of the width.
        places: Of weights that are averaged in a later one. Those that were frozen until then were
            copied, and so are their own average.
    """
    arrays = read_arrays(snapshot, f"{row}_")
    if not arrays.keys() >= set(places):
        copies = read_arrays(snapshot, "copy_")
        arrays |= {i: copies[i] for i in places if i not in arrays}
    return {i: array.astype(np.float32) for i, array in arrays.items()}
