"""Weights exchanged with other implementations; nothing of PyTorch or diffusers is needed."""

from .diffusers import (
    diffusers_config,
    load_diffusers,
    load_diffusers_schedule,
    save_diffusers,
    unet_arguments,
)

__all__ = [
    "diffusers_config",
    "load_diffusers",
    "load_diffusers_schedule",
    "save_diffusers",
    "unet_arguments",
]
