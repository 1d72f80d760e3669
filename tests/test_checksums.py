"""Damage to any byte of an archive, a record, a picture or a history is found."""

import json

import numpy as np
import pytest
from PIL import Image

from ddpm_keras import checksums, files
from ddpm_keras.app import history

ROWS = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}, {"step": 6, "val_loss_raw": 1e-05}]
RECORD = {"name": "é\U0001f600", "values": [1, 2.5, 1e-07, None, True], "inner": {"x": 1}}


def write_archive(path):
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, a=np.arange(5.0), b=np.ones((2, 3), np.float32))


def write_picture(path):
    Image.new("RGB", (4, 4), "red").save(path)


def write_record(path):
    files.write_record(path, RECORD)


WRITERS = {"file.npz": write_archive, "file.png": write_picture, "file.json": write_record}


@pytest.fixture(params=WRITERS)
def path(request, tmp_path):
    WRITERS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def test_a_flip_of_any_byte_is_found(path):
    data = path.read_bytes()
    assert checksums.damage(path) is None
    for place in range(len(data)):
        bit = 1 << place % 8
        path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        assert checksums.damage(path), f"bit {bit} of byte {place}"


def test_a_file_cut_short_anywhere_is_found(path):
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert checksums.damage(path), length


def test_a_file_that_goes_on_is_found(path):
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        checksums.check(path)


def test_what_is_sealed_reads_as_ever(tmp_path):
    write_archive(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["a"], np.arange(5.0))
    write_record(tmp_path / "a.json")
    assert files.read_record(tmp_path / "a.json") == RECORD
    assert json.loads((tmp_path / "a.json").read_text())["inner"] == {"x": 1}
    assert checksums.is_sealed(tmp_path / "a.json")


def test_files_of_older_versions_are_held_against_what_they_have(tmp_path):
    np.savez(tmp_path / "old.npz", a=np.arange(100.0))
    (tmp_path / "old.json").write_text('{"a": 1}')
    assert checksums.damage(tmp_path / "old.npz") is checksums.damage(tmp_path / "old.json") is None
    assert files.read_record(tmp_path / "old.json") == {"a": 1}
    assert not checksums.is_sealed(tmp_path / "old.json")
    data = bytearray((tmp_path / "old.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "old.npz").write_bytes(data)
    assert "a.npy" in checksums.damage(tmp_path / "old.npz")


def test_a_record_that_was_changed_says_how_to_keep_the_change(tmp_path):
    write_record(tmp_path / "a.json")
    changed = (tmp_path / "a.json").read_text().replace('"x": 1', '"x": 2')
    (tmp_path / "a.json").write_text(changed)
    with pytest.raises(ValueError, match="remove its checksum"):
        files.read_record(tmp_path / "a.json")


# history.csv


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "history.csv"
    history.write(path, ROWS[:1])
    for row in ROWS[1:]:
        history.append(path, row)
    return path


def test_rows_come_back_and_a_new_column_is_taken(log):
    assert history.read(log) == ROWS
    assert log.read_text().splitlines()[0] == "step,loss,val_loss_raw,checksum"


def test_damage_to_any_byte_of_a_history_costs_its_line_alone(log):
    data = log.read_bytes()
    for place in range(len(data)):
        log.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
        with pytest.warns(UserWarning, match="history.csv is damaged in line"):
            rows = history.read(log)
        line = data[:place].count(b"\n")
        if line:  # a line whose end is damaged takes the next one with it
            ends = data[place : place + 1] == b"\n"
            assert rows == [r for i, r in enumerate(ROWS, 1) if i not in (line, line + ends)]
        else:
            assert rows in ([], ROWS, ROWS[1:])


@pytest.mark.parametrize(
    ("order", "left"), [((0, 1, 1, 2), [3]), ((0, 2, 1), [3]), ((1, 0, 2), [2])]
)
def test_rows_that_are_whole_but_stand_twice_or_out_of_order_are_left_out(log, order, left):
    head, *rows = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(head + b"".join(rows[i] for i in order))
    lines = ", ".join(str(number + 1) for number in left)
    with pytest.warns(UserWarning, match=f"damaged in line {lines}; left out"):
        found = history.read(log)
    assert found == [ROWS[i] for place, i in enumerate(order, 1) if place not in left]


@pytest.mark.parametrize("cut", [1, 2, 5, 10])
def test_a_torn_row_is_never_glued_to_the_next(log, cut):
    log.write_bytes(log.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="in line 4"):
        history.append(log, {"step": 8, "loss": 0.125})
    assert history.read(log) == [*ROWS[:2], {"step": 8, "loss": 0.125}]


def test_a_history_of_an_older_version_is_read_and_gets_checksums(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,loss\r\n2,0.5\r\n4,0.25\r\n6,0.1")
    with pytest.warns(UserWarning, match="line 4"):
        assert history.read(path) == ROWS[:2]
    with pytest.warns(UserWarning, match="line 4"):
        assert history.cut(path, 2) == ROWS[:1]
    assert path.read_text().splitlines()[0] == "step,loss,checksum"


def test_a_history_that_cannot_be_read_is_set_aside(log):
    content = b"\0" + log.read_bytes()[:20]
    log.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .* it is kept as .*history.csv.damaged"):
        assert history.cut(log, 4) == []
    assert not log.exists()
    assert log.with_name("history.csv.damaged").read_bytes() == content


def test_pandas_and_spreadsheets_read_numbers(log):
    cells = [line.split(",") for line in log.read_text().splitlines()[1:]]
    assert all(cell == "" or float(cell) is not None for row in cells for cell in row)
    assert all(row[-1].isdecimal() for row in cells)
