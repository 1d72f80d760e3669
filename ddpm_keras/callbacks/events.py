"""Event files for TensorBoard: one a directory, with which a later part of a training goes on.

TensorFlow's own writer begins a file each time, where TensorBoard's reader leaves one for the next
and never comes back, and it ends the process where a disk is full.
"""

import io
import os
import struct
import time
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from .. import files

_PREFIX, _SUFFIX = "events.out.tfevents.", ".ddpm-keras"  # by which other programs' are left alone
_HEAD, _FOOT = struct.calcsize("<QI"), struct.calcsize("<I")  # length and checksum; checksum


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
    with open(found[-1] if found else _new_file(directory), "ab", buffering=0) as file:
        file.write(_records(new if found else [*_beginning(), *new]))
        os.fsync(file.fileno())


def cut(directory, step):
    """Removes from the event files of a directory what is later than a step, or torn.

    What is kept goes into a file of a new name, so that a TensorBoard that has read the old one
    reads on there, and shows nothing twice.
    """
    directory = Path(directory)
    found = _files(directory)
    read = [_read(path) for path in found]
    steps = {record: step for records, _ in read for record, step in records.items()}
    kept = [record for record, of in steps.items() if of is not None and of <= step]
    torn = any(rest for _, rest in read)
    if len(found) <= 1 and not torn and all(of is None or of <= step for of in steps.values()):
        return
    with files.atomic_path(_new_file(directory)) as temporary:
        temporary.write_bytes(_records(_beginning()) + b"".join(kept))
    for path in found:
        path.unlink()


def _files(directory):
    """The event files of this package in a directory, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*{_SUFFIX}"))


def _new_file(directory):
    return directory / f"{_PREFIX}{time.time():.6f}{_SUFFIX}"


def _event(**what):
    return Event(wall_time=time.time(), **what)


def _beginning():
    """What a file begins with: a reader that has met such a start before forgets what it read."""
    start = _event(step=0, session_log=SessionLog(status=SessionLog.START))
    return [_event(file_version="brain.Event:2"), start]


def _records(events):
    """Events as the bytes of a file."""
    file = io.BytesIO()
    for event in events:
        RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()


def _read(path):
    """The whole records of a file, a dict bytes -> step of the summary or None; and the rest."""
    data, start, records = path.read_bytes(), 0, {}
    while start + _HEAD <= len(data):
        length, checksum = struct.unpack_from("<QI", data, start)
        if checksum != masked_crc32c(data[start : start + 8]):
            break
        record = data[start : start + _HEAD + length + _FOOT]
        try:
            event = Event.FromString(record[_HEAD:-_FOOT])
        except DecodeError:
            break
        if len(record) < _HEAD + length + _FOOT:
            break
        records[record] = event.step if event.HasField("summary") else None
        start += len(record)
    return records, data[start:]
