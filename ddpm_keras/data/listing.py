"""Which files of a folder are images: what systems and archives leave behind is not."""

import os
import pathlib
from dataclasses import dataclass, field

from .words import by_suffix, few

# What Pillow reads by itself.
SUFFIXES = tuple(
    ".png .apng .jpg .jpeg .jpe .jfif .webp .avif .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm "
    ".jp2 .tga".split()
)
_LITTER = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"}


@dataclass
class Listing:
    """The files of a folder and its sub-folders.

    Attributes:
        root: the folder, a path.
        names: of the images, their paths below `root` with "/" between parts, in order.
        others: names of the files that are no images, without hidden ones.
        empty: names of the folders at the top that hold no image.
        links: names of links to folders that are reached in another way too.
    """

    root: pathlib.Path
    names: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    @property
    def images(self):
        """The paths of the images."""
        return [self.root / name for name in self.names]

    def signature(self):
        """Lines that change when a file comes, goes or is written: its `stamp`, not itself.

        Raises:
            OSError: a file has gone since.
        """
        for name in self.names:
            yield f"{name} {stamp(os.path.join(self.root, name))}"
        for others in (self.others, self.empty, self.links):  # which its notes speak of
            yield repr(sorted(others))

    def notes(self):
        """One line for each kind of thing that is left out."""
        notes = []
        if self.others:
            notes.append(f"Left out what is no image: {by_suffix(self.others)}.")
        if self.links:
            notes.append(f"Left out links to folders that are read already: {few(self.links)}.")
        if self.empty:
            notes.append(f"Folders without an image: {few(self.empty)}.")
        return notes


def list_images(root):
    """The `Listing` of a folder.

    A link to a folder is followed, unless what it leads to is in `root` anyway, holds `root`, or
    has been read: no image comes twice, and no chain of links is endless.

    Raises:
        OSError: a folder cannot be read.
    """
    listing = Listing(pathlib.Path(root))
    _walk(listing, "", {_identity(listing.root)})
    listing.names.sort()
    tops = {name.split("/")[0] for name in listing.names}
    listing.empty = sorted(set(listing.empty) - tops)
    return listing


def stamp(path):
    """What is another text once a file was written or replaced.

    It may have its time of before again, as what is unpacked or copied has, but not that of its
    last change of any kind.
    """
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def is_litter(name):
    """Whether a file or folder is hidden, or made by a system for itself."""
    return name.startswith(".") or name.lower() in _LITTER


def _walk(listing, folder, visited):
    """Adds what is in a folder, named by its path below the root, "" or ending in "/"."""
    with os.scandir(os.path.join(listing.root, folder)) as entries:
        # Links come last, so that a folder is known by its own name where it has one.
        entries = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in entries:
        name = folder + entry.name
        if is_litter(entry.name):
            continue
        if _is_folder(entry):
            _enter(listing, name, entry.is_symlink(), visited)
        elif entry.name.lower().endswith(SUFFIXES):
            listing.names.append(name)
        else:
            listing.others.append(entry.name)


def _is_folder(entry):
    """Whether an entry is a folder or leads to one; of links in circles False, and no error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _enter(listing, name, is_link, visited):
    folder = listing.root / name
    identity = _identity(folder)
    if identity in visited or (is_link and _leads_here(folder, listing.root)):
        listing.links.append(name)
        return
    visited.add(identity)
    if "/" not in name:
        listing.empty.append(name)
    _walk(listing, f"{name}/", visited)


def _leads_here(link, root):
    """Whether a link leads to `root`, to a folder in it, or to one that holds it."""
    target, root = link.resolve(), root.resolve()
    return target == root or root in target.parents or target in root.parents


def _identity(folder):
    status = folder.stat()
    return status.st_dev, status.st_ino
