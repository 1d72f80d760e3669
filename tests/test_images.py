"""Pictures: tiles in order, files that hold the very pixels."""

import numpy as np
import pytest
from PIL import Image

from ddpm_keras import images


def test_grid_places_tiles_row_by_row():
    values = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    picture = np.asarray(images.grid(values, columns=3, size=0, gap=0))
    np.testing.assert_array_equal(picture[..., 0], [[0, 1, 2], [3, 4, 5]])


def tiles(count, height=2, width=3, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def test_grid_is_about_square_with_white_gaps_and_enlarged_by_a_whole_factor():
    """Five tiles of 2 x 3 pixels: two rows of three, 5 x 11 pixels, 36 times as large."""
    values = tiles(5)
    picture = images.grid(values)
    assert picture.mode == "RGB" and picture.size == (11 * 36, 5 * 36)
    expected = np.full((5, 11, 3), 255, np.uint8)
    corners = [(0, 0), (0, 4), (0, 8), (3, 0), (3, 4)]
    for tile, (top, left) in zip(values, corners, strict=True):
        expected[top : top + 2, left : left + 3] = tile
    enlarged = expected.repeat(36, axis=0).repeat(36, axis=1)
    np.testing.assert_array_equal(np.asarray(picture), enlarged)


@pytest.mark.parametrize(("size", "width"), [(0, 11), (11, 11), (21, 11), (22, 22), (400, 396)])
def test_grid_is_at_most_so_wide_but_never_made_smaller(size, width):
    assert images.grid(tiles(5), size=size).width == width


def test_grid_is_400_pixels_wide_unless_told_otherwise():
    assert images.grid(np.zeros((1, 1, 1, 1), np.uint8)).size == (400, 400)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grid_shows_the_first_channel_where_there_are_not_three(channels):
    values = tiles(1, channels=channels)
    picture = np.asarray(images.grid(values, size=0))
    np.testing.assert_array_equal(picture, np.repeat(values[0, ..., :1], 3, axis=-1))


@pytest.mark.parametrize("shape", [(2, 4, 4), (0, 4, 4, 1)])
def test_grid_refuses_what_are_no_images(shape):
    with pytest.raises(ValueError, match="must be uint8"):
        images.grid(np.zeros(shape, np.uint8))


def test_grid_refuses_floats():
    with pytest.raises(ValueError, match="must be uint8 .* not float64 of shape"):
        images.grid(np.zeros((2, 4, 4, 1)))


@pytest.mark.parametrize("margin", [10, 16])
def test_side_by_side_shows_each_picture_under_its_title(margin):
    """Three of different sizes: each in its own place, the titles above, white around."""
    sizes = {"raw": (60, 20), "ema_0.9": (90, 40), "ema_0.99": (70, 30)}
    pictures = {
        name: Image.fromarray(tiles(1, height, width)[0]) for name, (width, height) in sizes.items()
    }
    options = {} if margin == 16 else {"margin": margin}  # the default
    drawn = images.side_by_side(pictures, **options)
    assert drawn.size == (60 + 90 + 70 + 4 * margin, 28 + 40 + margin) and drawn.mode == "RGB"
    pixels, left, titles = np.array(drawn), margin, []
    for name, (width, height) in sizes.items():
        place = (slice(28, 28 + height), slice(left, left + width))
        np.testing.assert_array_equal(pixels[place], np.asarray(pictures[name]))
        pixels[place] = 255
        title = pixels[:28, left : left + width + margin]
        rows = np.flatnonzero((title < 100).any(axis=(1, 2)))
        assert np.ptp(rows) >= (12 if "0" in name else 8), name  # letters of 18 points
        titles.append(title.tobytes())
        left += width + margin
    assert len(set(titles)) == 3
    assert (pixels[28:] == 255).all() and (pixels[:, :margin] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_written_pixels_come_back(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5, channels), np.uint8)
    images.write(values, tmp_path / "folder")
    images.write(values, tmp_path / "all.npz")
    images.write(values, tmp_path / "grid.png")
    for index, image in enumerate(values):
        with Image.open(tmp_path / "folder" / f"00000{index}.png") as file:
            assert file.mode == ("L" if channels == 1 else "RGB")
            np.testing.assert_array_equal(np.asarray(file).reshape(4, 5, channels), image)
    assert len(list((tmp_path / "folder").iterdir())) == 3
    with Image.open(tmp_path / "grid.png") as file:
        np.testing.assert_array_equal(np.asarray(file), np.asarray(images.grid(values)))
    np.testing.assert_array_equal(np.load(tmp_path / "all.npz")["images"], values)
    with pytest.raises(ValueError, match="png or .npz"):
        images.write(values, tmp_path / "grid.tiff")


def test_what_is_gathered_is_written_by_a_block_alone(tmp_path):
    for name in ("a.npz", "a.png"):
        writer = images.Writer(tmp_path / name)
        with pytest.raises(ValueError, match="with Writer"):
            writer.add(tiles(2))
        with writer:
            writer.add(tiles(2))
        with pytest.raises(ValueError, match="with Writer"):
            writer.add(tiles(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "a.png"]
