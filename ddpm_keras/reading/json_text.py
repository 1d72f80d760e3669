"""JSON of a bounded length and depth, with finite numbers, that says each thing once."""

import json
import math
import os
from pathlib import Path
from typing import Any

from ..aliases import PathLike
from . import bounds


def read(path: PathLike, encoding: str = "utf-8") -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too long, or no JSON as `parse` takes it.
    """
    bounds.check_text(os.stat(path).st_size)
    return parse(Path(path).read_bytes().decode(encoding))


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is too long, too deep or no JSON, holds NaN or infinity, or gives a name
            twice.
    """
    bounds.check_text(len(text))
    try:
        value = json.loads(text, object_pairs_hook=_checked)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not _is_finite(value):
        raise ValueError("it holds NaN or infinity")
    return value


def _checked(pairs):
    """A dict of pairs, none of which has the name of another or a number that is none."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"it gives {twice[:40]!r} twice")
    for name, value in pairs:
        if not _is_finite(value):
            raise ValueError(f"its {name[:40]!r} holds NaN or infinity")
    return found


def _is_finite(value):
    """Whether a value is no float, or a finite one; a list, whether all in it are. A dict was."""
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
