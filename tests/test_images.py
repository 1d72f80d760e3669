"""Pictures: tiles in order, files that hold the very pixels."""

import numpy as np
import pytest
from PIL import Image

from ddpm_keras import images


def test_grid_places_tiles_row_by_row():
    values = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    picture = np.asarray(images.grid(values, columns=3, size=0, gap=0))
    np.testing.assert_array_equal(picture[..., 0], [[0, 1, 2], [3, 4, 5]])


def test_grid_refuses_floats():
    with pytest.raises(ValueError, match="uint8"):
        images.grid(np.zeros((2, 4, 4, 1)))


def test_side_by_side_is_as_wide_as_its_parts():
    picture = Image.new("RGB", (30, 20))
    assert images.side_by_side({"raw": picture, "ema": picture}, margin=10).width == 90


@pytest.mark.parametrize("channels", [1, 3])
def test_written_pixels_come_back(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5, channels), np.uint8)
    images.write(values, tmp_path / "folder")
    images.write(values, tmp_path / "all.npz")
    images.write(values, tmp_path / "grid.png")
    first = np.asarray(Image.open(tmp_path / "folder" / "000000.png"))
    np.testing.assert_array_equal(first.reshape(4, 5, channels), values[0])
    assert len(list((tmp_path / "folder").iterdir())) == 3
    np.testing.assert_array_equal(np.load(tmp_path / "all.npz")["images"], values)
    with pytest.raises(ValueError, match="png or .npz"):
        images.write(values, tmp_path / "grid.tiff")
