"""Event files: one a directory, gone on with, and read by TensorBoard while they grow."""

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from ddpm_keras.callbacks import events


def write(folder, *steps):
    for step in steps:
        events.append(folder, step, [scalar_pb("loss", step / 2), scalar_pb("other", step)])


def read(reader, tag="loss"):
    reader.Reload()
    return [event.step for event in reader.Tensors(tag)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "raw"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_that_is_open_sees_what_is_added(folder):
    write(folder, 1)
    reader = EventAccumulator(str(folder))
    assert read(reader) == [1]
    write(folder, 2)
    events.append(folder, 2, [events.image("samples", Image.new("RGB", (3, 2)))])
    write(folder, 3)
    assert read(reader) == read(reader, "other") == [1, 2, 3] and len(names(folder)) == 1
    assert [float(v) for e in reader.Tensors("loss") for v in e.tensor_proto.float_val] == [
        0.5, 1.0, 1.5,
    ]  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_what_is_later_is_removed_and_seen_once(folder, step):
    write(folder, 1, 2, 3)
    before, reader = names(folder), EventAccumulator(str(folder))
    assert read(reader) == [1, 2, 3]
    events.cut(folder, step)
    assert (names(folder) == before) == (step == 3) and len(names(folder)) == 1
    write(folder, *range(step + 1, 5))
    assert read(reader) == read(EventAccumulator(str(folder))) == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"\x07", b"\x05" + bytes(11) + b"torn", bytes(16)], ids=repr)
def test_a_torn_end_is_said_and_removed(folder, damage):
    write(folder, 1, 2)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes() + damage)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged; what is whole of it is kept"):
        events.cut(folder, 2)
    write(folder, 3)
    assert read(EventAccumulator(str(folder))) == [1, 2, 3]


def test_damage_to_any_byte_is_said_and_costs_no_more_than_what_follows_it(folder):
    write(folder, 1, 2, 3)
    (path,) = folder.iterdir()
    data = path.read_bytes()
    records = list(events._read(path, False))
    starts = np.cumsum([0, *map(len, records)])
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        assert not events._is_whole(path), place
        struck = np.searchsorted(starts, place, "right") - 1
        of_length = place - starts[struck] < events.HEAD  # where the next one begins is lost, too
        left = records[:struck] + ([] if of_length else records[struck + 1 :])
        assert list(events._read(path, True)) == left, place
    path.write_bytes(data[: len(data) // 2])
    assert not events._is_whole(path)


def test_a_cut_that_was_interrupted_is_made_again(folder):
    write(folder, 1, 2)
    (path,) = folder.iterdir()
    old = path.read_bytes()
    events.cut(folder, 1)
    path.write_bytes(old)  # not removed yet
    events.cut(folder, 1)
    write(folder, 2)
    assert read(EventAccumulator(str(folder))) == [1, 2] and len(names(folder)) == 1


def test_a_reader_goes_on_though_the_clock_was_set_back(folder, monkeypatch):
    write(folder, 1, 2)
    reader = EventAccumulator(str(folder))
    assert read(reader) == [1, 2]
    monkeypatch.setattr(events.time, "time", lambda: 1e9)
    events.cut(folder, 1)
    write(folder, 2, 3)
    assert read(reader) == read(EventAccumulator(str(folder))) == [1, 2, 3]


def test_files_of_other_programs_are_left_alone(folder):
    folder.mkdir()
    (folder / "events.out.tfevents.1.host").write_bytes(b"another's")
    write(folder, 1)
    events.cut(folder, 0)
    assert (folder / "events.out.tfevents.1.host").read_bytes() == b"another's"


def test_an_image_is_read_as_it_was(folder):
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    events.append(folder, 5, [events.image("samples", picture)])
    reader = EventAccumulator(str(folder)).Reload()
    (event,) = reader.Tensors("samples")
    width, height, png = event.tensor_proto.string_val
    assert (event.step, width, height, png[:4]) == (5, b"4", b"2", b"\x89PNG")
    assert reader.SummaryMetadata("samples").plugin_data.plugin_name == "images"
