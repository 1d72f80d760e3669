"""What is unusual and right is read as it is meant, and what is left out is said."""

import gzip
import io
import logging
import os

import numpy as np
import PIL
import pytest
from images_on_disk import idx, idx_folder, is_utf8_only, png, tiff, tree, write
from PIL import Image

from ddpm_keras import data

GREY = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
CLASSES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
SPLIT = [f"{part}/{name}" for part in ("train", "test") for name in CLASSES]


def values(images):
    """The values of images that have one each."""
    return sorted(images[:, 0, 0, 0].tolist())


def everything(loaded):
    return values(np.concatenate([loaded.train, loaded.held_out]))


# Folders: what is in them


def junk(root):
    tree(root, *CLASSES)
    for name in ("__MACOSX/cat/._0.png", "@eaDir/x.png", ".ipynb_checkpoints/0.png", "._cat.png"):
        write(root / name, 99)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        write(root / name, b"junk")


def linked_class(root):
    tree(root / "set", *CLASSES[:6])
    tree(root / "elsewhere", *(f"{i}.png" for i in range(6)), first=6)
    os.symlink(root / "elsewhere", root / "set" / "dog")
    return root / "set"


def linked_in_circles(root):
    linked_class(root)
    for target, name in ((".", "self"), ("..", "parent"), ("cat", "a-copy"), ("dog", "z-copy")):
        os.symlink(root / "set" / target, root / "set" / name)
    os.symlink(root / "set", root / "elsewhere" / "back")
    return root / "set"


def linked_folder(root):
    tree(root / "set", *CLASSES)
    os.symlink("set", root / "link")
    return root / "link"


def not_utf8(root):
    if is_utf8_only(root):
        pytest.skip("this file system takes UTF-8 only")
    for value, name in enumerate(CLASSES):
        path = (
            os.fsencode(root)
            + b"/"
            + name.replace("cat", "\udccaat").encode(errors="surrogateescape")
        )
        write(os.fsdecode(path), value)


def suffixes(root):
    formats = {
        "TIF": "TIFF", "tiff": "TIFF", "ppm": "PPM", "pgm": "PPM", "pnm": "PPM", "jfif": "JPEG",
        "jpe": "JPEG", "JPG": "JPEG", "Png": "PNG", "bmp": "BMP", "gif": "GIF", "tga": "TGA",
    }  # fmt: skip
    for value, (suffix, kind) in enumerate(formats.items()):
        content = io.BytesIO()
        Image.fromarray(np.full((2, 2), value, np.uint8)).save(content, kind)
        write(root / f"{value}.{suffix}", content.getvalue())


def counts(loaded):
    return {name: train + held_out for name, train, held_out in loaded.class_counts}


