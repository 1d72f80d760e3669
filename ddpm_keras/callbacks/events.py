"""Event files for TensorBoard: one a directory, with which a later part of a training goes on.

TensorFlow's own writer begins a file each time, where TensorBoard's reader leaves one for the next
and never comes back, and it ends the process where a disk is full.
"""

import io
import os
import struct
import time
import warnings
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from .. import checksums, files
from ..reading import owners
from ..reading.event_files import FOOT, HEAD

_PREFIX, _SUFFIX = "events.out.tfevents.", ".ddpm-keras"  # by which other programs' are left alone
_WRITER = "ddpm-keras run "  # and its id
_LONGEST_BEGINNING = 1000  # bytes of a file up to the end of its first event


def image(tag, picture):
    """The `Summary` of a `PIL.Image`, as TensorBoard's page of images takes it."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    size = [str(side).encode() for side in picture.size]
    tensor = make_tensor_proto([*size, png.getvalue()], np.object_)
    metadata = create_summary_metadata(display_name=None, description=None)
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])


def append(directory, step, summaries):
    """Adds summaries to the event file of a directory, and is back when they are on the disk.

    Args:
        directory: a path; made if missing.
        step: that they are of.
        summaries: a sequence of `Summary`.
    """
    directory = Path(directory)
    found = _files(directory)
    if not found:
        directory.mkdir(parents=True, exist_ok=True)
    new = [_event(step=step, summary=summary) for summary in summaries]
    with open(found[-1] if found else _new_file(directory, ()), "ab", buffering=0) as file:
        file.write(_records(new if found else [*_beginning(directory), *new]))
        os.fsync(file.fileno())


def cut(directory, step):
    """Removes from the event files of a directory what is later than a step, or damaged.

    Of damage a warning tells, and of a file of another run, which is renamed. What is kept goes
    into a file of a new name, so that a TensorBoard that has read the old one reads on there, and
    shows nothing twice.
    """
    directory = Path(directory)
    for path in filter(_is_foreign, _files(directory)):
        kept = path.replace(path.with_name(path.name.replace("tfevents", "of-another-run")))
        warnings.warn(f"{checksums.told(path, owners.OTHER)}; kept as {kept}.", stacklevel=2)
    found = _files(directory)
    damaged = [path for path in found if not _is_whole(path)]
    for path in damaged:
        warnings.warn(f"{path} is damaged; what is whole of it is kept.", stacklevel=2)
    steps = {record: of for path in found for record, of in _read(path, path in damaged).items()}
    kept = [record for record, of in steps.items() if of is not None and of <= step]
    if len(found) <= 1 and not damaged and all(of is None or of <= step for of in steps.values()):
        return
    with files.atomic_path(_new_file(directory, found)) as temporary:
        temporary.write_bytes(_records(_beginning(directory)) + b"".join(kept))
    for path in found:
        path.unlink()


def _files(directory):
    """The event files of this package in a directory, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*{_SUFFIX}"))


def _new_file(directory, found):
    """A name that comes after those of the files found, whatever the clock says, as readers go."""
    now = time.time()
    if found:
        now = max(now, float(found[-1].name[len(_PREFIX) : -len(_SUFFIX)]) + 1e-6)
    return directory / f"{_PREFIX}{now:.6f}{_SUFFIX}"


def _event(**what):
    return Event(wall_time=time.time(), **what)


def _beginning(directory):
    """What a file begins with: a reader that has met such a start before forgets what it read.

    The first event names the run that the file is of.
    """
    owner = owners.of_place(directory / "any")
    source = {"writer": f"{_WRITER}{owner}"} if owner else None
    start = _event(step=0, session_log=SessionLog(status=SessionLog.START))
    return [_event(file_version="brain.Event:2", source_metadata=source), start]


def _is_foreign(path):
    """Whether the first event of a file names another run."""
    with open(path, "rb") as file:
        beginning = file.read(_LONGEST_BEGINNING)
    length = int.from_bytes(beginning[:8], "little")
    first, foot = beginning[HEAD:][:length], beginning[HEAD + length :][:FOOT]
    if struct.pack("<I", masked_crc32c(first)) != foot:
        return False  # it is damaged, of which `cut` tells
    writer = Event.FromString(first).source_metadata.writer
    return writer.startswith(_WRITER) and owners.is_foreign(path, writer.removeprefix(_WRITER))


def _records(events):
    """Events as the bytes of a file."""
    file = io.BytesIO()
    for event in events:
        RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()


def _is_whole(path):
    """Whether all records of a file are as they were written, by their checksums."""
    import tensorflow as tf

    def longer(length, record):
        return length + tf.strings.length(record) + HEAD + FOOT

    try:
        length = tf.data.TFRecordDataset(str(path)).reduce(0, longer)
    except tf.errors.DataLossError:
        return False
    # What is too short for a record is passed over; no file of ours is empty.
    return 0 < int(length) == path.stat().st_size


def _read(path, is_damaged):
    """The whole records of a file, a dict bytes -> step of the summary, or None without one.

    The checksums of what they hold, which take Python long, are compared in a damaged file alone.
    """
    data, start, records = path.read_bytes(), 0, {}
    while start + HEAD <= len(data):
        length, checksum = struct.unpack_from("<QI", data, start)
        record = data[start : start + HEAD + length + FOOT]
        if checksum != masked_crc32c(data[start : start + 8]):
            break  # where the next one begins is not known
        start += HEAD + length + FOOT
        held, foot = record[HEAD:-FOOT], record[-FOOT:]
        if is_damaged and (start > len(data) or struct.pack("<I", masked_crc32c(held)) != foot):
            continue
        event = Event.FromString(held)
        records[record] = event.step if event.HasField("summary") else None
    return records
