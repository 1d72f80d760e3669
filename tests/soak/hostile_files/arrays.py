"""NumPy's files, IDX files and safetensors: headers that promise, and archives that unpack."""

import functools
import gzip
import io
import json
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np

from . import Case

ZEROS = object()  # stands for 400 MB of zeros, which take 400 kB once they are compressed
_MANY = 400 * 2**20


@functools.cache
def _deflated_zeros(level=9):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    chunk, parts, checksum = bytes(2**20), [], 0
    for _ in range(_MANY // len(chunk)):
        parts.append(packer.compress(chunk))
        checksum = zlib.crc32(chunk, checksum)
    return b"".join(parts) + packer.flush(), checksum


def zip_of(members):
    """A zip file of members, each bytes, or `ZEROS` after what stands before it in a tuple."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(zipfile.ZipInfo(name), b"" if value is ZEROS else value)
    data = file.getvalue()
    for name, value in members.items():
        data = _with_zeros(data, name.encode()) if value is ZEROS else data
    return data


def _with_zeros(data, name):
    """The empty member of a zip file, filled with zeros: patched, since to pack them takes long."""
    packed, checksum = _deflated_zeros()
    numbers = struct.pack("<III", checksum, len(packed), _MANY)
    local = data.index(b"PK\3\4", data.index(name) - 30)
    body = local + 30 + len(name)
    data = (
        data[: local + 8]
        + struct.pack("<H", 8)
        + data[local + 10 : local + 14]
        + numbers
        + (data[local + 26 : body] + packed + data[body:])
    )
    central = data.index(b"PK\1\2", body + len(packed))
    while data[central + 46 : central + 46 + len(name)] != name:
        central = data.index(b"PK\1\2", central + 4)
    data = (
        data[: central + 10]
        + struct.pack("<H", 8)
        + data[central + 12 : central + 16]
        + (numbers + data[central + 28 :])
    )
    end = data.rindex(b"PK\5\6")
    (start,) = struct.unpack_from("<I", data, end + 16)
    data = data[: end + 16] + struct.pack("<I", start + len(packed)) + data[end + 20 :]
    return _shifted(data, local, len(packed))


def _shifted(data, after, count):
    """A zip file whose list of members is told that those after a place lie further on."""
    data = bytearray(data)
    end = data.rindex(b"PK\5\6")
    number, _, start = struct.unpack_from("<HII", data, end + 10)
    for _ in range(number):
        (place,) = struct.unpack_from("<I", data, start + 42)
        if place > after:
            struct.pack_into("<I", data, start + 42, place + count)
        start += 46 + sum(struct.unpack_from("<HHH", data, start + 28))
    return bytes(data)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header(shape, descr="'|u1'", body=b"", order="False", version=1):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = struct.pack(
        "<H" if version == 1 else "<I", len(text) % 2 ** (16 if version == 1 else 32)
    )
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


class Trace:
    """Pickled, it would leave a trace."""

    def __reduce__(self):
        import os

        return os.system, ("touch trace",)


def _objects():
    array = np.empty(1, object)
    array[0] = Trace()
    file = io.BytesIO()
    file.write(header((1,), "'|O'"))
    pickle.dump(array, file)
    return file.getvalue()


ARRAYS = {
    "objects": _objects,
    "a shape of exabytes": lambda: header((2**60,)),
    "a shape beyond 64 bits": lambda: header((10**30, 8, 8)),
    "a shape whose product is 0 beyond 64 bits": lambda: header((2**32, 2**32, 2**32)),
    "a negative shape": lambda: header((-4, 8, 8)),
    "a shape of text": lambda: header("('a',)"),
    "a shape longer than its file": lambda: header((10**6,), body=bytes(100)),
    "values of no bytes": lambda: header((10**15,), "'|S0'"),
    "values of void": lambda: header((10**15,), "'|V0'"),
    "values of gigabytes": lambda: header((1,), "'|V2147483647'"),
    "fields of gigabytes": lambda: header((1,), "[('a', '|u1', (2147483647,))]"),
    "fields within fields": lambda: header((1,), "[('a', " * 300 + "'|u1'" + ")]" * 300),
    "a dtype of code": lambda: header((1,), "__import__('os').system('touch trace')"),
    "a header of parentheses": lambda: header("(" * 5000 + ")" * 5000),
    "a header of 10 MB": lambda: header("(" + "1," * 5_000_000 + ")", version=2),
    "a header of gigabytes": lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{",
    "a header that is a list": lambda: b"\x93NUMPY\1\0\2\0[]",
    "a version of its own": lambda: b"\x93NUMPY\x09\0\2\0{}",
    "more after the array": lambda: npy(np.zeros(4, np.uint8)) + b"x" * 100,
    "no array": lambda: b"text",
}


def _members(name, data):
    """What an archive with a hostile array under a name holds, by what is wrong with it."""
    return {name: data}


def _lzma(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(f"{name}.npy", npy(np.zeros((9, 8, 8), np.uint8)))
    return file.getvalue()


def _double(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2):
                archive.writestr(f"{name}.npy", npy(np.zeros((9, 8, 8), np.uint8)))
    return file.getvalue()


def _overlapping(name):
    """A thousand members of one place, each of a megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.npy", npy(np.zeros((9, 8, 8), np.uint8)) + bytes(2**20))
        for index in range(1000):
            archive.writestr(f"{index:04}.npy", b"")
    data = bytearray(file.getvalue())
    end = data.rindex(b"PK\5\6")
    number, _, start = struct.unpack_from("<HII", data, end + 10)
    first = data[start + 16 : start + 28]
    for _ in range(number):
        data[start + 16 : start + 28] = first
        struct.pack_into("<I", data, start + 42, 0)
        start += 46 + sum(struct.unpack_from("<HHH", data, start + 28))
    return bytes(data)


ARCHIVES = {
    "400 MB of zeros": lambda name: zip_of({f"{name}.npy": ZEROS}),
    "an array of 400 MB": lambda name: _bomb_of_array(name),
    "a bomb beside the array": lambda name: zip_of(
        {f"{name}.npy": npy(np.zeros((9, 8, 8), np.uint8)), "other.npy": ZEROS}
    ),
    "LZMA": _lzma,
    "two of one name": _double,
    "members of one place": _overlapping,
    "an end alone": lambda name: b"PK\5\6" + bytes(18),
    "a beginning alone": lambda name: b"PK\3\4" + bytes(26),
}


def _bomb_of_array(name):
    """An array whose header is right and whose values are 400 MB of zeros."""
    begin = header((_MANY,), body=b"")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(begin)
            for _ in range(100):
                member.write(bytes(4 * 2**20))
    return file.getvalue()


def _images(path):
    from ddpm_keras import data

    return data.load(path)


def _statistics(path):
    from ddpm_keras import quality

    return quality.FeatureStatistics.load(path)


def _classifier(path):
    from ddpm_keras import quality

    return quality.ClassifierFeatures.load(path)


def _snapshots(path):
    from ddpm_keras.ema import snapshots

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one that is left out
        try:
            return [snapshots.averages(each, 0) for each in snapshots.list_snapshots(path.parent)]
        except UserWarning as error:
            raise ValueError(str(error)) from None


def _trajectory(path):
    from ddpm_keras.app.run_directory import Run

    return Run(path.parent).read_trajectory()


# Which file a reader looks for, and the name of an array in it.
READERS = {
    "data": (_images, "set.npz", "images"),
    "statistics": (_statistics, "reference.npz", "mu"),
    "classifier": (_classifier, "classifier.npz", "record"),
    "snapshot": (_snapshots, "snapshot-00000010.npz", "record"),
    "trajectory": (_trajectory, "trajectory.npz", "step"),
}


def _written(name, data):
    def make(folder):
        (folder / name).write_bytes(data())
        return folder / name

    return make


def _in_archive(name, data):
    return lambda: zip_of({f"{name}.npy": data()})


def _folder(files):
    def make(folder):
        for name, data in files.items():
            (folder / name).write_bytes(data() if callable(data) else data)
        return folder

    return make


# IDX


def idx(shape, body=b"", kind=8, dimensions=None):
    lengths = b"".join(struct.pack(">I", n) for n in shape)
    return b"\0\0" + bytes([kind, dimensions or len(shape)]) + lengths + body


@functools.cache
def _gz_bomb(shape):
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(idx(shape))
        for _ in range(100):
            packed.write(bytes(4 * 2**20))
    return file.getvalue()


IDX = {
    "a shape of petabytes": idx((2**32 - 1, 2**32 - 1, 1)),
    "a shape longer than the file": idx((1000, 28, 28)),
    "400 MB of zeros": lambda: _gz_bomb((100, 2**11, 2**11)),
    "a bomb after the images": lambda: _gz_bomb((4, 8, 8)),
    "values of another type": idx((4, 8, 8), bytes(256), kind=0x0D),
    "255 dimensions": idx((1,) * 255, dimensions=255),
    "a stream that is cut": gzip.compress(idx((4, 8, 8), bytes(256)))[:-9],
    "nothing": b"",
}


# safetensors


def safetensors(entries, body=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _entry(begin, end, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS = {
    "a header of exabytes": safetensors({}, length=2**63),
    "a header of 90 MB": safetensors({}, length=90 * 2**20),
    "a header nested deeply": safetensors(b"[" * 100_000),
    "values outside": safetensors({"a": _entry(0, 2**40)}, bytes(16)),
    "values before the beginning": safetensors({"a": _entry(16, 0)}, bytes(16)),
    "values on each other": safetensors({"a": _entry(0, 16), "b": _entry(0, 16)}, bytes(16)),
    "a hole between values": safetensors({"a": _entry(8, 24)}, bytes(24)),
    "a shape beyond 64 bits": safetensors({"a": _entry(0, 16, [2**40, 2**40])}, bytes(16)),
    "a shape of other length": safetensors({"a": _entry(0, 16, [9])}, bytes(16)),
    "a type of its own": safetensors({"a": _entry(0, 16, dtype="O")}, bytes(16)),
    "names that are given twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        bytes(16),
    ),
    "no header": b"\xff" * 7,
}


def _weights(path):
    from ddpm_keras.interop import weight_files

    return weight_files.read(path, 2**30)


CASES = [
    *(
        Case(f"npz of {kind}: {name}", _written(file, _in_archive(array, data)), reader)
        for kind, (reader, file, array) in READERS.items()
        for name, data in ARRAYS.items()
        if kind in ("data", "statistics")
        or name in ("objects", "a shape of exabytes", "values of no bytes")
    ),
    *(
        Case(f"archive of {kind}: {name}", _written(file, functools.partial(data, array)), reader)
        for kind, (reader, file, array) in READERS.items()
        for name, data in ARCHIVES.items()
        if kind in ("data", "snapshot") or "400 MB" in name
    ),
    *(Case(f"npy: {name}", _written("set.npy", data), _images) for name, data in ARRAYS.items()),
    *(
        Case(f"IDX: {name}", _folder({"train-images-idx3-ubyte": data}), _images)
        for name, data in IDX.items()
    ),
    *(
        Case(
            f"safetensors: {name}", _written("model.safetensors", lambda data=data: data), _weights
        )
        for name, data in SAFETENSORS.items()
    ),
]
