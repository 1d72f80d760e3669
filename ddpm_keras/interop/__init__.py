"""Weights exchanged with other implementations; nothing of PyTorch or diffusers is needed.

Which folder is meant (`find_unet`, `find_scheduler`) is told without TensorFlow; what builds a
network loads it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # read by editors; the functions are imported when they are first used
    from .diffusers import load_diffusers, save_diffusers
    from .folders import find_scheduler, find_unet
    from .scheduler import load_diffusers_schedule
    from .unet_config import diffusers_config, unet_arguments

_PLACES = {
    "diffusers_config": "unet_config",
    "find_scheduler": "folders",
    "find_unet": "folders",
    "load_diffusers": "diffusers",
    "load_diffusers_schedule": "scheduler",
    "save_diffusers": "diffusers",
    "unet_arguments": "unet_config",
}

__all__ = [
    "diffusers_config",
    "find_scheduler",
    "find_unet",
    "load_diffusers",
    "load_diffusers_schedule",
    "save_diffusers",
    "unet_arguments",
]


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
