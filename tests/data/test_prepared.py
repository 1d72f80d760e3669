"""Prepared data sets: the same to the bit as in memory, found again, gone on with, made anew."""

import dataclasses
import gzip
import os
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest
from images_on_disk import idx_folder
from PIL import Image
from refusals import assert_refused

from ddpm_keras import data
from ddpm_keras.data import preparation, rows, scratch


def colours(count, side=6, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, side, side, 3), np.uint8)


def folder(root, count=12, names=("a", "b")):
    """Images of two classes."""
    for number, image in enumerate(colours(count)):
        path = root / names[number % len(names)] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def photos(root):
    return {"name": folder(root / "photos")}


def photos_in_parts(root):
    for part in ("train", "test"):
        folder(root / "photos" / part)
    return {"name": root / "photos", "image_size": (4, 5), "channels": 1}


def broken_photos(root):
    path = folder(root / "photos") / "a" / "00.png"
    path.write_bytes(path.read_bytes()[:80])
    return {"name": root / "photos", "on_unreadable": "skip"}


def arrays(root):
    np.savez_compressed(root / "x.npz", images=colours(30), labels=np.arange(30) % 3)
    return {"name": root / "x.npz", "held_out": 0.3, "seed": 5}


def arrays_in_parts(root):
    parts = {"x_train": colours(9), "x_test": colours(4), "y_train": [*"abcabcabc"]}
    np.savez(root / "x.npz", **parts, y_test=[*"abca"])
    return {"name": root / "x.npz", "image_size": 4}


def fortran_array(root):
    np.save(root / "x.npy", np.asfortranarray(colours(20)))
    return {"name": root / "x.npy", "channels": 1}


def idx(root):
    names = {"train-images-idx3-ubyte": 9, "train-labels-idx1-ubyte": 9}
    names |= {"t10k-images-idx3-ubyte": 4, "t10k-labels-idx1-ubyte": 4}
    return {"name": idx_folder(root / "idx", names)}


def packed_idx(root):
    names = {"train-images-idx3-ubyte.gz": 9, "train-labels-idx1-ubyte.gz": 9}
    return {"name": idx_folder(root / "idx", names, compress=True)}


def digits(root):
    return {"name": "digits", "image_size": 6}


SOURCES = (photos, photos_in_parts, broken_photos, arrays, arrays_in_parts, fortran_array, idx)
SOURCES = (*SOURCES, packed_idx, digits)


def assert_same(found, expected):
    """Both are the same `ImageData`, to the bit."""
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other, strict=False)
            assert one.dtype == other.dtype
        elif field.name != "checksum":
            assert one == other, field.name
    assert found.fingerprint == expected.fingerprint
    assert dataclasses.replace(found, checksum=None).fingerprint == expected.fingerprint


def prepared_file(cache):
    (path,) = cache.glob("*.npz")
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_a_prepared_set_is_that_in_memory(source, tmp_path, monkeypatch):
    given = source(tmp_path)
    cache, calls = tmp_path / "cache", []
    expected = data.load(**given)
    assert_same(
        data.load(**given, cache=cache, progress=lambda *call: calls.append(call)), expected
    )
    assert (calls and calls[-1][0] == calls[-1][1]) or source is digits  # which are decoded
    monkeypatch.setattr(preparation, "_prepare", None)  # a second time there is nothing to do
    found = data.load(**given, cache=cache)
    assert_same(found, expected)
    assert isinstance(found.train, np.memmap) and not found.train.flags.writeable
    assert {path.suffix for path in cache.iterdir()} == {".npz"}
    again = data.load(prepared_file(cache))  # which is a data set itself
    np.testing.assert_array_equal(again.train, expected.train)


def many_arrays(root, images):
    np.savez(root / "x.npz", images=images, labels=np.arange(len(images)) % 3)
    return root / "x.npz"


def many_packed_arrays(root, images):
    np.savez_compressed(root / "x.npz", images)
    return root / "x.npz"


