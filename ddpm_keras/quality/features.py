"""Features gathered batch by batch, in memory or in a file that can be gone on with."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import warnings
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files
from ..aliases import PathLike, Progress
from ..data.rows import chunks
from ..reading import npz
from ..scalars import count, whole
from .matrices import check_features

if TYPE_CHECKING:  # names in annotations alone
    from ..quality.extractors.base import FeatureExtractor

CHUNK = 256  # images asked from the source at a time


def extract_features(
    extractor: FeatureExtractor,
    images: Any,
    num_images: int | None = None,
    path: PathLike | None = None,
    progress: Progress | None = None,
    identity: Mapping[str, Any] | None = None,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Features of many images, with memory for one batch of pictures at a time.

    Args:
        extractor: callable from uint8 images to features, with `dim` and `fingerprint`.
        images: an array `(N, H, W, C)`, an `ImageFolder`, or a function `images(start, stop)` that
            returns images `start..stop-1`.
        num_images: number of images; needed for a function, else all are taken.
        path: None to keep the features in memory; or an `.npy` file. If it is there and was made by
            this extractor of the same `identity`, and is whole, it is used as it is. Until they
            are all made, features grow in `path.partial`; an interrupted call goes on from there.
            Of several processes that want the same file, one makes it and the others wait.
        progress: None, or a function called as `progress(done, total)` after each batch.
        identity: what tells the images apart from others (a dict of plain values); a file made from
            anything else is computed again, never used. By default the pixels of an array, or the
            files of an `ImageFolder`; with a function and a path it has to be given.
        chunk: images asked from the source at a time.

    Returns:
        float32 `(N, dim)`, a read-only memory map where a path was given.

    Raises:
        ValueError: if the source gives fewer images than asked for, or the extractor NaN, or
            nothing tells the images of a function from others.
    """
    total = len(images) if num_images is None else whole(num_images, "num_images")
    chunk = count(chunk, "chunk")
    if total < 1:
        raise ValueError("There are no images to compute features of.")
    source = images if callable(images) else lambda start, stop: images[start:stop]
    if path is None:
        features = np.empty((total, extractor.dim), np.float32)
        _fill(features, 0, extractor, source, chunk, progress)
        return features
    path = pathlib.Path(path)
    identity = _identity(images, total) if identity is None else identity
    key = {"extractor": extractor.fingerprint, "num_images": total, **identity}
    with files.made_by_one(path):
        return _extract_to_file(path, key, total, extractor, source, chunk, progress)


