"""JSON of a bounded length and depth, with finite numbers, that says each thing once."""

import json
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
        return json.loads(
            text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name):
    raise ValueError(f"it holds {name}, which is no number")


def _finite(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"it holds {text[:40]}, which is no finite number")
    return value


def _once(pairs):
    """A dict of pairs, none of which has the name of another."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"it gives {twice[:40]!r} twice")
    return found
