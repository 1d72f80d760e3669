"""Each reader of `tests/soak/fuzz_readers.py` on good files and on a few that are damaged."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "soak"))
from fuzz_readers import READERS  # noqa: E402


def damaged(data, choice):
    """A file with a few bytes changed, cut out or put in."""
    data = bytearray(data)
    for _ in range(choice.choice((1, 2, 8))):
        place = choice.randrange(len(data) + 1)
        data[place : place + choice.choice((0, 1, 1, 4))] = choice.randbytes(choice.choice((0, 1)))
    return bytes(data[: choice.choice((len(data), choice.randrange(len(data) + 1)))])


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_refuses_in_one_line(name, tmp_path):
    reader, choice = READERS[name], random.Random(name)
    good = reader.good()
    reader.beside(tmp_path)
    for data in (*good, *(damaged(choice.choice(good), choice) for _ in range(12))):
        reader.check(tmp_path, data)


HOSTILE_TOO = {"torch", "pickle", "npz", "tfds", "keras"}  # whose first good file is no whole set


@pytest.mark.parametrize("name", sorted(READERS.keys() - HOSTILE_TOO))
def test_a_good_file_is_read(name, tmp_path):
    reader = READERS[name]
    path = tmp_path / reader.file
    path.write_bytes(reader.wrap(reader.good()[0]))
    reader.read(path)
