"""Weights exchanged with other implementations; nothing of PyTorch or diffusers is needed.

Which folder is meant (`find_unet`, `find_scheduler`) is told without TensorFlow; what builds a
network loads it.
"""

from typing import TYPE_CHECKING

from .. import lazy

if TYPE_CHECKING:  # read by editors; the functions are imported when they are first used
    from .diffusers import load_diffusers, save_diffusers
    from .folders import find_scheduler, find_unet
    from .scheduler import load_diffusers_schedule
    from .unet_config import diffusers_config, unet_arguments

_PLACES = {
    "diffusers_config": ".unet_config",
    "find_scheduler": ".folders",
    "find_unet": ".folders",
    "load_diffusers": ".diffusers",
    "load_diffusers_schedule": ".scheduler",
    "save_diffusers": ".diffusers",
    "unet_arguments": ".unet_config",
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


__getattr__ = lazy.attributes(__name__, _PLACES)


def __dir__():
    return sorted(__all__)
