"""A folder of image files, its sub-folders the classes."""

import os
import pathlib
import warnings
from concurrent import futures

import numpy as np

from .decode import check_memory, decode, header
from .split import divide, hashed

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def load(root, size, channels, held_out, on_unreadable, seed, progress):
    paths = sorted(image_files(root), key=lambda path: path.relative_to(root).as_posix())
    if not paths:
        raise ValueError(
            f"The folder {root} holds no images: put {', '.join(SUFFIXES)} files into it or its "
            "sub-folders."
        )
    unreadable = _Unreadable(root, on_unreadable)
    headers = {path: unreadable.guard(path, header, path) for path in paths}
    headers = {path: header for path, header in headers.items() if header is not None}
    if channels is None:
        channels = 1 if all(grey for _, grey in headers.values()) else 3
    sizes = {image_size for image_size, _ in headers.values()}
    if size is None and len(sizes) > 1:
        few = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:3])
        raise ValueError(
            f"The images of {root} differ in size ({few}, ...): set image_size, such as 32."
        )
    size = size or next(iter(sizes), (1, 1))
    check_memory(root, len(headers), size, channels)

    images = np.empty((len(headers), *size, channels), np.uint8)
    is_read = np.zeros(len(headers), bool)
    with futures.ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(decode, path, images[row : row + 1]) for row, path in enumerate(headers)
        ]
        try:
            for row, (path, job) in enumerate(zip(headers, jobs, strict=True)):
                is_read[row] = unreadable.guard(path, job.result) is not None
                if progress is not None:
                    progress(row + 1, len(headers))
        finally:
            pool.shutdown(cancel_futures=True)
    unreadable.warn()
    kept = [path.relative_to(root).as_posix() for path in np.array([*headers], object)[is_read]]
    if len(kept) < 4:
        raise ValueError(
            f"The folder {root} holds {len(kept)} readable images, and at least 4 are needed (2 to "
            "train on and 2 held out): add images."
        )
    images = images if is_read.all() else images[is_read]
    class_names, labels = _sub_folders(kept)
    provenance = (
        f"{len(kept)} images of a folder, as {'greyscale' if channels == 1 else 'RGB'} of "
        f"{size[0]}x{size[1]} (shorter side resized by antialiased bicubic interpolation, centre "
        "cropped; transparency over white; 16-bit values / 257; first frame of animations)"
    )
    is_held_out = hashed(kept, held_out, seed)
    return divide(str(root), images, labels, is_held_out, class_names, provenance)


def image_files(root):
    for directory, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield pathlib.Path(directory) / file


def _sub_folders(names):
    """Names of the top sub-folders as classes, if every image is in one and there are several."""
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    classes = sorted(set(tops) - {None})
    if None in tops or len(classes) < 2:
        return (), None
    return tuple(classes), np.array([classes.index(top) for top in tops], np.int32)


class _Unreadable:
    """Files that cannot be read as images: refused at once, or left out and named at the end."""

    def __init__(self, root, policy):
        self.root = root
        self.policy = policy
        self.names = []

    def guard(self, path, read, *arguments):
        """What `read` returns, or None if `path` is to be left out."""
        try:
            return read(*arguments)
        except Exception as error:  # decoders fail on broken files in many ways
            name = path.relative_to(self.root)
            if self.policy == "refuse":
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(
                    f"{name} in {self.root} cannot be read as an image ({reason}): remove it, or "
                    "skip such files with on_unreadable='skip'."
                ) from None
            self.names.append(str(name))
            return None

    def warn(self):
        if self.names:
            warnings.warn(
                f"Left out {len(self.names)} unreadable files of {self.root}: "
                + ", ".join(self.names),
                stacklevel=4,
            )
