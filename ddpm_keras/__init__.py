"""Denoising diffusion (DDPM) with exponential moving averages of weights, for Keras 3.

Importing the package registers its classes with Keras, so `keras.saving.load_model` needs no
`custom_objects`. The command line scripts set `DDPM_KERAS_LAZY` to answer `--help` before
TensorFlow is loaded; then a module is imported when it is first used.
"""

import importlib
import os

from .version import __version__

_CLASSES = {"DDPM": "ddpm", "EMA": "ema", "EMAModel": "ema", "UNet": "networks"}
_MODULES = (
    "callbacks",
    "data",
    "ema",
    "interop",
    "likelihood",
    "networks",
    "noise",
    "posthoc",
    "quality",
    "samplers",
)

_PLACES = {"posthoc": "ema.posthoc"}  # of modules inside others

__all__ = ["__version__", *_CLASSES, *_MODULES]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not errors
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def __getattr__(name):
    if name in _CLASSES:
        return getattr(importlib.import_module(f".{_CLASSES[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{_PLACES.get(name, name)}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


if not os.environ.pop("DDPM_KERAS_LAZY", ""):
    for _name in (*_CLASSES, *_MODULES):
        globals()[_name] = __getattr__(_name)
