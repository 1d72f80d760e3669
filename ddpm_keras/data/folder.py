"""A folder of image files, its sub-folders the classes or the parts."""

import math
from concurrent import futures

import numpy as np

from ..reading import bounds
from .decode import decode, header
from .layout import arrange
from .listing import SUFFIXES, list_images
from .split import divide, hashed
from .words import by_suffix, few, in_order, reason, shown

OPTIONS = ("on_unreadable",)  # arguments of `data.load` that other sources do not take
_AT_ONCE = 256  # images that are decoded before the first of them is taken


def reads(request):
    """Whether this is a folder; asked after those that know what is in it."""
    return request.path.is_dir()


def signature(request):
    """What changes when an image comes, goes or is written."""
    return list_images(request.path).signature()


def load(request):
    """The images below a folder, as `ImageData`."""
    root = request.path
    listing = list_images(root)
    if not listing.images:
        others = f" (but {by_suffix(listing.others)})" if listing.others else ""
        raise ValueError(
            f"The folder {shown(root)} holds no images{others}: put {', '.join(SUFFIXES)} files "
            "into it or its sub-folders."
        )
    layout = arrange(root, listing.names)
    if layout.held_out:
        request.refuse_share(shown(root), "in a folder of their own")
    unreadable = _Unreadable(root, request.on_unreadable)
    headers = {
        path: unreadable.guard(path, header, path)
        for path, is_used in zip(listing.images, layout.is_used, strict=True)
        if is_used
    }
    headers = {path: head for path, head in headers.items() if head is not None}
    channels = request.channels or (1 if all(head.is_grey for head in headers.values()) else 3)
    size = request.size or _common_size(root, headers.values())
    if not request.size:
        length = sum(path.stat().st_size for path in headers)
        bounds.check(f"the images of {shown(root)}", len(headers) * math.prod(size) * 4, length)
    decoding = _Decoding(list(headers), (*size, channels), unreadable)
    shape = (len(headers), *size, channels)
    images, is_read = request.fill(shown(root), shape, decoding.images)
    paths = decoding.read(is_read)
    if len(paths) < 4:
        raise ValueError(
            f"The folder {shown(root)} holds {len(paths)} readable images, and at least 4 are "
            "needed (2 to train on and 2 held out): add images."
        )
    names = _names(root, paths)
    layout = layout.of(names)
    class_names, labels = _numbered(layout.classes)
    return divide(
        shown(root.name),
        images,
        labels,
        np.array(layout.held_out or hashed(names, request.share, request.seed)),
        class_names=tuple(shown(name) for name in class_names),
        provenance=_provenance(len(names), size, channels),
        path=str(root),
        notes=(*layout.notes, *listing.notes(), *_frames(root, headers), *unreadable.notes()),
    )


def _names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


def _common_size(root, headers):
    sizes = sorted({head.size for head in headers})
    if len(sizes) > 1:
        some = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
        raise ValueError(
            f"The images of {shown(root)} differ in size ({some}, ...): set image_size, such as 32."
        )
    return sizes[0] if sizes else (1, 1)


class _Decoding:
    """Files decoded by all processors, in their order."""

    def __init__(self, paths, shape, unreadable):
        self.paths, self.shape, self.unreadable = paths, shape, unreadable

    def images(self, start):
        """The images from number `start` on, None for one that cannot be read."""
        pool = futures.ThreadPoolExecutor()
        try:
            for first in range(start, len(self.paths), _AT_ONCE):
                paths = self.paths[first : first + _AT_ONCE]
                jobs = [pool.submit(self._decode, path) for path in paths]
                for path, job in zip(paths, jobs, strict=True):
                    yield self.unreadable.guard(path, job.result)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, path):
        return decode(path, np.empty((1, *self.shape), np.uint8))[0]

    def read(self, is_read):
        """The paths that could be read by the mask, the others being known as unreadable."""
        left_out = [path for path, read in zip(self.paths, is_read, strict=True) if not read]
        self.unreadable.leave_out(left_out)
        return [path for path, read in zip(self.paths, is_read, strict=True) if read]


def _numbered(classes):
    """The names of the classes, and the number of each image's class; () and None without any."""
    if classes is None:
        return (), None
    names = in_order(set(classes))
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number[name] for name in classes], np.int32)


def _frames(root, headers):
    several = [path for path, head in headers.items() if head.frames > 1]
    if not several:
        return []
    return [
        f"Only the first image is read of files that hold several: {few(_names(root, several))}."
    ]


def _provenance(num_images, size, channels):
    return (
        f"{num_images} images of a folder, as {'greyscale' if channels == 1 else 'RGB'} of "
        f"{size[0]}x{size[1]} (shorter side resized by antialiased bicubic interpolation, centre "
        "cropped; transparency over white; 16-bit grey / 257, the upper byte of 16-bit colour; "
        "first frame of animations)"
    )


class _Unreadable:
    """Files that cannot be read as images: refused at once, or left out and named at the end."""

    def __init__(self, root, policy):
        self.root = root
        self.policy = policy
        self.names = {}  # in order, each once

    def guard(self, path, read, *arguments):
        """What `read` returns, or None if `path` is to be left out."""
        try:
            return read(*arguments)
        except Exception as error:  # decoders fail on broken files in many ways
            name = path.relative_to(self.root)
            if self.policy == "refuse":
                raise ValueError(
                    f"{shown(name)} in {shown(self.root)} cannot be read as an image "
                    f"({reason(error)}): remove it, or skip such files with on_unreadable='skip'."
                ) from None
            self.leave_out([path])
            return None

    def leave_out(self, paths):
        """Notes files as unreadable."""
        self.names.update((str(path.relative_to(self.root)), None) for path in paths)

    def notes(self):
        """One line that names the files left out."""
        if not self.names:
            return []
        return [f"Left out {len(self.names):,} unreadable files: {few(self.names, most=20)}."]