def many_idx(root, images):
    (root / "idx").mkdir()
    with gzip.open(root / "idx" / "train-images-idx4-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(struct.pack(">HBB4I", 0, 8, 4, *images.shape))
        file.write(images)
    return root / "idx"


@pytest.mark.parametrize("source", [many_arrays, many_packed_arrays, many_idx])
def test_arrays_are_prepared_in_less_memory_than_they_have_bytes(source, tmp_path):
    images = np.tile(colours(64, side=64), (64, 1, 1, 1))
    path = source(tmp_path, images)
    tracemalloc.start()
    try:
        found = data.load(path, cache=tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.train) + len(found.held_out) == len(images)
    assert peak < images.nbytes / 2, f"{peak / 2**20:.0f} of {images.nbytes / 2**20:.0f} MiB"


KEYS = {
    "slice": slice(1, 5),
    "negative": slice(-3, None),
    "step": slice(None, None, 2),
    "number": 3,
    "last": -1,
    "numbers": [4, 0, 4],
    "array": np.array([-1, 2]),
    "mask": np.arange(9) % 2 == 0,
    "tuple": (slice(None), 0),
    "ellipsis": (..., 1),
}


@pytest.fixture
def mapped(tmp_path):
    """(a memory map of 9 images, the same in memory)"""
    given = arrays_in_parts(tmp_path)
    return data.load(**given, cache=tmp_path / "c").train, data.load(**given).train


@pytest.mark.parametrize("key", KEYS)
def test_a_prepared_array_is_indexed_as_any_other(mapped, key):
    found, expected = (images[KEYS[key]] for images in mapped)
    np.testing.assert_array_equal(found, expected)
    if isinstance(KEYS[key], slice):
        np.testing.assert_array_equal(found[[1, 0]], expected[[1, 0]])
        np.testing.assert_array_equal(rows.taken(found, 1), expected[1:])


def test_what_is_computed_of_a_prepared_array_is_in_memory(mapped):
    found, expected = mapped
    assert type(found / 2) is np.ndarray and not rows.is_mapped(found.copy())
    np.testing.assert_array_equal(found / 2, expected / 2)
    assert found.mean() == expected.mean() and found.max() == expected.max()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("start_step", [0, 1, 3, 7])
def test_batches_of_a_prepared_set_are_those_in_memory(mapped, flip, start_step):
    settings = {"batch_size": 4, "seed": 3, "start_step": start_step, "steps": 6, "flip": flip}
    streams = [data.training_stream(images, np.arange(9), **settings) for images in mapped]
    for (x, y), (x_memory, y_memory) in zip(*streams, strict=True):
        assert x.shape == (4, 4, 4, 3)
        np.testing.assert_array_equal(x, x_memory)
        np.testing.assert_array_equal(y, y_memory)


def test_a_share_of_a_batch_is_all_that_is_read(mapped, monkeypatch):
    read = []
    monkeypatch.setattr(
        rows.FileRows, "_read", lambda self, number: read.append(number) or bytes(48)
    )
    stream = data.training_stream(mapped[0], batch_size=8, steps=3, shares=[(0, 2), (2, 4)])
    assert len(list(stream)) == 6 and len(read) == 12  # of 24


def change_image(root):
    Image.fromarray(colours(1, seed=9)[0]).save(root / "a" / "00.png")


def add_image(root):
    Image.fromarray(colours(1)[0]).save(root / "b" / "new.png")


def remove_image(root):
    (root / "a" / "02.png").unlink()


def rename_class(root):
    (root / "a").rename(root / "c")


def add_note(root):
    (root / "readme.txt").write_text("what they are")


@pytest.mark.parametrize("change", [change_image, add_image, remove_image, rename_class, add_note])
def test_a_changed_folder_is_prepared_anew_and_the_stale_file_goes(tmp_path, change):
    given, cache = photos(tmp_path), tmp_path / "cache"
    data.load(**given, cache=cache)
    before = prepared_file(cache)
    os.utime(given["name"] / "a" / "00.png", ns=(1, 1))
    change(given["name"])
    found = data.load(**given, cache=cache)
    assert prepared_file(cache) != before
    (said,) = [note for note in found.notes if "Prepared anew, since" in note]
    others = tuple(note for note in found.notes if note != said)
    assert "has changed" in said
    assert_same(dataclasses.replace(found, notes=others), data.load(**given))


def write_array(path, pixels):
    np.save(path, pixels)
    return path


def write_folder(path, pixels):
    path.mkdir(exist_ok=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(path / f"{number}.ppm")
    return path / "3.ppm"


def write_idx(path, pixels):
    path.mkdir(exist_ok=True)
    file = path / "train-images-idx3-ubyte"
    header = np.array([0x803, len(pixels), 6, 6], ">u4")
    file.write_bytes(header.tobytes() + pixels[..., 0].tobytes())
    return file


@pytest.mark.parametrize(
    ("name", "write"), [("x.npy", write_array), ("photos", write_folder), ("idx", write_idx)]
)
def test_images_replaced_by_as_many_bytes_of_the_same_time_are_prepared_anew(name, write, tmp_path):
    path = tmp_path / name
    kept = write(path, colours(12)).stat()
    first = data.load(path, cache=tmp_path / "cache")
    os.utime(write(path, colours(12, seed=1)), ns=(kept.st_atime_ns, kept.st_mtime_ns))
    found = data.load(path, cache=tmp_path / "cache")
    assert found.fingerprint == data.load(path).fingerprint != first.fingerprint


def test_other_requests_have_other_files(tmp_path):
    given, cache = photos(tmp_path), tmp_path / "cache"
    others = ({}, {"image_size": 4}, {"channels": 1}, {"held_out": 0.5}, {"seed": 1})
    for number, other in enumerate(others, 1):
        assert_same(data.load(**given, **other, cache=cache), data.load(**given, **other))
        assert len(list(cache.glob("*.npz"))) == number


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def empty(path):
    path.write_bytes(b"")


def flip_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_what_it_says(path):
    flip_byte(path, path.read_bytes().index(b"provenance"))


def flip_checksums(path):
    flip_byte(path, path.read_bytes().index(b"crc32_train.npy") + 150)


@pytest.mark.parametrize("damage", [cut, empty, flip_what_it_says, flip_checksums])
def test_a_damaged_file_is_prepared_anew(tmp_path, damage):
    given, cache = photos(tmp_path), tmp_path / "cache"
    data.load(**given, cache=cache)  # not kept, since a map of a file that is cut is a bus error
    damage(prepared_file(cache))
    found = data.load(**given, cache=cache)
    assert len(found.notes) == 1 and "is damaged" in found.notes[0]
    assert_same(dataclasses.replace(found, notes=()), data.load(**given))
    assert data.load(**given, cache=cache).notes == ()


def test_the_file_of_another_set_is_not_taken_for_it(tmp_path):
    cache = tmp_path / "cache"
    sets, paths = [], []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        sets.append(given := arrays(tmp_path / name))
        data.load(**given, cache=cache)
        paths += set(cache.glob("*.npz")) - set(paths)
    paths[1].replace(paths[0])
    found = data.load(**sets[0], cache=cache)
    (note,) = found.notes
    assert note.startswith("Prepared anew") and f"it was written as {paths[1].name}" in note
    assert_same(dataclasses.replace(found, notes=()), data.load(**sets[0]))


def test_damaged_images_are_told_when_they_are_read(tmp_path):
    given, cache = arrays(tmp_path), tmp_path / "cache"
    images = data.load(**given, cache=cache).train
    path = prepared_file(cache)
    flip_byte(path, path.read_bytes().index(b"x_train.npy") + 1000)
    words = ["Image ", str(path), "is damaged", "remove that file"]
    everything = np.arange(len(images))
    assert_refused(lambda: images[everything], words, rows.DamagedImages)
    assert_refused(lambda: list(rows.chunks(images)), words)
    import tensorflow as tf

    with pytest.raises(tf.errors.OpError, match="DamagedImages: Image "):
        list(data.training_stream(images, batch_size=8, steps=5))


class Stop(Exception):
    """Stands for an end of the process that nothing foresees."""


def stop_at(number):
    def progress(done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of three images of 6x6, each noted at once."""
    monkeypatch.setattr(scratch, "_BLOCK", 3 * 108)
    monkeypatch.setattr(scratch, "_SECONDS", -1)


@pytest.mark.parametrize("source", [photos, broken_photos, arrays])
def test_an_interrupted_preparation_goes_on(tmp_path, small_blocks, source):
    given, cache = source(tmp_path), tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        data.load(**given, cache=cache, progress=stop_at(8))
    assert not list(cache.glob("*.npz"))
    calls = []
    found = data.load(**given, cache=cache, progress=lambda *call: calls.append(call))
    assert calls[0][0] == 7 and [done for done, _ in calls] == list(range(7, calls[0][1] + 1))
    assert_same(found, data.load(**given))
    assert {path.suffix for path in cache.iterdir()} == {".npz"}


@pytest.mark.parametrize("pattern", ["*.part-1", "*.part-1.json"])
@pytest.mark.parametrize("damage", [cut, empty, lambda path: flip_byte(path, 20)])
def test_damaged_work_of_an_interrupted_preparation_is_done_again(
    tmp_path, small_blocks, pattern, damage
):
    given, cache = photos(tmp_path), tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        data.load(**given, cache=cache, progress=stop_at(8))
    (path,) = cache.glob(pattern)
    damage(path)
    assert_same(data.load(**given, cache=cache), data.load(**given))


def test_a_refused_set_leaves_nothing_behind(tmp_path):
    given, cache = broken_photos(tmp_path), tmp_path / "cache"
    assert_refused(lambda: data.load(given["name"], cache=cache), ["00.png", "cannot be read"])
    assert not list(cache.iterdir())


def test_two_that_prepare_at_once_wait_for_one_another(tmp_path, monkeypatch, capsys):
    given, cache = photos(tmp_path), tmp_path / "cache"
    begun, found, prepare = threading.Event(), [], preparation._prepare
    made = []

    def slow(*arguments):
        made.append(begun.set())
        time.sleep(0.2)
        prepare(*arguments)

    monkeypatch.setattr(preparation, "_prepare", slow)
    other = threading.Thread(target=lambda: found.append(data.load(**given, cache=cache)))
    other.start()
    begun.wait()
    found.append(data.load(**given, cache=cache))
    other.join()
    assert len(made) == 1 and "Waiting for another process" in capsys.readouterr().err
    assert_same(*found)


def full_disk(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: os_usage(0))
    return ["GiB are free", str(cache), "cache=DIR"]


def os_usage(free):
    return type("Usage", (), {"free": free})


def disk_that_fills(tmp_path, monkeypatch, cache):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "fsync", fail)
    return ["No space left", str(cache), "cache=DIR"]


def file_in_place(tmp_path, monkeypatch, cache):
    cache.write_text("no folder")
    return [str(cache), "cache=DIR"]


@pytest.mark.parametrize("prevent", [full_disk, disk_that_fills, file_in_place])
def test_no_place_for_prepared_images_is_one_line(tmp_path, monkeypatch, prevent):
    given, cache = photos(tmp_path), tmp_path / "cache"
    words = prevent(tmp_path, monkeypatch, cache)
    assert_refused(lambda: data.load(**given, cache=cache), words)
    assert not cache.is_dir() or not list(cache.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_read_only_is_read(tmp_path):
    given, cache = photos(tmp_path), tmp_path / "cache"
    expected = data.load(**given, cache=cache)
    cache.chmod(0o500)
    try:
        assert_same(data.load(**given, cache=cache), expected)
        words = [str(cache), "Permission denied", "cache=DIR"]
        assert_refused(lambda: data.load(**given, seed=1, cache=cache), words)
    finally:
        cache.chmod(0o700)


def test_a_source_of_ones_own_is_prepared_if_it_says_when_it_changes(tmp_path, monkeypatch):
    from ddpm_keras import choices

    drawn = colours(9)
    images = data.ImageData("own", drawn[:6], drawn[6:])

    class Own:
        @staticmethod
        def reads(request):
            return request.name == "own"

        @staticmethod
        def load(request):
            return images

    monkeypatch.setitem(choices.SOURCES, "own", Own)
    assert data.load("own", cache=tmp_path).train is images.train
    Own.signature = staticmethod(lambda request: ["1"])
    found = data.load("own", cache=tmp_path)
    assert_same(found, images)
    assert rows.is_mapped(found.train)


@pytest.mark.parametrize("cache", [3, "", "~nobody-of-this-name/x"])
def test_a_cache_that_is_no_place_is_refused(cache):
    assert_refused(lambda: data.load("digits", cache=cache), [])
