"""Image files and arrays of any kind as uint8, greyscale or RGB, of one size."""

import os
import threading
import warnings
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..reading import bounds

_ORIENTATION = 0x0112  # of Exif
_PIXEL_BYTES = 16  # that a pixel takes while it is decoded, at four bytes in each state
_STRIP = 2**20  # pixels that are brought to RGB at a time
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_FORMAT = 256, 257, 258, 262, 339


class Header(NamedTuple):
    """What can be known of an image file without decoding its pixels.

    Attributes:
        size: `(height, width)` after orientation; no more pixels than `reading.bounds` allow.
        is_grey: whether it has no colour.
        frames: images in the file, of which the first is read.
    """

    size: tuple[int, int]
    is_grey: bool
    frames: int


def header(path):
    """The `Header` of an image file.

    Raises:
        Exception: of many kinds, if it cannot be read as an image.
    """
    from PIL import Image

    if not os.path.isfile(path):
        raise ValueError("it is no file" if os.path.exists(path) else "its link leads nowhere")
    with warnings.catch_warnings():
        # Pillow only warns of an image between one and two times its size limit.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            check_pixels(image, os.path.getsize(path))
            _refuse_unscaled(image)
            is_grey = _is_grey(image)  # first, since to look for the orientation may load a PNG
            return Header(_oriented_size(image), is_grey, getattr(image, "n_frames", 1))


def decode(path, out):
    """Reads any kind of image into `out`, uint8 (1, H, W, C), and returns it."""
    from PIL import Image

    # By a path, Pillow would map a TIFF into memory, and lose its orientation.
    with open(path, "rb") as file, Image.open(file) as image:
        check_pixels(image, os.path.getsize(path))
        with _IN_WORK.taken(_PIXEL_BYTES * image.width * image.height):
            out[0] = fit(_decoded(image, path), out.shape[1:3], out.shape[3])
    return out


def _decoded(image, path):
    """An opened image as L or RGB, upright."""
    rawmode = _rawmode(image)
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    if _is_sixteen_bit(image):
        image = _by_strips(_sixteen_bits_to_grey(getattr(image, "tag_v2", {})), image)
    elif rawmode == "RGB;16B" and "transparency" in image.info:
        image = _with_sixteen_bit_key(image, path)
    if image.has_transparency_data:
        image = _by_strips(lambda strip: _over_white(strip.convert("RGBA")), image)
    return _upright(image, orientation)


def check_pixels(image, length):
    """Refuses an opened image whose pixels would take far more memory than its file has bytes.

    Raises:
        ValueError: gives its width and height.
    """
    bounds.check(f"{image.width}x{image.height} pixels", 4 * image.width * image.height, length)


def _by_strips(change, *images):
    """What `change` makes of images of one size, a few rows at a time, so that it takes little."""
    from PIL import Image

    width, height = images[0].size
    rows = max(1, _STRIP // width)
    changed = None
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        strip = change(*(image.crop(box) for image in images))
        changed = changed or Image.new(strip.mode, (width, height))
        changed.paste(strip, (0, top))
    return changed


class _Budget:
    """Memory that several threads take from, each when there is enough of it, or all of it."""

    def __init__(self):
        self._taken, self._changed = 0, threading.Condition()

    @contextmanager
    def taken(self, nbytes):
        """Waits until so many bytes can be taken, or nothing else is."""
        most = 2 * bounds.most()
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + nbytes <= most)
            self._taken += nbytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= nbytes
                self._changed.notify_all()


_IN_WORK = _Budget()


def _refuse_unscaled(image):
    """Refuses pixels whose black and white are not known."""
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F" or 3 in tags.get(_TIFF_FORMAT, ()):
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    # Pillow's 32-bit mode also stands for 16 bits of the formats PNG and PGM.
    if 2 in tags.get(_TIFF_FORMAT, ()) or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError("its pixels are signed or 32-bit integers, whose range is not known")


def _oriented_size(image):
    width, height = image.size
    if image.format == "TIFF":  # of which some versions of Pillow give the size after orientation
        width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
    if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        width, height = height, width
    return height, width


def _is_grey(image):
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    # Pillow reads grey with opacity of 16 bits as RGBA.
    is_wide = _is_sixteen_bit(image) or _rawmode(image) == "LA;16B"
    return is_wide or image.mode in ("1", "L", "LA", "La")


def _is_sixteen_bit(image):
    return image.mode.split(";")[0] == "I"


def _sixteen_bits_to_grey(tags):
    """A function that makes L of grey of more than 8 bits, LA where there is a transparent value.

    Args:
        tags: of a TIFF file.
    """
    from PIL import Image

    white = 2.0 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    white_is_zero = tags.get(_TIFF_PHOTOMETRIC) == 0

    def change(image):
        values = np.asarray(image).astype(np.float64)
        opaque = values != image.info.get("transparency", -1)
        if white_is_zero:
            values = white - values
        grey = Image.fromarray(np.round(np.clip(values / white, 0, 1) * 255).astype(np.uint8))
        if "transparency" in image.info:
            grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
        return grey

    return change


def _rawmode(image):
    """How the pixels are stored in the file, by Pillow's name; known before they are loaded."""
    return image.tile[0][-1] if image.tile else None


def _with_sixteen_bit_key(image, path):
    """An RGB image of 16-bit PNG as RGBA, transparent where all 16 bits are those of its tRNS.

    Pillow keeps the upper byte of each value, and compares it with the 16 bits of the transparent
    colour. Read in the other byte order, the same file gives the lower bytes.
    """
    from PIL import Image

    with Image.open(path) as lower:
        lower.tile = [(*tile[:3], "RGB;16L") for tile in lower.tile]
        lower.load()
        return _by_strips(_keyed, image, lower)


def _keyed(upper, lower):
    """A strip of a 16-bit image as RGBA, of the upper and the lower bytes of its values."""
    from PIL import Image

    values = np.asarray(upper).astype(np.int32) * 256 + np.asarray(lower)
    opaque = (values != upper.info["transparency"]).any(-1)
    keyed = Image.fromarray(np.asarray(upper))
    keyed.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return keyed


def _over_white(image):
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _upright(image, orientation):
    """Turns an image as its Exif orientation, 1 to 8, says."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def fit_all(images, size, channels):
    """Brings images (N, H, W, C) to the size and the number of channels asked for, or keeps them.

    A fourth channel is opacity: such images become RGB.
    """
    size = size or images.shape[1:3]
    channels = channels or min(images.shape[-1], 3)
    if images.shape[1:] == (*size, channels):
        return images
    return np.stack(list(each_fitted(images, size, channels)))


def each_fitted(images, size, channels):
    """The images of an array (N, H, W, C) one by one, as of `fit_all`."""
    shape = (*size, channels)
    for image in images:
        yield image if image.shape == shape else fit(to_pil(image), size, channels)


def to_pil(image):
    """An array (H, W, C) as L or RGB; a fourth channel is opacity, composited over white."""
    from PIL import Image

    if image.shape[-1] == 4:
        return _over_white(Image.fromarray(image))
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def fit(image, size, channels):
    """Resizes (shorter side, antialiased) and centre-crops an L or RGB image: uint8 (H, W, C)."""
    from PIL import Image, ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)
