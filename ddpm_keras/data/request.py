"""What is asked of a source of images, checked once for all of them."""

import functools
import math
import numbers
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import choices
from . import memory
from .builtin import BUILT_IN
from .words import shown

HELD_OUT = 0.2
FILES = (".npz", ".npy")  # which no name of a set ends in


@dataclass(frozen=True)
class Request:
    """The arguments of `load`, which documents them.

    Attributes:
        name: as it was given, a string.
        is_path: whether it was given as a path object, which is never the name of a set.
        size: `(height, width)`, or None.
        cache: the folder for prepared images, or None.
        store: what decodes images: the module `memory`, or a `Scratch`.
    """

    name: str
    is_path: bool
    size: tuple[int, int] | None
    channels: int | None
    held_out: float | None
    on_unreadable: str
    data_dir: str | None
    seed: int
    progress: Callable | None
    cache: pathlib.Path | None
    store: Any = memory

    @classmethod
    def checked(
        cls, name, image_size, channels, held_out, on_unreadable, data_dir, seed, progress, cache
    ):
        """The request that the arguments of `load` make.

        Raises:
            ValueError: one of them is wrong.
        """
        if channels not in (None, 1, 3) or isinstance(channels, bool):
            raise ValueError(f"channels must be 1 (greyscale), 3 (RGB) or None; got {channels!r}.")
        choices.check("on_unreadable", on_unreadable, choices.UNREADABLE)
        if not _is_int(seed) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an int from 0 to 2**32 - 1; got {seed!r}.")
        if progress is not None and not callable(progress):
            raise ValueError(f"progress must be a function of (done, total); got {progress!r}.")
        return cls(
            name=_checked_name(name, "The data set's name"),
            is_path=isinstance(name, os.PathLike),
            size=_checked_size(image_size),
            channels=channels,
            held_out=_checked_fraction(held_out),
            on_unreadable=on_unreadable,
            data_dir=None if data_dir is None else _checked_name(data_dir, "data_dir"),
            seed=int(seed),
            progress=progress,
            cache=None if cache is None else _expanded(_checked_name(cache, "cache")),
        )

    @property
    def is_built_in(self):
        """Whether this is the name of a set that comes with installed packages."""
        return self.name in BUILT_IN and not self.is_path

    @functools.cached_property
    def path(self):
        """The absolute path that `name` is, if it is one.

        Raises:
            ValueError: it begins with ~ and the name of nobody.
        """
        return _expanded(self.name)

    def fill(self, source, shape, read):
        """Decodes images, as `memory.fill` says."""
        return self.store.fill(source, shape, read, self.progress)

    @property
    def looks_like_a_path(self):
        """Whether `name` cannot be the name of a set."""
        path, ends = pathlib.Path(self.name), "/\\"
        is_file = path.is_absolute() or path.suffix.lower() in FILES
        return self.is_path or is_file or self.name[0] in ".~" or self.name[-1] in ends

    @property
    def share(self):
        """The fraction to hold out where the source has no held-out part of its own."""
        return HELD_OUT if self.held_out is None else self.held_out

    def refuse_share(self, source, own):
        """Refuses a fraction for a source that brings its held-out images, in the part `own`."""
        if self.held_out is not None:
            raise ValueError(
                f"{source} has held-out images of its own, {own}: leave held_out={self.held_out} "
                "out."
            )


def _expanded(name):
    try:
        return pathlib.Path(os.path.abspath(pathlib.Path(name).expanduser()))
    except RuntimeError:
        raise ValueError(
            f"There is no user whose folder {shown(name)} could be: give the whole path, or ./ "
            "before a name that begins with ~."
        ) from None


def _checked_name(name, what):
    if not isinstance(name, (str, os.PathLike)) or not isinstance(os.fspath(name), str):
        raise ValueError(f"{what} must be a string or a path; got a {type(name).__name__}.")
    text = os.fspath(name)
    if not text.strip():
        raise ValueError(f"{what} is empty: give a name such as digits, or a path.")
    if "\0" in text:
        raise ValueError(f"{what} {text!r} holds a NUL character: no path has one; leave it out.")
    return text


def _checked_size(image_size):
    """Returns image_size as (height, width), or None."""
    if image_size is None:
        return None
    several = isinstance(image_size, (tuple, list, np.ndarray)) and np.ndim(image_size) == 1
    size = tuple(image_size) if several else (image_size, image_size)
    if len(size) != 2 or not all(_is_int(side) and side > 0 for side in size):
        raise ValueError(
            f"image_size must be a positive int or (height, width), such as 32; got {image_size!r}."
        )
    return int(size[0]), int(size[1])


def _checked_fraction(held_out):
    if held_out is None:
        return None
    is_number = isinstance(held_out, numbers.Real) and not isinstance(held_out, bool)
    if not is_number or not 0 < held_out < 1 or math.isnan(held_out):
        raise ValueError(f"held_out is a fraction between 0 and 1, such as 0.2; got {held_out!r}.")
    return float(held_out)


def _is_int(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
