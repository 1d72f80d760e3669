"""Folders of images against the arrays that were written into them."""

import numpy as np
import pytest
from PIL import Image

from ddpm_keras import data


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
    ordered = sorted(
        path.relative_to(folder).as_posix() for path in data.listing.list_images(folder).images
    )
    is_held_out = data.split.hashed(ordered, options.get("held_out", 0.2), 0)
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


def test_unreadable_files_are_skipped_by_choice_and_named(with_broken_files, colours, caplog):
    loaded = data.load(with_broken_files, image_size=6, on_unreadable="skip")
    assert "Left out 3 unreadable files: empty.gif, text.png, cut.jpg." in loaded.notes
    assert all(note in caplog.text for note in loaded.notes)
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
    refused("is no folder and no .npz or .npy file", tmp_path / "a.png")
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
