"""Pictures of images: grids, and weight sets side by side."""

import math
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from . import checksums, files
from .scalars import count, whole

_BACKGROUND, _INK = (255, 255, 255), (20, 20, 20)
_SIZE = 400  # pixels


def grid(images, columns=None, size=_SIZE, gap=1):
    """Tiles images into one picture.

    Args:
        images: uint8 (N, height, width, channels), 1 or 3 channels (others: the first is shown).
        columns: images a row; by default about as many as rows.
        size: the picture is enlarged, by a whole factor, to at most about so many pixels of width.
        gap: white pixels between the tiles, before enlarging.

    Returns:
        A `PIL.Image` in RGB.
    """
    images, gap = _checked(images), whole(gap, "gap", 0)
    if images.shape[-1] != 3:
        images = np.repeat(images[..., :1], 3, axis=-1)
    number, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(number)) if columns is None else count(columns, "columns")
    rows = math.ceil(number / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    factor = max(1, whole(size, "size", 0) // canvas.shape[1])
    return Image.fromarray(canvas).resize(
        (canvas.shape[1] * factor, canvas.shape[0] * factor), Image.Resampling.NEAREST
    )


def tiles(picture, shape, gap=1):
    """The images of a picture that `grid` made with its own columns and size.

    Args:
        picture: a `PIL.Image`.
        shape: (height, width) of each image.
        gap: as of `grid`.

    Returns:
        uint8 (N, height, width, 3), the empty places of the last row among them; None where the
        picture is no such grid.
    """
    height, width = shape
    for columns in range(1, picture.width + 1):
        across = columns * (width + gap) - gap
        factor = max(1, _SIZE // across)
        if across * factor == picture.width:
            break
    else:
        return None
    pixels = np.asarray(picture.convert("RGB"))[::factor, ::factor]
    rows, rest = divmod(len(pixels) + gap, height + gap)
    if rest:
        return None
    pixels = np.pad(pixels, ((0, gap), (0, gap), (0, 0)))
    pixels = pixels.reshape(rows, height + gap, columns, width + gap, 3)[:, :height, :, :width]
    return pixels.swapaxes(1, 2).reshape(-1, height, width, 3)


def side_by_side(pictures, margin=16):
    """Puts titled pictures next to each other.

    Args:
        pictures: dict title -> `PIL.Image`.
        margin: pixels around each.

    Returns:
        A `PIL.Image` in RGB.
    """
    font = ImageFont.load_default(size=18)
    header = 28
    width = sum(picture.width + margin for picture in pictures.values()) + margin
    height = max(picture.height for picture in pictures.values()) + header + margin
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw, left = ImageDraw.Draw(canvas), margin
    for title, picture in pictures.items():
        draw.text((left, 4), title, fill=_INK, font=font)
        canvas.paste(picture, (left, header))
        left += picture.width + margin
    return canvas


def animate(pictures, path, milliseconds=120):
    """Writes pictures of one size as an animation that repeats, whole or not at all.

    Args:
        pictures: `PIL.Image`s in RGB, at least one.
        path: a name ending in .webp or .gif.
        milliseconds: each is shown; the last five times as long.
    """
    first, *others = pictures
    durations = [*[milliseconds] * len(others), 5 * milliseconds]
    with files.atomic_path(path) as temporary:
        first.save(
            temporary, save_all=True, append_images=others, duration=durations, loop=0,
            lossless=True,  # which GIF is by nature
        )  # fmt: skip


def save(picture, path):
    """Writes a `PIL.Image` to `path`, whole or not at all; a PNG names the run that it is of."""
    text = PngInfo()
    for key, value in checksums.png_text(path).items():
        text.add_text(key, value)
    with files.atomic_path(path) as temporary:
        picture.save(temporary, pnginfo=text)


def _checked(images):
    """Images as an array; refused where they are no uint8 (N, height, width, channels)."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise ValueError(
            f"Images must be uint8 (N, height, width, channels), not {images.dtype} of shape "
            f"{images.shape}."
        )
    return images


def check_target(path, suffixes=(".png", ".npz"), folder=True):
    """Refuses what could not be written to; nothing is left behind.

    Args:
        path: as of `write`.
        suffixes: of the files that it may be.
        folder: whether it may be a folder.

    Raises:
        ValueError: the path ends in another suffix, or something else is there.
        OSError: it cannot be written to.
    """
    path = Path(path)
    if path.name in suffixes:
        raise ValueError(
            f"{path} is a suffix without a name: give a name such as images{path.name}."
        )
    if path.suffix not in (*suffixes, *[""] * folder):
        named = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}{', or a folder' * folder}"
        raise ValueError(f"{path}: give a name ending in {named}.")
    if path.suffix and path.is_dir():
        raise ValueError(f"{path} is a folder: give another name.")
    if not path.suffix and path.is_file():
        raise ValueError(f"{path} is a file: give a new folder, or a name ending in .png or .npz.")
    if not path.suffix and path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{path} holds files already: give a new or empty folder.")
    files.check_writable(path.parent if path.is_file() else path)


class Writer:
    """Writes images as they come, with memory for one batch of them.

    A folder gets its files at once. What is written to .npz or .png, a grid of all images, gathers
    in a file without a name, and has its own when the block ends; so it has, with the images added
    until then, where Ctrl-C ends the block. Where anything else does, nothing is left.

    Args:
        path: a name ending in .png or .npz, or a folder, which gets 000000.png, 000001.png ...

    Attributes:
        count: images added.

    Raises:
        ValueError: the path ends in another suffix, or something else is there.
        OSError: it cannot be written to.

    Example:

    >>> with Writer("samples.npz") as writer:
    ...     for start in range(0, 50_000, 64):
    ...         writer.add(model.sample(64, start=start))
    """

    def __init__(self, path):
        check_target(path)
        self.path, self.count = Path(path), 0
        self._shape = self._gathered = None

    def __enter__(self):
        if self.path.suffix:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._gathered = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def add(self, images):
        """Adds uint8 images (N, height, width, channels), all of one size; 1 or 3 channels, or any
        number in an .npz.

        Raises:
            ValueError: these are no such images.
        """
        images = _checked(images)
        if self.path.suffix and (self._gathered is None or self._gathered.closed):
            raise ValueError(f"{self.path} is written when a block ends: use `with Writer(path)`.")
        if self._shape not in (None, images.shape[1:]):
            raise ValueError(f"Images of {images.shape[1:]} come after those of {self._shape}.")
        self._shape = images.shape[1:]
        if self._gathered:
            with files.errors_of(self.path):
                self._gathered.write(images.tobytes())
        else:
            self._add_files(images)
        self.count += len(images)

    def _add_files(self, images):
        channels = images.shape[-1]
        if channels not in (1, 3):
            raise ValueError(
                f"Images of {channels} channels are no pictures: write 1 or 3, or an .npz."
            )
        for index, image in enumerate(images, self.count):
            picture = Image.fromarray(image.squeeze(-1) if channels == 1 else image)
            save(picture, self.path / f"{index:06d}.png")

    def __exit__(self, kind, *_):
        if not self._gathered:
            return
        with files.errors_of(self.path), self._gathered:
            if self.count and kind in (None, KeyboardInterrupt):
                self._gathered.seek(0)
                shape = (self.count, *self._shape)
                write = _write_grid if self.path.suffix == ".png" else _write_npz
                write(self._gathered, shape, self.path)


def _write_grid(pixels, shape, path):
    save(grid(np.frombuffer(pixels.read(), np.uint8).reshape(shape)), path)


def _write_npz(pixels, shape, path):
    """An .npz with the array "images" of a file of pixels, which need not fit in memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with files.atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("images.npy", "w", force_zip64=True) as array:
                np.lib.format.write_array_header_1_0(array, header)
                shutil.copyfileobj(pixels, array, 2**20)


def write(images, path):
    """Writes images as one picture (.png), as arrays (.npz, key "images"), or one file each.

    Args:
        images: uint8 (N, height, width, channels), 1 or 3 channels, or any number in an .npz.
        path: as of `Writer`.

    Raises:
        ValueError: these are no such images, the path ends in another suffix, or something else is
            there.
        OSError: it cannot be written to.
    """
    with Writer(path) as writer:
        writer.add(images)
