"""Images whose headers promise more pixels than their files have, and data sets of TensorFlow's."""

import io
import json
import struct
import zlib

from . import Case


def _images(folder):
    from ddpm_keras import data

    return data.load(folder)


def _sized(folder):
    from ddpm_keras import data

    return data.load(folder, image_size=8)


def _judged(folder):
    from ddpm_keras import quality

    return quality.ImageFolder(folder)[:6]


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth=8, kind=0, chunks=b"", body=None):
    """A PNG file of zeros, whose pixels are packed a row at a time."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = bytes(1 + (width * bits + 7) // 8)
    packer = zlib.compressobj(1)
    if body is None:
        body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    palette = _chunk(b"PLTE", bytes(3)) if kind == 3 else b""
    parts = _chunk(b"IHDR", header), palette, chunks, _chunk(b"IDAT", body), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _saved(kind, size, mode="L"):
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def _gif(width, height):
    """A GIF of so many pixels on its screen and in its frame, of which none are there."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + screen + frame + b"\x02\x02\x4c\x01\x00;"


def _bmp(width, height):
    body = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 4, 0, 0, 1, 0) + bytes(8)
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 58) + body


def _tiff(width, height):
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 4, 1, height),
        (279, 4, 1, width * height % 2**32),
    ]
    packed = b"".join(struct.pack("<HHII", *each) for each in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


def _jpeg(width, height):
    data = bytearray(_saved("JPEG", (8, 8)))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _text_bomb(kind):
    packed = zlib.compress(bytes(200 * 2**20), 1)
    name = b"ICC\0\0" if kind == b"iCCP" else b"Comment\0\0"
    return _chunk(kind, name + packed)


PICTURES = {
    "81 megapixels of grey": ("png", lambda: png(9000, 9000)),
    "81 megapixels of colour": ("png", lambda: png(9000, 9000, kind=2)),
    "81 megapixels of RGBA": ("png", lambda: png(9000, 9000, kind=6)),
    "81 megapixels of 16 bits": ("png", lambda: png(9000, 9000, depth=16)),
    "81 megapixels of one bit": ("png", lambda: png(9000, 9000, depth=1)),
    "81 megapixels of a palette": ("png", lambda: png(9000, 9000, kind=3)),
    "81 megapixels with a transparent colour": (
        "png",
        lambda: png(9000, 9000, chunks=_chunk(b"tRNS", bytes(2))),
    ),
    "81 megapixels of 16-bit colour with a key": (
        "png",
        lambda: png(9000, 9000, depth=16, kind=2, chunks=_chunk(b"tRNS", bytes(6))),
    ),
    "4 gigapixels that are not there": ("png", lambda: png(2**16, 2**16, body=b"")),
    "2**62 pixels": ("png", lambda: png(2**31 - 1, 2**31 - 1, body=b"")),
    "no pixels": ("png", lambda: png(0, 0, body=b"")),
    "text of 200 MB": ("png", lambda: png(8, 8, chunks=_text_bomb(b"zTXt"), body=b"")),
    "a colour profile of 200 MB": ("png", lambda: png(8, 8, chunks=_text_bomb(b"iCCP"), body=b"")),
    "a cut": ("png", lambda: png(8, 8)[:-30]),
    "GIF of 4 gigapixels": ("gif", lambda: _gif(65535, 65535)),
    "GIF of 81 megapixels": ("gif", lambda: _gif(9000, 9000)),
    "BMP of 81 megapixels": ("bmp", lambda: _bmp(9000, 9000)),
    "BMP of 2**61 pixels": ("bmp", lambda: _bmp(2**30, 2**31 - 1)),
    "BMP of a negative width": ("bmp", lambda: _bmp(-9000, 9000)),
    "TIFF of 81 megapixels": ("tif", lambda: _tiff(9000, 9000)),
    "TIFF of 2**62 pixels": ("tif", lambda: _tiff(2**31 - 1, 2**31 - 1)),
    "JPEG of 4 gigapixels": ("jpg", lambda: _jpeg(65000, 65000)),
    "JPEG of 81 megapixels": ("jpg", lambda: _jpeg(9000, 9000)),
    "PGM of 81 megapixels": ("pgm", lambda: b"P5 9000 9000 255\n"),
    "PGM of digits without end": ("pgm", lambda: b"P5 " + b"9" * 100_000 + b" 8 255\n"),
    "PPM of text": ("ppm", lambda: b"P3 9000 9000 255\n" + b"0 " * 1000),
    "TGA of 81 megapixels": (
        "tga",
        lambda: struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 9000, 9000, 24, 0),
    ),
    "WebP that is cut": ("webp", lambda: _saved("WEBP", (64, 64), "RGB")[:40]),
    "text": ("png", lambda: b"no image"),
}


