"""Images in memory or in a prepared file, in a part to train on and a held-out part."""

import dataclasses
import functools
import hashlib

import numpy as np

from .rows import chunks


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images in memory or in a prepared file, split into a part to train on and a held-out part.

    Attributes:
        name: the name the images were loaded by, or the last part of their path.
        train: uint8 array `(N, H, W, C)`; of a prepared file a read-only memory map.
        held_out: uint8 array `(M, H, W, C)`, never trained on.
        train_labels: int32 array `(N,)` in `0..num_classes - 1`, or None.
        held_out_labels: int32 array `(M,)`, or None.
        class_names: tuple of `num_classes` strings, empty without labels.
        provenance: one sentence telling where the images come from and how they were converted.
        path: absolute path of the file or folder they were read from, or None.
        notes: what the user should know of how they were read, a line each.
        checksum: the `fingerprint` where it is known beforehand, or None.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    provenance: str = ""
    path: str | None = None
    notes: tuple[str, ...] = ()
    checksum: str | None = None

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None when the images have no labels."""
        return len(self.class_names) or None

    @property
    def class_counts(self) -> list[tuple[str, int, int]]:
        """A list of (name, images to train on, images held out), in the order of the classes."""
        if not self.class_names:
            return []
        counts = [
            np.bincount(labels, minlength=len(self.class_names)).tolist()
            for labels in (self.train_labels, self.held_out_labels)
        ]
        return list(zip(self.class_names, *counts, strict=True))

    @property
    def untrained_classes(self) -> list[str]:
        """Names of the classes without an image to train on."""
        return [name for name, num_train, _ in self.class_counts if num_train == 0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)`."""
        return tuple(self.train.shape[1:])

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shapes, pixels and labels of both parts, as 64 hexadecimal digits."""
        if self.checksum is not None:
            return self.checksum
        digest = hashlib.sha256()
        for array in (self.train, self.held_out, self.train_labels, self.held_out_labels):
            if array is None:
                digest.update(b"none;")
                continue
            digest.update(f"{array.dtype.str}{array.shape};".encode())
            for chunk in chunks(array):
                digest.update(chunk)
        return digest.hexdigest()
