"""PyTorch files: pickles that call, repeat, or promise; and zip files that lie about members."""

import io
import struct
import zipfile

from . import Case

MARKER = "hostile_marker"  # a module beside the file, which leaves a trace where it is imported


def read(path):
    from ddpm_keras.interop import torch_file

    return torch_file.load_state_dict(path)


# Pieces of pickles, by the operations that pickletools names.

STOP, MARK = b".", b"("


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def long(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def called(module, name, *arguments):
    return named(module, name) + MARK + b"".join(arguments) + b"tR"


def entry(value, key="x"):
    """A dict with one entry."""
    return b"}" + text(key) + value + b"s"


def storage(count, kind="FloatStorage", key="0"):
    parts = text("storage"), named("torch", kind), text(key), text("cpu"), long(count)
    return MARK + b"".join(parts) + b"tQ"


def sizes(values):
    return MARK + b"".join(map(long, values)) + b"t"


def tensor(data, offset, size, stride):
    hooks = called("collections", "OrderedDict")
    parts = data, long(offset), sizes(size), sizes(stride), b"\x89", hooks
    return called("torch._utils", "_rebuild_tensor_v2", *parts)


def laughs(begin, pair, times=64):
    """A value that holds the one before twice, so that it would be 2**times long."""
    lines = [begin + b"q\x00"]
    for index in range(times):
        lines.append(pair(b"h" + bytes([index])) + b"q" + bytes([index + 1]))
    return b"".join(lines)


def _views(kind, times):
    """Tensors that all show the whole of one storage."""
    make = named("torch._utils", "_rebuild_tensor_v2") + MARK
    rest = long(0) + sizes([250_000]) + sizes([1]) + b"\x89NtR"
    shared = [storage(250_000, kind) + b"q\x00"] + [b"h\x00"] * (times - 1)
    entries = (text(str(i)) + make + each + rest for i, each in enumerate(shared))
    return b"}" + MARK + b"".join(entries) + b"u"


F4 = storage(4)
WHOLE = tensor(F4, 0, [4], [1])
TRACE = text("open('trace','w')")
PICKLES = {
    # code
    "os.system": entry(called("os", "system", text("touch trace"))),
    "posix.system": entry(called("posix", "system", text("touch trace"))),
    "eval": entry(called("builtins", "eval", TRACE)),
    "exec": entry(called("builtins", "exec", TRACE)),
    "Python 2 eval": entry(called("__builtin__", "eval", TRACE)),
    "a module beside it": entry(called(MARKER, "run")),
    "a name on the stack": entry(
        text("os") + text("system") + b"\x93" + text("touch trace") + b"\x85R"
    ),
    "a name that is a list": entry(b"]" + text("system") + b"\x93"),
    "INST": entry(MARK + text("touch trace") + b"ios\nsystem\n"),
    "OBJ": entry(MARK + named("os", "system") + text("touch trace") + b"o"),
    "NEWOBJ": entry(named("os", "system") + text("touch trace") + b"\x85\x81"),
    "an extension": entry(b"\x82\x01"),
    "runpy": entry(called("runpy", "run_path", text("hostile_marker.py"))),
    "functools.partial": entry(called("functools", "partial", named("os", "system"))),
    "numpy's unpickler": entry(called("numpy.core.multiarray", "_reconstruct")),
    "torch.load": entry(called("torch", "load", text("other.bin"))),
    "a call of a storage type": entry(called("torch", "FloatStorage")),
    "attributes of a tensor": entry(WHOLE + entry(number(1), "storage") + b"b"),
    "attributes of a name": entry(named("torch", "FloatStorage") + entry(text("O"), "kind") + b"b"),
    # tensors
    "stride 0 of a huge shape": entry(tensor(F4, 0, [10**9], [0])),
    "stride 0 in two dimensions": entry(tensor(F4, 0, [10**6, 10**6], [0, 0])),
    "a huge shape": entry(tensor(F4, 0, [2**62, 4], [1, 1])),
    "a negative offset": entry(tensor(F4, -4, [4], [1])),
    "a negative stride": entry(tensor(F4, 3, [4], [-1])),
    "a negative size": entry(tensor(F4, 0, [-4], [1])),
    "an offset outside": entry(tensor(F4, 2**40, [1], [1])),
    "a stride outside": entry(tensor(F4, 0, [2, 2], [2**40, 1])),
    "more dimensions than NumPy has": entry(tensor(F4, 0, [1] * 100, [1] * 100)),
    "sizes that are floats": entry(
        called(
            "torch._utils",
            "_rebuild_tensor_v2",
            F4,
            long(0),
            b"G" + bytes(8) + b"\x85",
            sizes([1]),
            b"\x89N",
        )
    ),
    "a size that is text": entry(
        called("torch._utils", "_rebuild_tensor_v2", F4, long(0), text("4"), text("1"), b"\x89N")
    ),
    "a storage of terabytes": entry(tensor(storage(2**40), 0, [2**40], [1])),
    "a storage of negative length": entry(tensor(storage(-4), 0, [0], [1])),
    "a storage of text": entry(
        MARK + text("storage") + text("FloatStorage") + text("0") + text("cpu") + long(4) + b"tQ"
    ),
    "a storage of two lengths": entry(WHOLE) + text("y") + tensor(storage(2), 0, [2], [1]) + b"s",
    "a storage of two kinds": entry(WHOLE)
    + text("y")
    + tensor(storage(4, "IntStorage"), 0, [4], [1])
    + b"s",
    "a persistent id of nothing": entry(b")Q"),
    "many storages of the whole file": b"}"
    + MARK
    + b"".join(text(str(i)) + storage(100_000, key=str(i)) for i in range(2000))
    + b"u",
    "thousands of views of one bfloat16 storage": _views("BFloat16Storage", 2000),
    # repetition
    "lists that laugh": entry(laughs(b"]", lambda get: b"]" + MARK + get + get + b"e")),
    "tuples that laugh": entry(laughs(b")", lambda get: get + get + b"\x86")),
    "dicts that laugh": entry(
        laughs(b"}", lambda get: b"}" + MARK + text("a") + get + text("b") + get + b"u")
    ),
    "a list within itself": entry(b"]q\x00h\x00a"),
    "a dict within itself": b"}q\x00" + text("x") + b"h\x00s",
    "lists within each other": entry(b"]" * 200_000 + b"a" * 199_999),
    "tuples within each other": entry(b")" + b"\x85" * 300_000),
    "a key of tuples that laugh": b"}" + laughs(b")", lambda get: get + get + b"\x86") + b"Ns",
    "keys whose hashes are one": b"}"
    + MARK
    + b"".join(long((2**61 - 1) * i) + b"N" for i in range(1, 60_000))
    + b"u",
    "a list that is copied again and again": entry(
        b"]"
        + MARK
        + b"".join(text(f"{i:05}") + b"N\x86" for i in range(20_000))
        + b"eq\x00"
        + b"".join(called("collections", "OrderedDict", b"h\x00") + b"a" for _ in range(20_000))
    ),
    "a size that is copied again and again": entry(
        b"]"
        + MARK
        + sizes(range(10_000))
        + b"q\x00"
        + b"".join(called("torch", "Size", b"h\x00") for _ in range(100_000))
        + b"e"
    ),
    # memory
    "a memo of four billion": entry(b"Nr\xff\xff\xff\xff"),
    "a memo that is empty": entry(b"h\x07"),
    "a value without a number": entry(b"j\xff\xff\xff\x7f"),
    "LONG4 of gigabytes": entry(b"\x8b\xff\xff\xff\x7f"),
    "digits without end": entry(b"I" + b"9" * 200_000 + b"\n"),
    "a long of digits": entry(b"L" + b"9" * 200_000 + b"L\n"),
    "text of gigabytes": entry(b"X\xff\xff\xff\xff"),
    "text of exabytes": entry(b"\x8d" + b"\xff" * 8),
    "bytes of gigabytes": entry(b"B\xff\xff\xff\xff"),
    "a bytearray of exabytes": entry(b"\x96" + b"\x00" * 7 + b"\x10"),
    "millions of lists": entry(b"]" + MARK + b"]" * 8_000_000 + b"e"),
    "millions of memo entries": entry(b"N" + b"\x94" * 8_000_000),
    # other
    "no dict": b"]",
    "no value": b"",
    "an end without a beginning": entry(b"t"),
    "a mark as a value": entry(MARK + b"\x85"),
    "text that is no UTF-8": entry(b"X\x02\x00\x00\x00\xff\xfe"),
}


def zipped(data, members=(), **settings):
    """A file of torch.save around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), data, **settings)
        for name, value in {"archive/data/0": bytes(16), **dict(members)}.items():
            archive.writestr(zipfile.ZipInfo(name), value, **settings)
    return file.getvalue()


def legacy(data):
    header = long(0x1950A86A20F9469CFC6C) + STOP, b"M\xe9\x03.", b"}.", data
    return b"".join(header) + b"]" + text("0") + b"a." + struct.pack("<q", 4) + bytes(16)


def written(data):
    def make(folder):
        path = folder / "model.bin"
        path.write_bytes(data() if callable(data) else data)
        return path

    return make


GOOD = entry(WHOLE) + STOP


def _patched(data, old, new):
    """A zip file in whose lists of members something is put in the place of something else."""
    begin = data.rindex(b"PK\1\2") if old is None else data.index(old)
    return data[:begin] + new + data[begin + len(new) :]


def _central(data, offset, layout, value):
    """A zip file whose last entry of the central directory holds a value at an offset."""
    begin = data.rindex(b"PK\1\2") + offset
    packed = struct.pack(layout, value)
    return data[:begin] + packed + data[begin + len(packed) :]


def _end(data, offset, layout, value):
    begin = data.rindex(b"PK\5\6") + offset
    packed = struct.pack(layout, value)
    return data[:begin] + packed + data[begin + len(packed) :]


def _bomb(name):
    """A deflated member of 400 MB of zeros."""
    from . import arrays

    return arrays.zip_of(
        {name: arrays.ZEROS, **({} if "pkl" in name else {"archive/data.pkl": GOOD})}
    )


ZIPS = {
    "a pickle that is a bomb": lambda: _bomb("archive/data.pkl"),
    "a storage that is a bomb": lambda: _bomb("archive/data/0"),
    "a compressed pickle": lambda: zipped(GOOD, compress_type=zipfile.ZIP_DEFLATED),
    "bzip2": lambda: zipped(GOOD, compress_type=zipfile.ZIP_BZIP2),
    "LZMA": lambda: zipped(GOOD, compress_type=zipfile.ZIP_LZMA),
    "members of one place": lambda: _central(zipped(GOOD), 42, "<I", 0),
    "a member outside": lambda: _central(zipped(GOOD), 42, "<I", 2**31),
    "a member of gigabytes": lambda: _central(
        _central(zipped(GOOD), 24, "<I", 2**31), 20, "<I", 2**31
    ),
    "two lengths of a member": lambda: _central(zipped(GOOD), 24, "<I", 2**31),
    "an encrypted member": lambda: _central(zipped(GOOD), 8, "<H", 1),
    "a wrong checksum": lambda: _central(zipped(GOOD), 16, "<I", 7),
    "an unknown compression": lambda: _central(zipped(GOOD), 10, "<H", 97),
    "a list outside": lambda: _end(zipped(GOOD), 16, "<I", 2**31),
    "a list of gigabytes": lambda: _end(zipped(GOOD), 12, "<I", 2**31),
    "a zip64 list that is not there": lambda: _end(zipped(GOOD), 16, "<I", 2**32 - 1),
    "a zip64 length": lambda: _central(
        _central(zipped(GOOD), 24, "<I", 2**32 - 1), 20, "<I", 2**32 - 1
    ),
    "no pickle": lambda: zipped(GOOD).replace(b"data.pkl", b"data.pkg"),
    "no storage": lambda: zipped(GOOD).replace(b"data/0", b"data/1"),
    "a short storage": lambda: zipped(GOOD, {"archive/data/0": bytes(15)}),
    "a byte order of its own": lambda: zipped(GOOD, {"archive/byteorder": b"middle"}),
    "a byte order of a megabyte": lambda: zipped(GOOD, {"archive/byteorder": b"x" * 2**20}),
    "a cut": lambda: zipped(GOOD)[:-30],
    "nothing but a beginning": b"PK\3\4",
    "an empty file": b"",
    "text": b"no model\n" * 100,
}

CASES = [
    *(Case(f"torch: {name}", written(zipped(data + STOP)), read) for name, data in PICKLES.items()),
    *(
        Case(f"old torch: {name}", written(legacy(data + STOP)), read)
        for name, data in PICKLES.items()
    ),
    *(Case(f"torch zip: {name}", written(data), read) for name, data in ZIPS.items()),
]
