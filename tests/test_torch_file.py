"""PyTorch files are read without PyTorch: here from files put together by hand."""

import gc
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from ddpm_keras.interop import pickles, torch_file


class Global:
    """A name in a pickle, and perhaps a call of it."""

    def __init__(self, module, name):
        self.line = f"c{module}\n{name}\n".encode()

    def __call__(self, *arguments, state=None):
        return Call(self, arguments, state)


class Call:
    def __init__(self, function, arguments, state):
        self.function, self.arguments, self.state = function, arguments, state


class Set:
    """Sets attributes on something that is already built."""

    def __init__(self, target, state):
        self.target, self.state = target, state


class Storage:
    def __init__(self, kind, key, count, view=()):
        self.pid = ("storage", Global("torch", kind), key, "cpu", count, *view)


class Pickler(pickle._Pickler):
    """Writes names that this machine does not have, as torch.save would."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(value.line)
        elif isinstance(value, Storage):
            self.save(value.pid)
            self.write(pickle.BINPERSID)
        elif isinstance(value, Set):
            self.save(value.target)
            self.save(value.state)
            self.write(pickle.BUILD)
        elif isinstance(value, Call):
            self.save_reduce(value.function, value.arguments, value.state)
        else:
            super().save(value, save_persistent_id)

    def save_reduce(self, function, arguments, state=None, *rest, **options):
        if not isinstance(function, Global):
            return super().save_reduce(function, arguments, state, *rest, **options)
        self.save(function)
        self.save(arguments)
        self.write(pickle.REDUCE)
        if state is not None:
            self.save(state)
            self.write(pickle.BUILD)


def pickled(value):
    file = io.BytesIO()
    Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(kind, key, count, size, stride, offset=0):
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    hooks = Global("collections", "OrderedDict")()
    return rebuild(Storage(kind, key, count), offset, size, stride, False, hooks)


def write_zip(path, value, storages=(), byteorder=None, folder="archive"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(value))
        if byteorder:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, array in dict(storages).items():
            archive.writestr(f"{folder}/data/{key}", array.tobytes())
        archive.writestr(f"{folder}/version", "3\n")
    return path


def write_legacy(path, value, storages=()):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, list(dict(storages))]
    with open(path, "wb") as file:
        for part in parts:
            file.write(pickled(part))
        for array in dict(storages).values():
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_views_of_one_storage(tmp_path, write):
    data = np.arange(12, dtype="<f4")
    state = {
        "whole": tensor("FloatStorage", "0", 12, (3, 4), (4, 1)),
        "transposed": tensor("FloatStorage", "0", 12, (4, 3), (1, 4)),
        "row": tensor("FloatStorage", "0", 12, (4,), (1,), offset=4),
        "expanded": tensor("FloatStorage", "0", 12, (2, 3), (0, 4), offset=1),
        "scalar": tensor("FloatStorage", "0", 12, (), (), offset=11),
        "empty": tensor("FloatStorage", "0", 12, (0, 5), (5, 1), offset=12),
    }
    found = torch_file.load_state_dict(write(tmp_path / "a.bin", state, {"0": data}))
    whole = data.reshape(3, 4)
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["whole"], whole)
    np.testing.assert_array_equal(found["transposed"], whole.T)
    np.testing.assert_array_equal(found["row"], whole[1])
    np.testing.assert_array_equal(found["expanded"], [whole[:, 1]] * 2)
    assert found["scalar"].shape == () and found["scalar"] == 11
    assert found["empty"].shape == (0, 5)
    assert all(array.dtype == np.float32 for array in found.values())


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", "<f8"),
        ("HalfStorage", "<f2"),
        ("LongStorage", "<i8"),
        ("IntStorage", "<i4"),
        ("ShortStorage", "<i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_number_types(tmp_path, write, kind, dtype):
    data = np.array([0, 1, 3, 100], dtype)
    path = write(tmp_path / "a.pth", {"x": tensor(kind, "k", 4, (2, 2), (2, 1))}, {"k": data})
    found = torch_file.load_state_dict(path)["x"]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, data.reshape(2, 2))


def test_bfloat16_becomes_float32(tmp_path):
    words = np.array([0x3F80, 0xC049, 0x0000, 0x7F80], "<u2")  # 1, -3.140625, 0, infinity
    state = {"x": tensor("BFloat16Storage", "0", 4, (2, 2), (1, 2))}
    found = torch_file.load_state_dict(write_zip(tmp_path / "a.bin", state, {"0": words}))["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 0], [-3.140625, np.inf]])


def test_byte_order(tmp_path):
    data = np.array([1.5, -2.0], ">f4")
    state = {"x": tensor("FloatStorage", "0", 2, (2,), (1,))}
    path = write_zip(tmp_path / "a.bin", state, {"0": data}, byteorder="big")
    np.testing.assert_array_equal(torch_file.load_state_dict(path)["x"], [1.5, -2.0])


def test_nested_parameters_and_metadata(tmp_path):
    parameter = Global("torch._utils", "_rebuild_parameter")
    ordered = Global("collections", "OrderedDict")
    x = tensor("FloatStorage", "0", 2, (2,), (1,))
    state = {
        "model": ordered([["w", parameter(x, True, ordered())]], state={"_metadata": {"v": 2}}),
        "step": 7,
        "sizes": [Global("torch", "Size")([3, 4])],
    }
    path = write_zip(tmp_path / "a.bin", state, {"0": np.array([1, 2], "<f4")}, folder="other")
    found = torch_file.load_state_dict(path)
    np.testing.assert_array_equal(found["model"]["w"], [1, 2])
    assert type(found["model"]) is dict
    assert found["step"] == 7 and found["sizes"] == [(3, 4)]


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch.serialization", "load"),
        ("numpy.core.multiarray", "scalar"),
        ("torch", "FloatStorage.__init__"),
    ],
)
def test_any_other_name_is_refused_and_not_called(tmp_path, write, module, name):
    marker = tmp_path / "ran"
    path = write(tmp_path / "a.bin", {"x": Global(module, name)(f"touch {marker}")})
    with pytest.raises(ValueError, match=f"{module}.{name}") as caught:
        torch_file.load_state_dict(path)
    assert not marker.exists()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_legacy_header_runs_nothing_either(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "a.bin"
    path.write_bytes(pickled(Global("os", "system")(f"touch {marker}")))
    with pytest.raises(ValueError, match="not a PyTorch file"):
        torch_file.load_state_dict(path)
    assert not marker.exists()


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("size", "stride", "offset", "count"),
    [
        ((5,), (1,), 0, 4),
        ((2, 2), (3, 1), 0, 4),
        ((2,), (1,), 3, 4),
        ((2,), (-1,), 3, 4),
        ((2,), (1,), -1, 4),
        ((2, 2), (1,), 0, 4),
        ((4,), (1,), 0, 10**15),
    ],
)
def test_tensors_outside_their_data_are_refused(tmp_path, write, size, stride, offset, count):
    state = {"x": tensor("FloatStorage", "0", count, size, stride, offset)}
    path = write(tmp_path / "a.bin", state, {"0": np.zeros(4, "<f4")})
    with pytest.raises(ValueError, match="outside its data|cut short"):
        torch_file.load_state_dict(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_file_cannot_change_what_it_builds(tmp_path, write):
    """Setting the view's own fields would reach memory outside the data."""
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    storage = Storage("FloatStorage", "0", 4)
    attack = {"arguments": (storage, 0, (10**6,), (1,))}
    for value in (
        rebuild(storage, 0, (4,), (1,), state=attack),
        Set(rebuild, {"make": 1}),
        Set(Global("torch", "FloatStorage"), {"kind": "O"}),
        Set(Global("torch", "FloatStorage"), (None, {"kind": "O"})),
        Set(storage, {"words": [1]}),
    ):
        path = write(tmp_path / "a.bin", {"x": value}, {"0": np.zeros(4, "<f4")})
        with pytest.raises(ValueError, match="changes what it should only hold"):
            torch_file.load_state_dict(path)


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_a_pickle_is_read_and_all_is_as_it_was_after(collects):
    during = []
    data = b"\x80\x02)Q."  # an empty tuple that says where data are
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        pickles.Reader(data, {}).load(lambda *pid: during.append(gc.isenabled()))
        assert during == [False] and gc.isenabled() == collects
        with pytest.raises(EOFError):
            pickles.Reader(b"\x80\x02N", {}).load()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "text.bin").write_text("not weights")
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "broken.bin").write_bytes(b"PK\x03\x04 and nothing more")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("folder/notes.txt", "hello")
    write_zip(tmp_path / "list.bin", [1, 2])
    write_zip(tmp_path / "missing.bin", {"x": tensor("FloatStorage", "0", 4, (4,), (1,))})
    whole = write_legacy(
        tmp_path / "whole.bin",
        {"x": tensor("FloatStorage", "0", 4, (4,), (1,))},
        {"0": np.zeros(4, "<f4")},
    ).read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-3])
    for name, message in {
        "text.bin": "not a PyTorch file",
        "empty.bin": "not a PyTorch file",
        "broken.bin": "not a readable PyTorch file",
        "other.zip": "not one of PyTorch's",
        "list.bin": "holds a list",
        "missing.bin": "data/0",
        "cut.bin": "cut short|not a readable",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            torch_file.load_state_dict(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent.bin"):
        torch_file.load_state_dict(tmp_path / "absent.bin")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_what_would_be_far_larger_than_the_file_is_refused(tmp_path, write):
    laughing = []
    for _ in range(60):
        laughing = [laughing, laughing]
    within_itself = []
    within_itself.append(within_itself)
    for state, message in (
        ({"x": laughing}, "repeats its parts"),
        ({"x": within_itself}, "repeats its parts"),
        ({"x": tensor("FloatStorage", "0", 2, (10**9,), (0,))}, "larger than its data"),
        ({"x": tensor("FloatStorage", "0", 2, (10**6, 10**6), (0, 0))}, "larger than its data"),
        ({(1, 2): 3}, "neither text nor a number"),
        (
            {
                "x": tensor("FloatStorage", "0", 2, (2,), (1,)),
                "y": tensor("FloatStorage", "0", 1, (1,), (1,)),
            },
            "different things",
        ),
    ):
        path = write(
            tmp_path / "a.bin",
            {"z": tensor("FloatStorage", "0", 2, (2,), (1,)), **state},
            {"0": np.zeros(2, "<f4")},
        )
        with pytest.raises(ValueError, match=message):
            torch_file.load_state_dict(path)


def test_members_are_stored_and_whole(tmp_path):
    state = {"x": tensor("FloatStorage", "0", 2, (2,), (1,))}
    path = write_zip(tmp_path / "a.bin", state, {"0": np.ones(2, "<f4")})
    data = path.read_bytes()
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(tmp_path / "b.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(ValueError, match="data.pkl' is compressed"):
        torch_file.load_state_dict(tmp_path / "b.bin")
    values = np.ones(2, "<f4").tobytes()
    (tmp_path / "c.bin").write_bytes(data.replace(values, values[::-1]))
    with pytest.raises(ValueError, match="data/0' is damaged"):
        torch_file.load_state_dict(tmp_path / "c.bin")
