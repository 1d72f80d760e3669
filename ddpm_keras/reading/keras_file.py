"""`.keras` files that hold a model alone: no code, no other files, no more than their weights."""

import json
import os
import zipfile
from typing import Any

import keras

from .. import keras_internals
from ..aliases import PathLike
from . import bounds, hdf5, json_parts, zips

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
TRAINED_FOR = "trained_for.json"  # what Keras passes over, see `ddpm_keras.trained_for`
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json", TRAINED_FOR}
_MOST_OBJECTS = 5000  # layers and the like of a configuration
_SLACK = 2**24  # bytes of variables beyond twice those in the file: states of seeds, metrics
# What runs code of the file, or reads other files by their paths.
_REFUSED = frozenset(
    "__lambda__ Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer StringLookup IntegerLookup "
    "TextVectorization".split()
)
_PACKAGES = (None, "", "builtins", "keras", "ddpm_keras")
_NO_MODELS = frozenset("utils saving config datasets export callbacks distribution".split())


def load(path: PathLike) -> Any:
    """The Keras model in a `.keras` file.

    Raises:
        Exception: of many kinds, if it is damaged; a `ValueError` if it asks for more than a model
            needs.
    """
    with zips.opened(path) as archive:
        size = _checked(archive, os.stat(path).st_size)
    most = 2 * size.nbytes + _SLACK
    with keras_internals.bounded_variables(most, 4 * size.arrays + 1000):
        return keras.saving.load_model(path)


def check_weights(path: PathLike) -> None:
    """Refuses a file of weights, `.h5` or `.keras`, that asks for more than it holds.

    Raises:
        OSError: it cannot be read.
        ValueError: says what is wrong with it.
    """
    name = os.fspath(path)
    try:
        if name.endswith(".keras"):
            with zips.opened(path) as archive:
                _checked(archive, os.stat(path).st_size)
        elif name.endswith(".h5"):
            hdf5.check_file(path)
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as weights: {error}.") from None


def _checked(archive, length):
    """The `hdf5.Size` of the weights in a `.keras` file that has nothing unusual."""
    others = sorted(set(archive.namelist()) - _MEMBERS)
    if others:
        raise ValueError(f"it holds {others[0][:60]!r}, which is no part of a model")
    config = archive.getinfo(_CONFIG)
    bounds.check_text(config.file_size)
    check_objects(json.loads(archive.read(config)))
    with archive.open(_WEIGHTS) as file:
        return hdf5.check(file, length)


def check_objects(config: Any) -> None:
    """Refuses what a configuration may not name; nothing in it is imported or made yet.

    Args:
        config: what `keras.saving.deserialize_keras_object` takes, or parts of it.

    Raises:
        ValueError: says what it names.
    """
    objects = 0
    for part in json_parts.dictionaries(config):
        if "class_name" in part:
            objects += 1
            _check_object(part)
    if objects > _MOST_OBJECTS:
        raise ValueError(f"its configuration is of {objects:,} objects, above {_MOST_OBJECTS:,}")


def _check_object(entry):
    name, module, registered = map(entry.get, ("class_name", "module", "registered_name"))
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise ValueError("its configuration names a class by something else than text")
    called = f"{module or ''}.{name}"[:100].strip(".")
    if name in _REFUSED:
        raise ValueError(f"it has a {called}, which would run code or read files")
    if isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None:
        return
    package, _, rest = (module or "").partition(".")
    if package not in _PACKAGES or rest.partition(".")[0] in _NO_MODELS:
        raise ValueError(f"it names {called}, which is no part of Keras or registered with it")