def _folder(suffix, data, count=6):
    def make(folder):
        content = data()
        for index in range(count):
            (folder / f"{index}.{suffix}").write_bytes(content)
        return folder

    return make


# Data sets of TensorFlow: descriptions, and records of images.


def _feature(kind, content=None):
    return {"pythonClassName": kind, **(content or {})}


def _features(shape=("8", "8", "1"), kind="tensorflow_datasets.core.features.image_feature.Image"):
    image = {"shape": {"dimensions": list(shape)}, "dtype": "uint8", "encodingFormat": "png"}
    inner = {"features": {"image": _feature(kind, {"image": image})}}
    outer = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    return _feature(outer, {"featuresDict": inner})


def _info(count="4"):
    split = {
        "name": "train",
        "shardLengths": [count],
        "numBytes": "100",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    return {"name": "tiny", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}


RECORDS = "tiny-train.tfrecord-00000-of-00001"


def example(data):
    """An Example with the feature image, as bytes."""
    import tensorflow as tf

    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    return example.SerializeToString()


def _masked_crc(data):
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def framed(data):
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(data))
    head = length + struct.pack("<I", _masked_crc(length))
    return head + data + struct.pack("<I", _masked_crc(data))


def describe(folder, features=None, info=None):
    """Writes the descriptions of a data set of TensorFlow Datasets, values or texts."""
    for name, value in (("features.json", features), ("dataset_info.json", info)):
        default = _features() if name == "features.json" else _info()
        value = default if value is None else value
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def _tfds(features=None, info=None, record=None):
    def make(folder):
        describe(folder, features, info)
        if record is not None:
            (folder / RECORDS).write_bytes(framed(example(record())))
        return folder

    return make


TFDS = {
    "a class beside it": _tfds(_features(kind="hostile_marker.Image")),
    "a class of another package": _tfds(_features(kind="os.Image")),
    "a description nested deeply": _tfds("[" * 100_000),
    "a description of 40 MB": _tfds(json.dumps(_features()) + " " * 40_000_000),
    "a description with NaN": _tfds('{"a": NaN}'),
    "info nested deeply": _tfds(info='{"a":' * 100_000),
    "images of terabytes": _tfds(_features(("1000000", "1000000", "1"))),
    "a trillion images": _tfds(info=_info(str(10**12))),
    "images of a negative size": _tfds(_features(("-8", "8", "1"))),
    "an image of 81 megapixels": _tfds(
        _features(("-1", "-1", "1")), _info("1"), lambda: png(9000, 9000)
    ),
    "an image of 64 megapixels and one size": _tfds(
        _features(("8000", "8000", "1")), _info("1"), lambda: png(8000, 8000)
    ),
    "no image": _tfds(record=lambda: b"text"),
}

CASES = [
    *(Case(f"image: {name}", _folder(*how), _images) for name, how in PICTURES.items()),
    *(
        Case(f"resized image: {name}", _folder(*how), _sized)
        for name, how in PICTURES.items()
        if "81 megapixels" in name
    ),
    *(
        Case(f"judged image: {name}", _folder(*how), _judged)
        for name, how in PICTURES.items()
        if "gigapixels" in name or "RGBA" in name
    ),
    Case(
        "folder: 200 images of 16 megapixels", _folder("png", lambda: png(4000, 4000), 200), _images
    ),
    *(Case(f"TFDS: {name}", make, _sized) for name, make in TFDS.items()),
]
