"""Data sets decoded once into a prepared file, kept in a folder, found again by a fingerprint.

The name of a file is `SET-REQUEST-SOURCE.npz`: the set's name, a hash of what was asked for, and a
hash of the names, sizes and times of the files it was made from (`listing.stamp`). When these have
changed, it is prepared anew, and the file before it goes. While one process prepares a set, others
wait for it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re

from .. import files
from . import prepared
from .scratch import Scratch, cache_errors
from .words import shown

_VERSION = 1  # of how images are decoded


def load(request, source):
    """The images that a source gives for a request, from a prepared file in `request.cache`.

    Raises:
        ValueError: they cannot be had, or there is no place for them.
    """
    stem = f"{_name(request)}-{_hash(_asked(request))[:8]}"
    path = request.cache / f"{stem}-{_hash(source.signature(request))[:16]}.npz"
    found, notes = _found(path)
    if found is not None:
        return found
    what = f"prepares the images of {shown(stem)}"
    with contextlib.ExitStack() as held:
        with cache_errors(request.cache):
            held.enter_context(files.one_at_a_time(request.cache / f"{stem}.lock", what))
        found, notes = _found(path)  # by now another process may have prepared it
        if found is not None:
            return found
        if any(request.cache.glob(f"{stem}-*.npz")) and not notes:
            notes = (f"Prepared anew, since {shown(request.name)} has changed.",)
        _prepare(path, stem, request, source)
    found = prepared.read(path)
    return dataclasses.replace(found, notes=(*found.notes, *notes))


def _found(path):
    """(the images of a prepared file or None, what has to be said of it)."""
    try:
        return prepared.read(path), ()
    except FileNotFoundError:
        return None, ()
    except ValueError as error:
        return None, (f"Prepared anew, since {error}.",)


def _prepare(path, stem, request, source):
    """Decodes a set, writes its prepared file, and removes whatever it was made of."""
    try:
        images = source.load(dataclasses.replace(request, store=Scratch(path)))
        partial = path.with_name(f"{path.name}.partial")
        with cache_errors(path.parent):
            prepared.write(partial, images, path.name)
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except (ValueError, OSError):  # what cannot be had leaves nothing behind; an interrupt does
        _remove_others(path, f"{path.name}.*")
        raise
    _remove_others(path, f"{stem}-*")


def _remove_others(path, pattern):
    """Removes the files of a pattern beside the prepared one."""
    for other in path.parent.glob(pattern):
        if other != path:
            other.unlink(missing_ok=True)


def _name(request):
    """The set's name in characters that every file system takes."""
    name = request.path.name if request.path.exists() else request.name
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name)[:40].strip(".-") or "images"


def _asked(request):
    """Lines that tell one request from another."""
    is_name = request.is_built_in or not request.path.exists()
    asked = {
        "version": _VERSION,
        "place": request.name if is_name else str(request.path),
        "size": request.size,
        "channels": request.channels,
        "held_out": request.held_out,
        "on_unreadable": request.on_unreadable,
        "data_dir": request.data_dir,
        "seed": request.seed,
    }
    yield json.dumps(asked)


def _hash(lines):
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
