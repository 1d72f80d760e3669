"""Reads the tensors of a PyTorch file (.bin, .pt, .pth) without PyTorch, and runs nothing in it.

Such a file holds a pickle, and an ordinary unpickler calls whatever that names. The one here knows
the few names that describe tensors, rebuilds them as NumPy arrays, and refuses every other by name.
"""

import collections
import io
import pickle
import struct
import zipfile
from typing import Any

import numpy as np

from ..aliases import PathLike

_BFLOAT16 = "bfloat16"  # NumPy has none: read as 16-bit words, given as float32
_STORAGE_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# The format before PyTorch 1.6: these two pickles, one about the machine, the object, the keys of
# its storages, then each storage as an int64 length and its values.
_LEGACY_HEADER = (0x1950A86A20F9469CFC6C, 1001)


def load_state_dict(path: PathLike) -> dict[str, Any]:
    """The state dict in a file that `torch.save` wrote.

    Args:
        path: A .bin, .pt or .pth file, in the zip format since PyTorch 1.6 or the one before.

    Returns:
        dict of name -> NumPy array, in the file's order; nested dicts, lists and numbers are kept
        as they are. bfloat16 becomes float32, which holds it exactly. Arrays are read-only.

    Raises:
        ValueError: Not such a file, a damaged one, or one that names anything but tensors.

    Example:

    >>> state = load_state_dict("diffusion_pytorch_model.bin")
    >>> state["conv_in.weight"].shape
    (128, 3, 3, 3)
    """
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            state = _read_zip(file) if is_zip else _read_legacy(file)
    except _Refused as refusal:
        raise ValueError(f"{path}: {refusal}") from None
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, KeyError),
        *(AttributeError, IndexError, TypeError, ValueError, OverflowError, RecursionError),
    ) as error:
        raise ValueError(
            f"{path} is not a readable PyTorch file ({type(error).__name__}: {error}); download it "
            "again, or save it with torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not a state dict; save "
            "torch.save(model.state_dict(), path)."
        )
    return state


class _Refused(Exception):
    """The file asks for something that is not read; says what, and the cure."""


class _Sealed:
    """An object whose attributes a pickle cannot set: views stay inside their storage."""

    def __setstate__(self, state):
        raise _Refused("it changes what it should only hold; save model.state_dict() alone.")


class _Storage(_Sealed):
    """A flat array that tensors are views of, and whether its words are bfloat16."""

    def __init__(self, kind, count):
        self.is_bfloat16 = kind == _BFLOAT16
        self.words = np.empty(count, "u2" if self.is_bfloat16 else kind)

    def fill(self, data, byteorder):
        """Copies raw values in; all tensors made of this storage show them."""
        words = np.frombuffer(data, self.words.dtype.newbyteorder(byteorder))
        if len(words) != len(self.words):
            raise _Refused("a tensor's data is cut short; download the file again.")
        self.words[:] = words


class _Tensor(_Sealed):
    """A strided view of a storage, turned into an array when the data is there."""

    def __init__(self, storage, offset, size, stride, *_):
        size, stride = tuple(map(int, size)), tuple(map(int, stride))
        negative = len(size) != len(stride) or min((offset, *size, *stride)) < 0
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
        if negative or (0 not in size and last >= len(storage.words)):
            raise _Refused("a tensor reaches outside its data; download the file again.")
        self.arguments = storage, int(offset), size, stride

    def to_array(self):
        storage, offset, size, stride = self.arguments
        words = storage.words
        view = np.lib.stride_tricks.as_strided(
            words[offset:] if 0 not in size else words[:0],
            size,
            [step * words.itemsize for step in stride],
            writeable=False,
        )
        if not storage.is_bfloat16:
            return view
        array = (view.astype(np.uint32) << 16).view(np.float32)
        array.flags.writeable = False
        return array


class _Dict(collections.OrderedDict):
    """An ordered dict that drops the attributes (`_metadata`) PyTorch sets on a state dict."""

    def __setstate__(self, state):
        pass


class _Name(_Sealed):
    """A name that a file may use: `make` is what a call of it does, `kind` a storage's type."""

    def __init__(self, make=None, kind=None):
        self.make, self.kind = make, kind

    def __call__(self, *arguments):
        return self.make(*arguments)


_KNOWN = {
    ("collections", "OrderedDict"): _Name(_Dict),
    ("torch", "Size"): _Name(tuple),
    ("torch._utils", "_rebuild_tensor_v2"): _Name(_Tensor),
    ("torch._utils", "_rebuild_parameter"): _Name(lambda tensor, *_: tensor),
    **{("torch", name): _Name(kind=kind) for name, kind in _STORAGE_TYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Builds tensors, containers and numbers; `storage(kind, key, count)` gives a storage."""

    def __init__(self, file, storage=None):
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module, name):
        if (module, name) not in _KNOWN:
            raise _Refused(
                f"it names {module}.{name}; only plain tensors are read, nothing is run. Save it "
                "with torch.save(model.state_dict(), path)."
            )
        return _KNOWN[module, name]

    def persistent_load(self, pid):
        label, storage_type, key, _, count, *view = pid
        if self._storage is None or label != "storage" or any(view):
            raise _Refused("it holds something other than tensors; save model.state_dict() alone.")
        return self._storage(storage_type.kind, key, int(count))


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" not in members:
            raise _Refused("it is a zip file, but not one of PyTorch's; give a .bin, .pt or .pth.")
        byteorder = "little"
        if "byteorder" in members:
            byteorder = archive.read(members["byteorder"]).decode("ascii")
        storages = {}

        def storage(kind, key, count):
            if key not in storages:
                member = archive.getinfo(members[f"data/{key}"])
                storages[key] = _checked_storage(kind, count, member.file_size)
                storages[key].fill(archive.read(member), byteorder)
            return storages[key]

        pickled = io.BytesIO(archive.read(members["data.pkl"]))
        return _to_arrays(_Unpickler(pickled, storage).load())


def _read_legacy(file):
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        header = tuple(_Unpickler(file).load() for _ in _LEGACY_HEADER)
    except Exception:  # whatever it is, it does not begin like PyTorch's
        header = None
    if header != _LEGACY_HEADER:
        raise _Refused("it is not a PyTorch file; give a .bin, .pt or .pth that torch.save wrote.")
    byteorder = "little" if _Unpickler(file).load().get("little_endian", True) else "big"
    storages = {}

    def storage(kind, key, count):
        if key not in storages:
            storages[key] = _checked_storage(kind, count, length)
        return storages[key]

    state = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        words = storages[key].words
        (count,) = struct.unpack(f"{'<' if byteorder == 'little' else '>'}q", file.read(8))
        if count != len(words):
            raise _Refused("a tensor's data is cut short; download the file again.")
        storages[key].fill(file.read(words.nbytes), byteorder)
    return _to_arrays(state)


def _checked_storage(kind, count, available):
    """A storage, once the file is known to be long enough to hold it."""
    itemsize = 2 if kind == _BFLOAT16 else np.dtype(kind).itemsize
    if not 0 <= count * itemsize <= available:
        raise _Refused("a tensor's data is cut short; download the file again.")
    return _Storage(kind, count)


def _to_arrays(value):
    """Tensors replaced by arrays, and ordered dicts by plain ones, within containers."""
    if isinstance(value, _Tensor):
        return value.to_array()
    if isinstance(value, dict):
        return {key: _to_arrays(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_arrays(entry) for entry in value)
    return value