def reference_path(folder: PathLike, extractor: FeatureExtractor, **identity: Any) -> pathlib.Path:
    """File in `folder` for features of the images that `identity` describes.

    Args:
        folder: cache folder; made if needed.
        extractor: its fingerprint, which covers weights and preprocessing, is part of the name.
        **identity: plain values such as `dataset`, `split`, `fingerprint` of the pixels.

    Returns:
        A `pathlib.Path`, another one for anything else; pass it to `extract_features` with the same
        `identity`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = json.dumps({"extractor": extractor.fingerprint, **identity}, sort_keys=True)
    return folder / f"features-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"


def _identity(images, total):
    """What tells images from others where nobody has said it."""
    if hasattr(images, "identity"):
        return images.identity
    if callable(images):
        raise ValueError(
            "A file of features needs identity, which tells the images of this function from "
            'others: give it with path, such as identity={"seed": 0}.'
        )
    digest = hashlib.sha256()
    parts = images[:total] if isinstance(images, list) else chunks(np.asanyarray(images)[:total])
    for part in map(np.ascontiguousarray, parts):
        digest.update(f"{part.dtype.str}{part.shape};".encode())
        digest.update(part)
    return {"images": digest.hexdigest()}


def _fill(features, start, extractor, source, chunk, progress, after_batch=lambda done: None):
    """Computes rows from `start` on."""
    total = len(features)
    while start < total:
        stop = min(start + chunk, total)
        batch = source(start, stop)
        if len(batch) != stop - start:
            raise ValueError(f"Images {start}..{stop - 1} were asked for; {len(batch)} came.")
        found = check_features(extractor(batch), "features", min_rows=1)
        if found.shape != (stop - start, features.shape[1]):
            raise ValueError(
                f"The extractor gave {found.shape} for {stop - start} images, and its dim is "
                f"{features.shape[1]}: give a row of so many features for each."
            )
        features[start:stop] = found
        after_batch(stop)
        if progress is not None:
            progress(stop, total)
        start = stop


def _extract_to_file(path, key, total, extractor, source, chunk, progress):
    partial, record = path.with_name(path.name + ".partial"), path.with_name(path.name + ".json")
    shape = (total, extractor.dim)
    known = _read_record(record)
    if path.exists():
        features = _open(path, shape)
        of_these = known.get("key") == key and known.get("sha256") == files.sha256(path)
        if of_these and features is not None:
            return features
        if known.get("key", key) == key:
            warnings.warn(f"{path} is damaged; it is computed again.", stacklevel=4)
    path.unlink(missing_ok=True)
    rows = _begun(partial, shape, known) if known.get("key") == key else None
    if rows is None:
        files.write_record(record, {"key": key, "done": 0})
        rows = _Rows(partial, shape)

    def after_batch(done):
        rows.sync()  # first the rows, then the claim that they are there
        files.write_record(record, {"key": key, "done": done, "crc32": rows.crc})

    with rows:
        _fill(rows, rows.done, extractor, source, chunk, progress, after_batch)
    os.replace(partial, path)
    files.write_record(record, {"key": key, "sha256": files.sha256(path)})
    return _open(path, shape)


class _Rows:
    """An `.npy` file of float32 to which rows are added.

    They are written, not mapped: on a disk that is full, a map ends the process.

    Args:
        path: the file, which is made; with rows `done`, it is gone on with.
        shape: of the array in the end.
        done: rows that are there.
        crc: their CRC-32.
    """

    def __init__(self, path, shape, done=0, crc=0):
        self.path, self.shape, self.done, self.crc = path, shape, done, crc
        self.file = open(path, "r+b" if done else "w+b", buffering=0)
        header = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        if not done:
            self._write(header.getbuffer())
        self.file.seek(header.tell() + 4 * done * shape[1])
        self.file.truncate()

    def __len__(self):
        return self.shape[0]

    def __setitem__(self, rows, values):
        """Adds the next rows."""
        content = np.ascontiguousarray(values, "<f4").tobytes()
        self._write(memoryview(content))
        self.done, self.crc = rows.stop, zlib.crc32(content, self.crc)

    def sync(self):
        os.fsync(self.file.fileno())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def _write(self, content):
        with files.errors_of(self.path):
            while content:
                content = content[self.file.write(content) :]


def _begun(partial, shape, record):
    """The `_Rows` of a file begun before, behind those that are whole; None to begin anew."""
    done, crc = record.get("done", 0), record.get("crc32")
    if not done or not partial.exists():
        return None
    size = 4 * done * shape[1]
    try:
        with open(partial, "rb") as file:
            is_whole = npz.read_header(file) == (shape, np.float32)
            is_whole = is_whole and zlib.crc32(content := file.read(size)) == crc
            is_whole = is_whole and len(content) == size
    except (ValueError, OSError, EOFError):
        is_whole = False
    if is_whole:
        return _Rows(partial, shape, done, crc)
    warnings.warn(f"{partial} is damaged; it is begun anew.", stacklevel=5)
    return None


def _open(path, shape) -> Any:
    """The read-only memory map of a file of float32, or None if it is damaged or another shape."""
    try:
        with open(path, "rb") as file:
            if npz.read_header(file) != (shape, np.float32):
                return None
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None


def _read_record(path):
    """The dict in a file of JSON, empty where there is none."""
    try:
        record = files.read_record(path)
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
