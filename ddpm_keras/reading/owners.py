"""Which run a file belongs to, so that none is taken for one of another run.

A run has an id in its config.json. What it writes names that id, and nothing that names another is
read in its directory.
"""

import os
from pathlib import Path
from typing import Any

from ..aliases import PathLike
from . import json_text

KEY = "run"  # of a record, config.json included
CONFIG = "config.json"
OTHER = "it is of another run"
_DEPTH = 3  # of folders in a run: tensorboard/raw/ is the deepest


def of_place(path: PathLike) -> str | None:
    """The id of the run in whose directory a file at this place lies.

    Returns:
        "" for a run that has none, being of an older version; None where there is no run.
    """
    for folder in Path(os.path.abspath(path)).parents[:_DEPTH]:
        config = _config(folder / CONFIG)
        if config is not None:
            return str(config.get(KEY) or "")
    return None


def is_foreign(path: PathLike, named: str) -> bool:
    """Whether a file that names this run, or "", has come into the directory of another one."""
    return of_place(path) not in (named, None)


def _config(path) -> dict[str, Any] | None:
    """The configuration of a run, or None for any other file of this name."""
    try:
        config = json_text.read(path)
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and "options" in config else None
