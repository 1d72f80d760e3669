"""Images, labels and weights of images, as users give them: what is taken, and what is refused."""

from .arrays import as_numpy, fits
from .checks import Inputs, check_image_range
from .model import ImageModel

__all__ = ["ImageModel", "Inputs", "as_numpy", "check_image_range", "fits"]
