"""Images, labels and weights of images, as users give them: what is taken, and what is refused."""

from .checks import Inputs, as_numpy, check_image_range, fits
from .model import ImageModel

__all__ = ["ImageModel", "Inputs", "as_numpy", "check_image_range", "fits"]
