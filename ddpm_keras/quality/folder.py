"""A folder of images of any size, read a batch at a time."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from ..aliases import PathLike
from ..data import decode, listing
from ..data.words import reason, shown


class ImageFolder:
    """The images of a folder and its sub-folders in the order of their names, as RGB.

    Files are read when they are asked for, so that a folder of any size needs memory for one batch.
    They are converted as `data.load` converts a folder, but keep their size.

    Args:
        path: the folder.

    Attributes:
        paths: of the images, in their order.
        notes: one line for each kind of thing in the folder that is left out.

    Raises:
        ValueError: if it is no folder with images; on reading, if a file is no image.

    Example:

    ```python
    extract_features(extractor, ImageFolder("generated"), progress=print)
    ```
    """

    def __init__(self, path: PathLike):
        self.path = pathlib.Path(path)
        listed = listing.list_images(self.path) if self.path.is_dir() else listing.Listing(path)
        self.paths, self.notes = listed.images, listed.notes()
        if not self.paths:
            raise ValueError(
                f"{shown(path)} is no folder with images ({', '.join(listing.SUFFIXES)}): give "
                "another."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Checksum of names, sizes and times of the files, for `extract_features`."""
        digest = hashlib.sha256()
        for path in self.paths:
            status = path.stat()
            line = f"{path} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {"folder": digest.hexdigest()}

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        """List of uint8 images `(H, W, 3)` of a slice."""
        return [self._read(path) for path in self.paths[rows]]

    def _read(self, path):
        try:
            height, width = decode.header(path).size
            return decode.decode(path, np.empty((1, height, width, 3), np.uint8))[0]
        except Exception as error:  # decoders fail on broken files in many ways
            raise ValueError(
                f"{shown(path)} cannot be read as an image ({reason(error)}): remove it from the "
                "folder."
            ) from None
