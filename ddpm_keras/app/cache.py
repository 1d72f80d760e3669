"""Where classifiers and features of real images are kept."""

import os
from pathlib import Path


def folder():
    """The cache: what `DDPM_KERAS_CACHE` names, else ddpm-keras in the user's cache folder.

    Returns:
        A `Path`; it need not exist.
    """
    named = os.environ.get("DDPM_KERAS_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(named).expanduser() if named else Path(root) / "ddpm-keras"