# A maker of a folder, values of all images (None: any), classes and their counts, words of notes.
FOLDERS = {
    "junk of systems": (junk, range(12), {"cat": 6, "dog": 6}, []),
    "other files": (
        lambda root: [tree(root, *CLASSES), write(root / "a.txt", b""), write(root / "b", b"")],
        range(12),
        {"cat": 6, "dog": 6},
        ["Left out what is no image: 1 .txt, 1 without suffix."],
    ),
    "many suffixes": (suffixes, range(12), {}, []),
    "linked class": (linked_class, range(12), {"cat": 6, "dog": 6}, []),
    "links in circles": (
        linked_in_circles,
        range(12),
        {"cat": 6, "dog": 6},
        ["a-copy, dog/back, parent and 2 more"],
    ),
    "linked folder": (linked_folder, range(12), {"cat": 6, "dog": 6}, []),
    "not UTF-8": (not_utf8, range(12), {"\\udccaat": 6, "dog": 6}, []),
    "line end in a name": (
        lambda root: tree(root, *(name.replace("cat", "c\nat") for name in CLASSES)),
        range(12),
        {"c\\nat": 6, "dog": 6},
        [],
    ),
    "a folder named like an image": (
        lambda root: tree(root, *(name.replace("cat", "cat.png") for name in CLASSES)),
        range(12),
        {"cat.png": 6, "dog": 6},
        [],
    ),
    "empty class": (
        lambda root: [tree(root, *CLASSES), (root / "emu").mkdir()],
        range(12),
        {"cat": 6, "dog": 6},
        ["Folders without an image: emu."],
    ),
    "stray image": (
        lambda root: tree(root, *CLASSES, "stray.png"),
        range(13),
        {},
        ["No classes: 1 images are in no sub-folder, such as stray.png."],
    ),
    "classes in a wrapper": (
        lambda root: tree(root, *(f"unpacked/{name}" for name in CLASSES)),
        range(12),
        {"cat": 6, "dog": 6},
        [],
    ),
    "train alone": (
        lambda root: tree(root, *(f"train/{name}" for name in CLASSES)),
        range(12),
        {"cat": 6, "dog": 6},
        ["train holds all images: it is neither a class nor a part."],
    ),
    "test and validation": (
        lambda root: tree(root, *(f"{part}/{i}.png" for part in ("val", "test") for i in range(4))),
        range(8),
        {},
        ["Taken together, as no folder is named train: test, val."],
    ),
    "parts inside classes": (
        lambda root: tree(
            root, *(f"{c}/{p}/{i}.png" for c in "ab" for p in SPLIT[:1] for i in "12")
        ),
        range(4),
        {"a": 2, "b": 2},
        ["Folders named train inside others are not taken as parts."],
    ),
    "animation": (
        lambda root: [
            tree(root, *CLASSES),
            Image.fromarray(GREY[0]).save(
                root / "cat" / "z.gif", save_all=True, append_images=[Image.fromarray(GREY[9])]
            ),
        ],
        None,
        {"cat": 7, "dog": 6},
        ["Only the first image is read of files that hold several: cat/z.gif."],
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_unusual_folders(case, tmp_path, caplog):
    make, expected, classes, words = FOLDERS[case]
    made = make(tmp_path)
    root = made if hasattr(made, "is_dir") else tmp_path
    with caplog.at_level(logging.WARNING, "ddpm_keras.data"):
        loaded = data.load(root)
    if expected is not None:
        assert everything(loaded) == list(expected)
    assert counts(loaded) == classes
    assert loaded.path == str(root)
    notes = [note for note in loaded.notes if "to train on" not in note]
    assert len(notes) == len(words), notes
    for note, word in zip(notes, words, strict=True):
        assert word in note and note in caplog.text


PARTS = {
    "train and test": (["train", "test"], (0, 1), []),
    "by other names": (["Training", "TESTING"], (0, 1), []),
    "validation": (["train", "valid"], (0, 1), []),
    "test before validation": (["train", "validation", "test"], (0, 2), ["Left out validation"]),
    "of COCO": (["train2017", "val2017"], (0, 1), []),
    "with a word": (["test_images", "train-set"], (1, 0), []),
    "in a wrapper": (["photos/train", "photos/val"], (0, 1), []),
}


@pytest.mark.parametrize("case", PARTS)
def test_folders_named_like_parts_are_parts(case, tmp_path):
    names, (train, held_out), words = PARTS[case]
    for number, name in enumerate(names):
        tree(tmp_path / name, *CLASSES, first=20 * number)
    loaded = data.load(tmp_path)
    assert values(loaded.train) == list(range(20 * train, 20 * train + 12))
    assert values(loaded.held_out) == list(range(20 * held_out, 20 * held_out + 12))
    assert loaded.class_counts == [("cat", 6, 6), ("dog", 6, 6)]
    np.testing.assert_array_equal(loaded.train_labels, loaded.train[:, 0, 0, 0] % 20 > 5)
    assert len(loaded.notes) == len(words) and all(map(str.startswith, loaded.notes, words))


def test_an_unreadable_image_of_a_part_changes_nothing_of_the_others(tmp_path):
    tree(tmp_path, *SPLIT, *(f"val/{name}" for name in CLASSES))
    write(tmp_path / "test" / "cat" / "bad.png", b"bad")
    loaded = data.load(tmp_path, on_unreadable="skip")
    assert values(loaded.train) == list(range(12)) and len(loaded.held_out) == 12
    assert [note.split()[:2] for note in loaded.notes] == [["Left", "out"]] * 2


def test_a_class_without_an_image_to_train_on_is_said(tmp_path):
    tree(tmp_path, *SPLIT, "test/emu/0.png")
    loaded = data.load(tmp_path)
    assert loaded.untrained_classes == ["emu"]
    assert loaded.notes == ("Without an image to train on: emu.",)


def test_a_file_keeps_its_part_whatever_the_names_of_folders_are(tmp_path):
    """The split rests on names below the folder: not on where it is, nor on its links."""
    one = data.load(tree(tmp_path / "one", *CLASSES))
    other = data.load(tree(tmp_path / "deep" / "other", *CLASSES))
    assert one.fingerprint == other.fingerprint


# Files: what is in them


def grey_of(value):
    return [value] * 3


CLEAR = [255, 255, 255]
RGB16 = [[[65535, 0, 511], [65535, 0, 510]], [[65535, 0, 511], [257, 514, 771]]]

# The bytes of an image file, and its pixels as RGB.
PIXELS = {
    "16 bits, transparent value": (
        png([[1000, 1001], [0, 65535]], 0, key=[1000]),
        [[CLEAR, grey_of(4)], [grey_of(0), CLEAR]],
    ),
    "16-bit colour, transparent colour": (
        png(RGB16, 2, key=[65535, 0, 511]),
        [[CLEAR, [255, 0, 1]], [CLEAR, [1, 2, 3]]],
    ),
    "16-bit grey and opacity": (
        png([[[0, 0], [257, 65535]], [[65535, 65535], [0, 32896]]], 4),
        [[CLEAR, grey_of(1)], [CLEAR, grey_of(127)]],
    ),
    "16-bit RGBA": (
        png([[[0, 257, 0, 65535], [0, 0, 0, 0]], [[65535, 0, 0, 32896], [0, 0, 65535, 65535]]], 6),
        [[[0, 1, 0], CLEAR], [[255, 127, 127], [0, 0, 255]]],
    ),
    "8 bits, transparent value": (
        png([[7, 8], [0, 255]], 0, 8, [7]),
        [[CLEAR, grey_of(8)], [grey_of(0), CLEAR]],
    ),
    "16-bit TIFF": (
        tiff(np.uint16([[0, 257], [32768, 65535]]), 16),
        [[grey_of(0), grey_of(1)], [grey_of(128), CLEAR]],
    ),
    "16-bit TIFF, white at zero": (
        tiff(np.uint16([[0, 257], [32768, 65535]]), 16, photometric=0),
        [[CLEAR, grey_of(254)], [grey_of(127), grey_of(0)]],
    ),
    "8-bit TIFF, white at zero": (
        tiff(np.uint8([[0, 10], [200, 255]]), 8, photometric=0),
        [[CLEAR, grey_of(245)], [grey_of(55), grey_of(0)]],
    ),
    "16-bit PGM": (
        b"P5 2 2 65535\n" + np.array([0, 257, 32768, 65535], ">u2").tobytes(),
        [[grey_of(0), grey_of(1)], [grey_of(128), CLEAR]],
    ),
    "12-bit PGM": (
        b"P5 2 2 4095\n" + np.array([0, 4095, 2048, 4095], ">u2").tobytes(),
        [[grey_of(0), CLEAR], [grey_of(128), CLEAR]],
    ),
    "bitmap": (b"P1 2 2\n0 1\n1 0\n", [[CLEAR, grey_of(0)], [grey_of(0), CLEAR]]),
}


@pytest.mark.parametrize("case", PIXELS)
def test_pixels_of_unusual_files(case, tmp_path):
    content, expected = PIXELS[case]
    for i in range(4):
        write(tmp_path / f"{i}.png", content)  # what it is counts, not what it is called
    loaded = data.load(tmp_path)
    is_grey = all(pixel == grey_of(pixel[0]) for row in expected for pixel in row)
    assert loaded.image_shape == (2, 2, 1 if is_grey else 3)
    found = np.broadcast_to(loaded.train[0], (2, 2, 3))
    np.testing.assert_array_equal(found, expected)


def test_orientation_of_tiff(tmp_path):
    """Pillow turns a TIFF by itself as it is loaded."""
    image = np.zeros((4, 8), np.uint8)
    image[:, :4] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        for dtype, factor in ((np.uint8, 1), (np.uint16, 257)):
            wide = Image.fromarray(image.astype(dtype) * dtype(factor))
            wide.save(tmp_path / f"{i}{factor}.tif", exif=exif)
    loaded = data.load(tmp_path)
    assert loaded.image_shape == (8, 4, 1)
    for turned in (*loaded.train, *loaded.held_out):
        np.testing.assert_array_equal(turned[..., 0], np.repeat([250, 0], 4)[:, None] + [0] * 4)


OLD_PILLOW = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 12,
    reason="Pillow 11 reads no YCbCr TIFF, not even its own",
)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", pytest.param("YCbCr", marks=OLD_PILLOW)])
def test_other_spaces_of_colour_are_converted(mode, tmp_path):
    """Red: hue is what counts, since the conversions differ a little."""
    from PIL import ImageCms

    red = Image.new("RGB", (2, 2), (255, 0, 0))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(red, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        image = red.convert(mode)
    for i in range(4):
        image.save(tmp_path / f"{i}.tif")
    pixel = data.load(tmp_path).train[0, 0, 0]
    assert pixel[0] > 245 and max(pixel[1:]) < 10


# Files of arrays


COLOUR = np.arange(12 * 2 * 2 * 3, dtype=np.uint8).reshape(12, 2, 2, 3)
LABELS = np.arange(12) % 3

# The arrays of a file, number of images to train on and held out, shape, classes.
ARRAYS = {
    "images and labels": (dict(images=GREY, labels=LABELS), 9, 3, (2, 2, 1), "012"),
    "x and y": (dict(X=COLOUR, Y=LABELS[:, None]), 9, 3, (2, 2, 3), "012"),
    "unnamed": (dict(arr_0=COLOUR, arr_1=LABELS.astype("i8")), 9, 3, (2, 2, 3), "012"),
    "another name": (dict(faces=GREY[..., None]), 9, 3, (2, 2, 1), ""),
    "named classes": (dict(images=GREY, labels=np.array(list("abab" * 3))), 9, 3, (2, 2, 1), "ab"),
    "classes from 1": (dict(images=GREY, labels=LABELS + 1), 9, 3, (2, 2, 1), "123"),
    "of Keras": (
        dict(x_train=GREY, y_train=LABELS, x_test=GREY[:5], y_test=LABELS[:5]),
        12,
        5,
        (2, 2, 1),
        "012",
    ),
    "of MedMNIST": (
        dict(train_images=COLOUR, test_images=COLOUR[:4], val_images=COLOUR[:6]),
        12,
        4,
        (2, 2, 3),
        "",
    ),
    "validation": (dict(x_train=GREY, x_val=GREY[:2]), 12, 2, (2, 2, 1), ""),
    "big endian labels": (dict(x=GREY, y=LABELS.astype(">i4")), 9, 3, (2, 2, 1), "012"),
    "Fortran order": (dict(x=np.asfortranarray(COLOUR)), 9, 3, (2, 2, 3), ""),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("case", ARRAYS)
def test_files_of_arrays(case, save, tmp_path):
    arrays, num_train, num_held_out, shape, classes = ARRAYS[case]
    save(tmp_path / "faces.NPZ.npz", **arrays)
    path = (tmp_path / "faces.NPZ.npz").rename(tmp_path / "faces.NPZ")
    loaded = data.load(str(path))
    assert (len(loaded.train), len(loaded.held_out)) == (num_train, num_held_out)
    assert loaded.image_shape == shape and loaded.class_names == tuple(classes)
    assert loaded.name == "faces" and loaded.path == str(path)
    whole = next(iter(arrays.values())).reshape(12, *shape)
    together = loaded.train if num_train == 12 else np.concatenate([loaded.train, loaded.held_out])
    assert sorted(map(bytes, together)) == sorted(map(bytes, whole))
    assert ("Left out arrays" in str(loaded.notes)) == ("val_images" in arrays)


def test_labels_stay_with_the_images_of_arrays(tmp_path):
    np.savez(tmp_path / "set.npz", images=GREY, labels=GREY[:, 0, 0] % 3 + 5)
    loaded = data.load(tmp_path / "set.npz")
    assert loaded.class_names == ("5", "6", "7")
    np.testing.assert_array_equal(loaded.train_labels, loaded.train[:, 0, 0, 0] % 3)


def test_one_array_in_a_file(tmp_path):
    np.save(tmp_path / "faces.npy", GREY)
    loaded = data.load(tmp_path / "faces.npy", image_size=4, channels=3, held_out=0.5)
    assert loaded.train.shape == loaded.held_out.shape == (6, 4, 4, 3)


def test_opacity_of_arrays_is_composited_over_white(tmp_path):
    images = np.zeros((8, 2, 2, 4), np.uint8)
    images[:, 0, :, 3] = 255
    np.save(tmp_path / "set.npy", images)
    loaded = data.load(tmp_path / "set.npy")
    np.testing.assert_array_equal(loaded.train[0, :, 0], [[0, 0, 0], [255, 255, 255]])


def test_what_sample_py_writes_can_be_trained_on(tmp_path):
    from ddpm_keras import images

    images.write(COLOUR, tmp_path / "samples.npz")
    assert data.load(tmp_path / "samples.npz").image_shape == (2, 2, 3)


# Folders of IDX files


IDX = {
    "MNIST": (["train-images-idx3-ubyte", "train-labels-idx1-ubyte"], 0.2),
    "with dots": (["train-images.idx3-ubyte", "train-labels.idx1-ubyte"], 0.2),
    "no labels": (["train-images-idx3-ubyte"], 0.2),
    "with a test": (["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"], None),
    "EMNIST": (["emnist-letters-train-images-idx3-ubyte", "emnist-letters-mapping.txt"], 0.2),
    "only a test": (["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"], 0.2),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("case", IDX)
def test_folders_of_idx_files(case, compress, tmp_path):
    names, share = IDX[case]
    suffix = ".gz" if compress else ""
    idx_folder(tmp_path, {name + suffix: 10 for name in names}, compress)
    loaded = data.load(tmp_path)
    assert len(loaded.train) == (8 if share else 10)
    assert len(loaded.held_out) == (2 if share else 10)
    assert loaded.num_classes == (2 if any("labels" in name for name in names) else None)
    if loaded.num_classes:
        np.testing.assert_array_equal(loaded.train_labels, loaded.train[:, 1, 1, 0] % 2)
    row, column = (3, 0) if "EMNIST" in case else (0, 3)  # EMNIST's files hold images transposed
    assert (loaded.train[:, row, column] == 255).all() and loaded.image_shape == (4, 4, 1)
    notes = [note for note in loaded.notes if "are among those to train on" not in note]
    assert len(notes) == (case in ("EMNIST", "only a test"))


def test_compression_is_known_by_content_and_twins_are_one(tmp_path):
    content = idx(np.arange(8 * 16).reshape(8, 4, 4))
    write(tmp_path / "train-images-idx3-ubyte", gzip.compress(content))
    write(tmp_path / "train-images-idx3-ubyte.gz", content)
    loaded = data.load(tmp_path)
    assert len(loaded.train) + len(loaded.held_out) == 8 and not loaded.notes


def test_idx_files_in_a_folder_of_their_own(tmp_path):
    idx_folder(tmp_path / "MNIST" / "raw", {"train-images-idx3-ubyte": 8})
    assert data.load(tmp_path).path == str(tmp_path)


@pytest.mark.skipif(
    not os.path.isdir("/usr/share/datasets/fashion-mnist"),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_as_debian_installs_it():
    loaded = data.load("/usr/share/datasets/fashion-mnist")
    assert loaded.train.shape == (60_000, 28, 28, 1) and loaded.held_out.shape[0] == 10_000
    assert loaded.class_counts == [(str(digit), 6000, 1000) for digit in range(10)]


# Names


def test_a_folder_named_like_a_built_in_set_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "digits", *CLASSES)
    loaded = data.load("digits")
    assert loaded.image_shape == (8, 8, 1) and loaded.path is None
    assert "./digits" in loaded.notes[0]
    for name in ("./digits", "digits/", tmp_path / "digits", os.curdir + "/digits"):
        assert data.load(name).image_shape == (2, 2, 1)


def test_a_home_and_a_relative_path_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    tree(tmp_path / "photos", *CLASSES)
    for name in ("photos", "~/photos", "./photos/../photos/"):
        loaded = data.load(name)
        assert loaded.path == str(tmp_path / "photos") and loaded.name == "photos"
