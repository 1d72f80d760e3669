"""Reads the tensors of a PyTorch file (.bin, .pt, .pth) without PyTorch, and runs nothing in it.

Such a file holds a pickle, and an ordinary unpickler calls whatever that names. That of `pickles`
knows the few names that describe tensors, which are rebuilt here as NumPy arrays, and refuses every
other by name. All lengths are held against that of the file before anything is made of them.
"""

import functools
import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..aliases import PathLike
from ..reading import bounds, zips
from .pickles import Name, Reader, Refused, ordered_dict, tree_of

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
_MOST_DIMENSIONS = 32


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
    data = Path(path).read_bytes()
    try:
        state = (_read_zip if data[:4] == b"PK\x03\x04" else _read_legacy)(data)
    except Refused as refusal:
        raise ValueError(f"{path}: {refusal}") from None
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, AttributeError),
        *(IndexError, TypeError, ValueError, OverflowError, NotImplementedError),
    ) as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is not a readable PyTorch file ({type(error).__name__}: {words}); download it "
            "again, or save it with torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not a state dict; save "
            "torch.save(model.state_dict(), path)."
        )
    return state


class _Storage:
    """A flat array that tensors are views of, of so many values of a kind.

    Attributes:
        words: The array; None until the data is there.
    """

    def __init__(self, kind, count):
        if kind not in _STORAGE_TYPES.values() or type(count) is not int or count < 0:
            raise Refused("a tensor's data is of no known kind; download the file again.")
        self.kind, self.count, self.words = kind, count, None
        self.dtype = np.dtype("u2" if kind == _BFLOAT16 else kind)
        self.nbytes = count * self.dtype.itemsize

    def fill(self, data, byteorder):
        """Takes raw values; all tensors made of this storage show them."""
        if len(data) != self.nbytes:
            raise Refused(_CUT)
        words = np.frombuffer(data, self.dtype.newbyteorder(byteorder))
        self.words = words.astype(self.dtype, copy=False)


_CUT = "a tensor's data is cut short; download the file again."


class _Tensor:
    """A strided view of a storage, turned into an array when the data is there."""

    def __init__(self, storage, offset, size, stride, *_):
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or not all(type(n) is int for n in numbers):
            raise Refused("a tensor is described by something else; save model.state_dict() alone.")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
        is_negative = len(size) != len(stride) or min(numbers) < 0
        if is_negative or (0 not in size and last >= storage.count):
            raise Refused("a tensor reaches outside its data; download the file again.")
        if math.prod(size) > storage.count or len(size) > _MOST_DIMENSIONS:
            raise Refused("a tensor is larger than its data; save a copy of it, by clone().")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride
        self.nbytes = math.prod(size) * max(4, storage.dtype.itemsize)

    @functools.cached_property
    def array(self):
        words = self.storage.words
        if words is None:
            raise Refused(_CUT)
        view = np.lib.stride_tricks.as_strided(
            words[self.offset :] if 0 not in self.size else words[:0],
            self.size,
            [step * words.itemsize for step in self.stride],
            writeable=False,
        )
        if self.storage.kind != _BFLOAT16:
            return view
        array = (view.astype(np.uint32) << 16).view(np.float32)
        array.flags.writeable = False
        return array


_KNOWN = {
    ("collections", "OrderedDict"): Name(ordered_dict),
    ("torch", "Size"): Name(tuple),
    ("torch._utils", "_rebuild_tensor_v2"): Name(_Tensor),
    ("torch._utils", "_rebuild_parameter"): Name(lambda tensor, *_: tensor),
    **{("torch", name): Name(kind=kind) for name, kind in _STORAGE_TYPES.items()},
}


class _Storages:
    """The storages that a pickle asks for by their keys; together they fit into the file.

    Args:
        length: Bytes of the file.
    """

    def __init__(self, length):
        self.length, self.of_key = length, {}

    def __call__(self, label, kind, key, _, count, *view):
        """The storage of a persistent id."""
        if label != "storage" or not isinstance(kind, Name) or any(view) or type(key) is not str:
            raise Refused("it holds something other than tensors; save model.state_dict() alone.")
        storage = _Storage(kind.kind, count)
        known = self.of_key.setdefault(key, storage)
        if (known.kind, known.count) != (storage.kind, storage.count):
            raise Refused("two tensors tell different things of their data; download it again.")
        if known is storage:
            self.length -= storage.nbytes
            if self.length < 0:
                raise Refused(_CUT)
        return known


def _read_zip(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        zips.check(archive, len(data))
        members = {each.filename.partition("/")[2]: each for each in archive.infolist()}
    if "data.pkl" not in members:
        raise Refused("it is a zip file, but not one of PyTorch's; give a .bin, .pt or .pth.")
    byteorder = "little"
    if "byteorder" in members:
        byteorder = bytes(zips.stored(data, members["byteorder"])).decode("ascii")
    storages = _Storages(len(data))
    pickled = zips.stored(data, members["data.pkl"])
    state = Reader(pickled, _KNOWN).load(storages)
    for key, storage in storages.of_key.items():
        storage.fill(zips.stored(data, members[f"data/{key}"]), byteorder)
    return _to_arrays(state, len(pickled), len(data))


def _read_legacy(data):
    reader = Reader(data, _KNOWN)
    try:
        header = tuple(reader.load() for _ in _LEGACY_HEADER)
    except Exception:  # whatever it is, it does not begin like PyTorch's
        header = None
    if header != _LEGACY_HEADER:
        raise Refused("it is not a PyTorch file; give a .bin, .pt or .pth that torch.save wrote.")
    byteorder = "little" if reader.load().get("little_endian", True) else "big"
    begin, storages = reader.position, _Storages(len(data))
    state = reader.load(storages)
    pickled = reader.position - begin
    for key in reader.load():
        storage, begin = storages.of_key[key], reader.position + 8
        (count,) = struct.unpack_from(f"{'<' if byteorder == 'little' else '>'}q", data, begin - 8)
        reader.position = begin + storage.nbytes
        if count != storage.count or reader.position > len(data):
            raise Refused(_CUT)
        storage.fill(memoryview(data)[begin : reader.position], byteorder)
    return _to_arrays(state, pickled, len(data))


def _to_arrays(state, pickled, length):
    """The state with arrays for tensors.

    Args:
        state: What the pickle holds.
        pickled: Its bytes.
        length: Those of the file.
    """
    tensors = {}

    def leaf(value):
        if isinstance(value, _Tensor):
            tensors[id(value)] = value
        elif not isinstance(value, (type(None), bool, int, float, str, bytes)):
            raise Refused("it holds something other than tensors; save model.state_dict() alone.")
        return value

    tree = tree_of(state, leaf, pickled)
    bounds.check("all tensors", sum(each.nbytes for each in tensors.values()), length)
    return tree_of(tree, lambda x: x.array if isinstance(x, _Tensor) else x, pickled)
