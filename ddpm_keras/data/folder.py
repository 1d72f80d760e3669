"""A folder of image files, its sub-folders the classes or the parts."""

import math
from concurrent import futures

import numpy as np

from ..reading import bounds
from .decode import decode, header
from .layout import arrange
from .listing import SUFFIXES, list_images
from .memory import check_memory
from .split import divide, hashed
from .words import by_suffix, few, reason, shown

OPTIONS = ("on_unreadable",)  # arguments of `data.load` that other sources do not take


def reads(request):
    """Whether this is a folder; asked after those that know what is in it."""
    return request.path.is_dir()


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
    layout = arrange(root, _names(root, listing.images))
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
    check_memory(shown(root), len(headers), size, channels)
    images, paths = _decode_all(headers, size, channels, unreadable, request.progress)
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


def _decode_all(headers, size, channels, unreadable, progress):
    """The images that can be read, (N, H, W, C), and their paths."""
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
    paths = [path for path, read in zip(headers, is_read, strict=True) if read]
    return images if is_read.all() else images[is_read], paths


def _numbered(classes):
    """The names of the classes, and the number of each image's class; () and None without any."""
    if classes is None:
        return (), None
    names, labels = np.unique(np.array(classes, object), return_inverse=True)
    return names.tolist(), labels.astype(np.int32)


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
        self.names = []

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
            self.names.append(str(name))
            return None

    def notes(self):
        """One line that names the files left out."""
        if not self.names:
            return []
        return [f"Left out {len(self.names):,} unreadable files: {few(self.names, most=20)}."]
