"""What the weights in a file were trained for, so that no other diffusion takes them unsaid.

A file of weights alone, such as .weights.h5, fits every model of the same network, whatever it
predicts, and on whatever schedule. The .keras file of a network alone says neither by itself.
"""

import json
import warnings
import zipfile
import zlib

import numpy as np

from . import choices
from .noise import NoiseSchedule
from .reading import bounds, zips
from .reading.keras_file import TRAINED_FOR

_KEY = "trained_for"


def write(store, model):
    """Adds it to what Keras gives `save_own_variables`.

    Args:
        store: dict name -> array.
        model: a `DDPM`.
    """
    store[_KEY] = np.frombuffer(json.dumps(_of(model)).encode(), np.uint8)


def without(store, model):
    """What Keras gives `load_own_variables` without it; a warning says where it is another.

    Args:
        store, model: as of `write`; a file of an older version does not say it.
    """
    found = {key: store[key] for key in store.keys()}
    if _KEY not in found:
        return found
    try:
        told = json.loads(np.asarray(found.pop(_KEY), np.uint8).tobytes())
        own = _of(model).items()
        others = [
            f"{key} is {told[key]} there and {v} here" for key, v in own if told.get(key, v) != v
        ]
    except (ValueError, TypeError, AttributeError):
        others = ["it cannot be read what for"]
    if others:
        warnings.warn(
            f"These weights were trained for something else: {' and '.join(others)}. Images are "
            "wrong until the model is trained on.",
            stacklevel=4,
        )
    return found


def add_to_network(path, model):
    """Adds it to the .keras file of a network alone.

    Args:
        path: of the file.
        model: the `DDPM` that the network is of.
    """
    told = {"prediction": model.prediction, "schedule": model.schedule.get_config()}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(TRAINED_FOR, json.dumps(told))


def of_network(path):
    """What the .keras file of a network alone says that it was trained for.

    Returns:
        `(NoiseSchedule, prediction)`; None of a file that does not say it.

    Raises:
        ValueError: it says something that cannot be.
    """
    with zips.opened(path) as archive:
        if TRAINED_FOR not in archive.namelist():
            return None
        bounds.check_text(archive.getinfo(TRAINED_FOR).file_size)
        text = archive.read(TRAINED_FOR)
    try:
        told = json.loads(text)
        choices.check("prediction", told["prediction"], choices.PREDICTIONS)
        return NoiseSchedule.from_config(told["schedule"]), told["prediction"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {TRAINED_FOR} cannot be read ({error!r:.200})") from None


def _of(model):
    told = {"prediction": model.prediction, "schedule": repr(model.schedule)}
    betas = model.schedule.get_config().get("betas")
    if betas is not None:  # two of other betas may go by one name
        told["checksum of betas"] = zlib.crc32(np.asarray(betas, "<f4").tobytes())
    return told
