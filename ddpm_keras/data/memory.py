"""How much memory images need, and whether this machine has it."""

import math
import os


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
            f"{what} need {_gib(needed)} GiB, and {_gib(available)} GiB of memory are available: "
            f"{cure}."
        )


def _gib(number):
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
