"""Where classifiers and features of real images are kept."""

import hashlib
import json
import os
from pathlib import Path

from .. import files
from ..errors import UsageError


def folder():
    """The cache: what `DDPM_KERAS_CACHE` names, else ddpm-keras in the user's cache folder.

    Returns:
        A `Path`; it need not exist.

    Raises:
        UsageError: it would be in a home folder, and there is none.
    """
    named = os.environ.get("DDPM_KERAS_CACHE")
    root = named or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = os.path.expanduser(root)
    if path.startswith("~"):
        raise UsageError(
            f"the cache would be in {root}, and there is no such home folder; name another by "
            "DDPM_KERAS_CACHE."
        )
    return Path(path) if named else Path(path) / "ddpm-keras"


def check():
    """Refuses a cache that could not be written to.

    Raises:
        UsageError: in one line that says how to name another.
    """
    try:
        files.check_writable(folder())
    except OSError as error:
        raise UsageError(
            f"the cache cannot be written to ({error.strerror}); name another folder than "
            f"{error.filename} by DDPM_KERAS_CACHE."
        ) from None


def file(what, suffix, **identity):
    """The file in the cache for what plain values identify, whatever these are called.

    Args:
        what: the beginning of its name.
        suffix: the end of its name.
        **identity: strings and numbers, of which the rest of the name is a hash.
    """
    key = json.dumps(identity, sort_keys=True)
    return folder() / f"{what}-{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"
