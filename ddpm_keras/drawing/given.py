"""Images that are given to a model to draw from, and how they are drawn from."""

import numpy as np

from ..inputs import as_numpy, containers
from ..inputs.checks import Inputs
from ..sampling import Sampling


def checked(model, images):
    """Images that a model can be trained on, as an array (N, height, width, channels).

    Raises:
        ValueError: they are none, in one line that names the cure.
    """
    images, _, _ = containers.arrays(Inputs(model.image_shape, model.image_range), images)
    return as_numpy(images)


def scaled(model, images):
    """Checked images as float32 in [-1, 1]."""
    return np.asarray(model.inputs_taken.scaled(images))


def sampling(model, num_images, kind=Sampling, **settings):
    """A `Sampling` of images that have no label unless `labels` says so."""
    if settings.get("labels") is None:
        settings["labels"] = model.num_classes  # "none", or None without classes
    return kind(model, num_images, **settings)
