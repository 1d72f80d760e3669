"""Images decoded into memory: how much of it they need, and whether this machine has it."""

import math
import os

import numpy as np


def fill(source, shape, read, progress):
    """Decodes images.

    Args:
        source: what they come from, for messages.
        shape: (N, height, width, channels).
        read: `read(start)` gives the images from number `start` on, one after the other, uint8
            (height, width, channels), or None in place of one that is to be left out.
        progress: None, or a function called as `progress(done, total)` after each image.

    Returns:
        (images, is_read): uint8 without those left out, and a mask (N,) that says which are there.

    Raises:
        ValueError: they do not fit into memory.
    """
    check_memory(source, shape[0], shape[1:3], shape[3])
    images, is_read = np.empty(shape, np.uint8), np.zeros(shape[0], bool)
    for number, image in enumerate(read(0)):
        is_read[number] = image is not None
        if image is not None:
            images[number] = image
        if progress is not None:
            progress(number + 1, shape[0])
    return images if is_read.all() else images[is_read], is_read


def check_memory(source, num_images, size, channels):
    """Refuses beforehand what would not fit; the array exists twice once TensorFlow has it too.

    Args:
        source: what the images come from, for the message.
        num_images: how many there are.
        size: `(height, width)`.
        channels: of each image.

    Raises:
        ValueError: they do not fit.
    """
    needed = 2 * num_images * size[0] * size[1] * channels
    what = f"{num_images} images of {size[0]}x{size[1]}x{channels} from {source}"
    check_bytes(what, needed, "set a smaller image_size")


def check_bytes(what, needed, cure):
    """Refuses to load `what`, of so many bytes, where they are not available."""
    available = _available_memory()
    if needed > available:
        raise ValueError(
            f"{what} need {gib(needed)} GiB, and {gib(available)} GiB of memory are available: "
            f"{cure}."
        )


def gib(number):
    """A number of bytes in GiB, as text."""
    return f"{number / 2**30:.1f}" if number < 2**60 else f"{number / 2**30:.0e}"


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
