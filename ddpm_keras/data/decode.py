"""Image files and arrays of any kind as uint8, greyscale or RGB, of one size."""

import math
import os
import warnings

import numpy as np

_EXIF_ORIENTATION = 0x0112


def header(path):
    """((height, width), is greyscale) after orientation, without decoding the pixels."""
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow only warns of an image between one and two times its size limit.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            if image.mode in ("P", "PA"):
                palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
                grey = bool((palette == palette[:, :1]).all())
            else:
                grey = image.mode in ("1", "L", "LA", "La") or image.mode[0] == "I"
            return (height, width), grey


def decode(path, out):
    """Reads any kind of image into `out`, uint8 (1, H, W, C), and returns it."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode[0] == "I":  # 16 bits, in one of Pillow's representations
            values = np.asarray(image).astype(np.float64)
            image = Image.fromarray(np.round(np.clip(values, 0, 65535) / 257).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        out[0] = fit(image, out.shape[1:3], out.shape[3])
    return out


def fit_all(images, size, channels):
    """Brings an array of images (N, H, W, C) to the size and the number of channels asked for."""
    size = size or images.shape[1:3]
    channels = channels or images.shape[-1]
    if images.shape[1:] == (*size, channels):
        return images
    fitted = np.empty((len(images), *size, channels), np.uint8)
    for row, image in zip(fitted, images, strict=True):
        row[:] = fit(to_pil(image), size, channels)
    return fitted


def to_pil(image):
    """An array (H, W, C) as L or RGB; a fourth channel is opacity, composited over white."""
    from PIL import Image

    if image.shape[-1] == 4:
        image = Image.fromarray(image)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def fit(image, size, channels):
    """Resizes (shorter side, antialiased) and centre-crops an L or RGB image: uint8 (H, W, C)."""
    from PIL import Image, ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


def check_memory(source, num_images, size, channels):
    """Refuses beforehand what would not fit; the array exists twice once TensorFlow has it too."""
    needed = 2 * num_images * size[0] * size[1] * channels
    available = _available_memory()
    if needed > available:
        raise ValueError(
            f"{num_images} images of {size[0]}x{size[1]}x{channels} from {source} need "
            f"{needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available: "
            "set a smaller image_size."
        )


def _available_memory():
    """Bytes of memory that can be had without swapping, or all of it where only that is known."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            return math.inf
