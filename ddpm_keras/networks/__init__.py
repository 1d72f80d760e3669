"""Networks that predict noise, and the layers they are made of."""

from .unet import UNet

__all__ = ["UNet"]
