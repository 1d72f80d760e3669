"""What is no data set is refused in one line that names it and the cure."""

import dataclasses
import gzip
import os
import struct
import zipfile

import numpy as np
import pytest
from images_on_disk import idx, idx_folder, png, tiff, tree, write
from PIL import Image
from refusals import assert_refused

from ddpm_keras import data

GREY = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)


def folder(*names, **files):
    """A maker of a folder of images by name, and of files with these contents (_ for a dot)."""

    def make(root):
        tree(root, *names)
        for name, content in files.items():
            write(root / name.replace("_", "."), content)
        return root

    return make


def npz(**arrays):
    def make(root):
        np.savez(root / "set.npz", **arrays)
        return root / "set.npz"

    return make


def npy(array):
    def make(root):
        np.save(root / "set.npy", array, allow_pickle=True)
        return root / "set.npy"

    return make


def file(name, content):
    def make(root):
        write(root / name, content)
        return root / name

    return make


def cut(maker, keep):
    """The file of another maker, cut short."""

    def make(root):
        path = maker(root)
        path.write_bytes(path.read_bytes()[:keep])
        return path

    return make


def header_only(shape, dtype="|u1"):
    """An `.npy` file that promises a shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return file("set.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)


def idx_files(**changes):
    """A folder of IDX files, of which some are other bytes (None: missing); _ stands for -."""

    def make(root):
        idx_folder(root, {"train-images-idx3-ubyte": 8, "train-labels-idx1-ubyte": 8})
        for name, content in changes.items():
            path = root / f"{name.replace('_', '-')}-ubyte"
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        return root

    return make


def given(name):
    return lambda root: name


def linked(target):
    def make(root):
        os.symlink(target, root / "link")
        return root / "link"

    return make


def device(root):
    os.mkfifo(root / "pipe")
    return root / "pipe"


def with_pipe(root):
    tree(root, "0.png", "1.png", "2.png")
    os.mkfifo(root / "pipe.png")
    return root


def with_endless_link(root):
    tree(root, *PHOTOS)
    os.symlink("x.png", root / "x.png")
    return root


def encrypted(root):
    """An archive whose flags say that it is encrypted."""
    path = npz(images=GREY)(root)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def flipped_bit(root):
    """An archive with one wrong bit in the middle of its array."""
    path = npz(images=GREY)(root)
    content = bytearray(path.read_bytes())
    content[content.index(GREY.tobytes()) + 20] ^= 1
    path.write_bytes(content)
    return path


def two_emnist(root):
    names = ["emnist-digits-train-images-idx3-ubyte", "emnist-letters-train-images-idx3-ubyte"]
    return idx_folder(root, dict.fromkeys(names, 6))


def no_numpy_inside(root):
    with zipfile.ZipFile(root / "set.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    return root / "set.npz"


IMAGES8 = idx(np.zeros((8, 4, 4)))
PHOTOS = ("0.png", "1.png", "2.png", "3.png", "4.png")
SPLIT = tuple(f"{part}/{i}.png" for part in ("train", "test") for i in range(3))

WRONG = {
    # names and paths
    "empty name": (given(""), ["is empty"]),
    "blank name": (given("  "), ["is empty"]),
    "NUL": (given("a\0b"), ["NUL"]),
    "None": (given(None), ["string or a path", "NoneType"]),
    "bytes": (given(b"digits"), ["string or a path", "bytes"]),
    "an array": (given(GREY), ["string or a path", "ndarray"]),
    "nobody's home": (given("~nobody_here/photos"), ["no user", "~nobody_here"]),
    "missing folder": (given("./missing"), ["no folder or file", "missing"]),
    "missing file": (given("missing.npz"), ["no folder or file", "missing.npz"]),
    "name with a line end": (given("./mis\nsing"), ["mis\\nsing"]),
    "too long": (given("./" + "x" * 5000), ["cannot be read", "too long"]),
    "dangling link": (linked("nowhere"), ["no folder or file"]),
    "link to itself": (linked("link"), ["link"]),
    "archive": (file("photos.zip", b"PK\x05\x06" + bytes(18)), ["no folder", "unpack"]),
    "one picture": (file("a.png", 1), ["no folder", "give the folder"]),
    "one IDX file": (file("train-images-idx3-ubyte", IMAGES8), ["no folder", "give the folder"]),
    "pipe": (device, ["no folder"]),
    # folders
    "empty folder": (folder(), ["holds no images", ".png"]),
    "other files only": (folder(a_txt=b"x", b_heic=b"x"), ["no images", "1 .heic, 1 .txt"]),
    "hidden images only": (folder(".a.png", ".git/b.png"), ["holds no images"]),
    "litter only": (folder("__MACOSX/a.png", "@eaDir/b.png"), ["holds no images"]),
    "three images": (folder(*PHOTOS[:3]), ["3 readable images", "at least 4"]),
    "train beside classes": (folder("train/0.png", "cat/1.png"), ["train", "cat", "another name"]),
    "parts beside images": (folder(*SPLIT, "stray.png"), ["test, train", "images", "move"]),
    "two names of a part": (folder(*SPLIT, "Training/0.png"), ["Training", "train", "one folder"]),
    "one image to train": (folder(*SPLIT[2:], "test/9.png"), ["1 images to train on"]),
    "text as an image": (folder(*PHOTOS, x_png=b"text"), ["x.png", "cannot be read"]),
    "pipe as an image": (with_pipe, ["pipe.png", "no file"]),
    "link in a circle": (with_endless_link, ["x.png", "leads nowhere"]),
    "floats": (folder(*PHOTOS, x_tif=tiff(np.float32([[0, 1]]), 32, 1, 3)), ["x.tif", "floating"]),
    "32 bits": (folder(*PHOTOS, x_tiff=tiff(np.uint32([[0, 1]]), 32)), ["x.tiff", "32-bit"]),
    "signed 16": (folder(*PHOTOS, x_tif=tiff(np.int16([[-1]]), 16, 1, 2)), ["x.tif", "signed"]),
    "signed 8": (folder(*PHOTOS, x_tif=tiff(np.int8([[-1, 1]]), 8, 1, 2)), ["x.tif", "signed"]),
    "float map": (folder(*PHOTOS, x_pnm=b"Pf\n1 1\n-1.0\n" + bytes(4)), ["x.pnm", "floating"]),
    "cut PNG": (folder(*PHOTOS, x_png=png(np.eye(64), 0)[:90]), ["x.png", "cannot be read"]),
    # files of arrays
    "floats 0..1": (npz(images=GREY / 255), ["images", "float64", "255 * images"]),
    "float16": (npy(np.float16(GREY)), ["float16", "uint8"]),
    "int64": (npz(x_train=GREY.astype(int)), ["x_train", "int64", "uint8"]),
    "bool": (npy(GREY > 9), ["bool", "uint8"]),
    "uint16": (npy(np.uint16(GREY)), ["uint16"]),
    "complex": (npy(GREY * 1j), ["complex128"]),
    "text": (npy(np.array(["a"] * 9)), ["<U1"]),
    "objects": (npy(np.array([{}] * 9, object)), ["Python objects", "never unpickled"]),
    "pickled labels": (npz(images=GREY, labels=np.array([{}] * 12)), ["labels", "never unpickled"]),
    "channels first": (npz(images=np.zeros((9, 3, 8, 8), "u1")), ["(0, 2, 3, 1)"]),
    "two channels": (npz(images=np.zeros((9, 8, 8, 2), "u1")), ["1, 3 or 4 channels"]),
    "flat images": (npz(images=np.zeros((9, 784), "u1")), ["(9, 784)", "height, width"]),
    "one image": (npy(np.zeros((28, 28, 3), "u1")), ["single image"]),
    "no image": (npy(np.zeros((0, 28, 28), "u1")), ["(0, 28, 28)"]),
    "a number": (npy(np.uint8(3)), ["shape ()"]),
    "three in a file": (npy(GREY[:3]), ["2 images to train on and 1 held out"]),
    "other names": (npz(foo=GREY, bar=GREY), ["foo, bar", "'images'"]),
    "no arrays": (npz(), ["nothing", "'images'"]),
    "no .npy inside": (no_numpy_inside, ["cannot be read"]),
    "too few labels": (npz(x=GREY, y=np.arange(3)), ["3 labels for the 12 images"]),
    "one-hot": (npz(x=GREY, y=np.eye(12, dtype=int)), ["argmax"]),
    "float labels": (npz(x=GREY, y=np.ones(12)), ["float64", "integers"]),
    "negative labels": (npz(x=GREY, y=np.full(12, -1)), ["holds -1", "from 0"]),
    "labels of one part": (npz(x_train=GREY, y_train=np.arange(12), x_test=GREY), ["both parts"]),
    "labels of two kinds": (
        npz(x_train=GREY, y_train=[1] * 12, x_test=GREY, y_test=["a"] * 12),
        ["different kinds"],
    ),
    "parts of two sizes": (
        npz(x_train=GREY, x_test=np.zeros((9, 3, 3), "u1")),
        ["differ in shape"],
    ),
    "parts of two depths": (
        npz(x_train=GREY, x_test=np.zeros((9, 2, 2, 3), "u1")),
        ["differ in shape", "(2, 2, 3)"],
    ),
    "no NumPy file": (file("set.npy", b"hello"), ["set.npy", "damaged"]),
    "no archive": (file("set.npz", b"hello"), ["set.npz", "damaged"]),
    "empty file": (file("set.npz", b""), ["set.npz", "damaged"]),
    "cut array": (cut(npy(GREY), 140), ["set.npy", "damaged"]),
    "cut archive": (cut(npz(images=GREY), 200), ["set.npz", "damaged"]),
    "wrong checksum": (flipped_bit, ["set.npz", "CRC"]),
    "encrypted": (encrypted, ["set.npz", "damaged or of another kind"]),
    "10^15 images": (header_only((10**15, 32, 32, 3)), ["longer than the file"]),
    "10^60 images": (header_only((10**60, 8, 8)), ["longer than the file"]),
    "negative shape": (header_only((-4, 8, 8)), ["set.npy", "damaged"]),
    # folders of IDX files
    "other magic": (idx_files(train_images_idx3=b"hello, world"), ["train-images", "no whole IDX"]),
    "empty IDX": (idx_files(train_images_idx3=b""), ["train-images", "no whole IDX"]),
    "cut IDX": (idx_files(train_images_idx3=IMAGES8[:100]), ["ends before", "8x4x4"]),
    "too long IDX": (idx_files(train_images_idx3=IMAGES8 + b"x"), ["goes on after"]),
    "cut header": (idx_files(train_images_idx3=IMAGES8[:9]), ["train-images", "no whole IDX"]),
    "IDX of floats": (idx_files(train_images_idx3=idx(np.zeros((8, 4, 4)), 13)), ["type 13"]),
    "cut gzip": (idx_files(train_images_idx3=gzip.compress(IMAGES8)[:30]), ["train-images"]),
    "damaged gzip": (
        idx_files(train_images_idx3=gzip.compress(IMAGES8)[:-8] + bytes(8)),
        ["train-images", "no whole IDX"],
    ),
    "10^9 images": (
        idx_files(train_images_idx3=struct.pack(">HBB3I", 0, 8, 3, 10**9, 4096, 4096)),
        ["train-images"],
    ),
    "images as labels": (idx_files(train_labels_idx1=IMAGES8), ["train-labels", "(8,)"]),
    "labels as images": (idx_files(train_images_idx3=idx(np.arange(8))), ["train-images", "(8,)"]),
    "too few IDX labels": (idx_files(train_labels_idx1=idx(np.arange(3))), ["3 labels"]),
    "no labels of the test": (idx_files(t10k_images_idx3=IMAGES8), ["labels for both"]),
    "two tests": (idx_files(t10k_images_idx3=IMAGES8, test_images_idx3=IMAGES8), ["t10k", "both"]),
    "two EMNIST sets": (two_emnist, ["emnist-digits", "emnist-letters", "of its own"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_are_refused_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, words = WRONG[case]
    name = make(tmp_path)
    assert_refused(lambda: data.load(name), words)


WRONG_OPTIONS = {
    "channels=True": (dict(channels=True), ["channels must be"]),
    "image_size=True": (dict(image_size=True), ["image_size must be"]),
    "image_size of floats": (dict(image_size=(8.0, 8.0)), ["image_size must be"]),
    "image_size of nothing": (dict(image_size=()), ["image_size must be"]),
    "held_out=nan": (dict(held_out=float("nan")), ["held_out is a fraction"]),
    "held_out in words": (dict(held_out="half"), ["held_out is a fraction"]),
    "held_out=True": (dict(held_out=True), ["held_out is a fraction"]),
    "seed=-1": (dict(seed=-1), ["seed must be"]),
    "seed=2**32": (dict(seed=2**32), ["seed must be"]),
    "seed=.5": (dict(seed=0.5), ["seed must be"]),
    "progress=True": (dict(progress=True), ["progress must be"]),
    "data_dir in vain": (dict(data_dir="somewhere"), ["data_dir", "leave data_dir out"]),
    "empty data_dir": (dict(data_dir=""), ["data_dir is empty"]),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_wrong_options_are_refused_in_one_line(case):
    options, words = WRONG_OPTIONS[case]
    assert_refused(lambda: data.load("digits", **options), words)


@pytest.mark.parametrize("make", [folder(*SPLIT), npz(x_train=GREY, x_test=GREY)])
def test_a_share_is_refused_where_a_part_is_held_out(make, tmp_path):
    name = make(tmp_path)
    assert_refused(lambda: data.load(name, held_out=0.2), ["held_out=0.2", "of its own"])


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), RecursionError("maximum recursion depth exceeded")],
)
def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch, error):
    def refuse(path):
        raise error

    tree(tmp_path, *PHOTOS)
    monkeypatch.setattr(os, "scandir", refuse)
    assert_refused(lambda: data.load(tmp_path), ["cannot be read", str(error.args[-1])])


def test_no_code_of_a_file_is_run(tmp_path):
    """An array of objects would run what it likes as soon as it is unpickled."""
    np.savez(tmp_path / "set.npz", images=np.array([_Trap(tmp_path / "sprung")], object))
    assert_refused(lambda: data.load(tmp_path / "set.npz"), ["never unpickled"])
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "set.npz", allow_pickle=True)["images"]
    assert (tmp_path / "sprung").exists()  # so this would have happened


@dataclasses.dataclass
class _Trap:
    path: os.PathLike

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


def test_decoders_see_no_more_than_their_limit(tmp_path, monkeypatch):
    tree(tmp_path, *PHOTOS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert_refused(lambda: data.load(tmp_path), ["0.png", "exceeds limit"])
