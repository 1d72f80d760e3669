"""Files are held against their own length before anything is made of them."""

import io
import json
import threading
import zipfile

import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras.app import cache
from ddpm_keras.data import decode
from ddpm_keras.reading import bounds, json_text, npz, zips

MIB = 2**20


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(bounds.VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("needed", "length", "fits"),
    [
        (64 * MIB, 0, True),
        (64 * MIB + 1, 0, False),
        (64 * MIB + 1, 2 * MIB, False),
        (64 * MIB + 32, 2 * MIB + 1, True),  # 32 bytes for each byte of the file
        (10**30, 10**6, False),
    ],
)
def test_a_file_may_take_so_much(needed, length, fits):
    if fits:
        bounds.check("it", needed, length)
    else:
        assert_refused(lambda: bounds.check("it", needed, length), ["it would", bounds.VARIABLE])


def test_a_caller_may_raise_or_lower_the_bound(monkeypatch):
    monkeypatch.setenv(bounds.VARIABLE, str(2**40))
    bounds.check("it", 2**40, 0)
    bounds.check_text(2**35)
    monkeypatch.setenv(bounds.VARIABLE, "100")
    with pytest.raises(ValueError, match="101 bytes of memory, of 3 bytes in the file"):
        bounds.check("it", 101, 3)


@pytest.mark.parametrize("value", ["1 GB", "-1", "1.5", "0x10", "٣", "9" * 30])
def test_a_bound_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv(bounds.VARIABLE, value)
    assert_refused(bounds.most, [bounds.VARIABLE, "number of bytes"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": {"b": NaN}}', "'b' holds NaN"),
        ('{"a": [1, [-Infinity]]}', "'a' holds NaN or infinity"),
        ('{"a": 1e999}', "'a' holds NaN or infinity"),
        ("[NaN]", "it holds NaN"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' twice"),
        ("[" * 10**5, "deeply"),
        (" " * (2 * MIB + 1), "text are read"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_json_that_is_refused(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    assert_refused(lambda: json_text.parse(text), [words])
    assert_refused(lambda: json_text.read(tmp_path / "a.json"), [words])


def test_json_that_is_read(tmp_path):
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"a": {}}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert json_text.read(tmp_path / "a.json") == value


def test_arrays_come_back(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array("text"), "c": np.zeros((0, 4), "f4")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = npz.read(tmp_path / "a.npz")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert list(npz.read(tmp_path / "a.npz", "b".__eq__)) == ["b"]
    assert npz.lengths(tmp_path / "a.npz").keys() == arrays.keys()
    np.save(tmp_path / "a.npy", arrays["a"])
    np.testing.assert_array_equal(npz.read_npy(tmp_path / "a.npy"), arrays["a"])


def test_what_unpacks_to_more_is_read_where_the_bound_is_raised(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(65 * MIB, np.uint8))
    assert_refused(lambda: npz.read(tmp_path / "a.npz"), ["what it holds", bounds.VARIABLE])
    monkeypatch.setenv(bounds.VARIABLE, str(66 * MIB))
    assert npz.read(tmp_path / "a.npz")["a"].shape == (65 * MIB,)


def test_a_stored_member_is_a_view_of_the_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"first")
        archive.writestr("b", b"second")
        archive.writestr("c", b"third", zipfile.ZIP_DEFLATED)
        members = archive.infolist()
    data = file.getvalue()
    assert [bytes(zips.stored(data, each)) for each in members[:2]] == [b"first", b"second"]
    with pytest.raises(ValueError, match="'c' is compressed"):
        zips.stored(data, members[2])
    with pytest.raises(ValueError, match="'b' is damaged"):
        zips.stored(data.replace(b"second", b"secand"), members[1])


def test_threads_wait_for_memory(monkeypatch):
    monkeypatch.setenv(bounds.VARIABLE, "10")  # of which images in work may take twice as much
    budget, most, now, lock = decode._Budget(), [0], [0], threading.Lock()

    def work(nbytes):
        with budget.taken(nbytes):
            with lock:
                now[0] += nbytes
                most[0] = max(most[0], now[0] if now[0] > nbytes else 0)
            with lock:
                now[0] -= nbytes

    threads = [threading.Thread(target=work, args=(n,)) for n in [9, 11, 50, 20, 1] * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert most[0] <= 20


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a\0b", "x" * 5000, "é" * 300, "CON", "..", "", "a/b\\c\n"]
)
def test_no_name_leaves_the_cache(tmp_path, monkeypatch, name):
    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path / "cache"))
    path = cache.file("classifier", ".npz", dataset=name, fingerprint="f" * 64)
    assert path.parent == tmp_path / "cache" and len(path.name) < 60
    assert path.name.startswith("classifier-") and path.name.isascii()
    others = {cache.file("classifier", ".npz", dataset=name, fingerprint="e" * 64)}
    others.add(cache.file("classifier", ".npz", dataset=name + "2", fingerprint="f" * 64))
    assert len({path, *others}) == 3
