"""Images as the noise that DDIM draws them from, and what lies between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .. import samplers
from ..sampling import checked_finite
from ..scalars import whole
from . import given
from .interpolation import slerp

if TYPE_CHECKING:  # names in annotations alone
    from ..ddpm import DDPM

ENCODING_STEPS = 100


def encode(model: DDPM, images: ArrayLike, **settings: Any) -> np.ndarray:
    """The noise that DDIM draws images from, by its way back (Song et al. 2021a, section 5.4).

    Args:
        model: a `DDPM`.
        images: (N, height, width, channels), as the model is trained on.
        **settings: as of `DDPM.sample`, but for `seed`, `start` and `output`; the sampler is the
            DDIM, without eta, to go back the way of: by default of 100 steps that clip nothing.

    Returns:
        float32, shaped like the images; about standard normal where the model knows such images.

    Raises:
        ValueError: an argument is not what it should be.
    """
    _refuse(settings, "seed", "start", "output")
    images = given.checked(model, images)
    settings["sampler"] = samplers.DDIMInversion.of(_sampler(model, settings))
    drawing = given.sampling(model, len(images), **settings)
    encoded = [
        drawing.denoise(tf.constant(given.scaled(model, images[part])), part)
        for part in drawing.parts()
    ]
    return checked_finite(np.concatenate(encoded))


def interpolate_encodings(
    model: DDPM, first: Any, second: Any, num_images: int = 9, **settings: Any
) -> np.ndarray:
    """The images that lie between two images, by the noise that DDIM draws them from.

    Their encodings are joined by `slerp` (Song et al. 2021a, section 5.3), and drawn by the same
    steps. Nothing is left to chance; the ends are the images but for what is lost on the way, which
    more steps make less.

    Args:
        model: a `DDPM`.
        first, second: images (height, width, channels), as the model is trained on.
        num_images: number of images, at least 2, both ends among them.
        **settings: as of `encode`, and `output`; labels are of the images drawn, and the ends are
            encoded by the first and the last of them.

    Returns:
        An array (num_images, height, width, channels).

    Raises:
        ValueError: an argument is not what it should be.

    Example:

    >>> between = interpolate_encodings(model, images[0], images[1], num_images=9)
    """
    _refuse(settings, "seed", "start")
    settings["sampler"] = _sampler(model, settings)
    drawing = given.sampling(model, whole(num_images, "num_images", 2), **settings)
    of_ends = {name: settings[name] for name in settings.keys() - {"output", "progress"}}
    if settings.get("labels") is not None:
        of_ends["labels"] = drawing.labels[[0, -1]]
    ends = [given.checked(model, np.asarray(end)[np.newaxis]) for end in (first, second)]
    one, other = encode(model, np.concatenate(ends), **of_ends)[:, np.newaxis]
    weights = np.linspace(0.0, 1.0, drawing.num_images)
    return drawing.images(lambda part: slerp(one, other, weights[part]))


def _sampler(model, settings):
    """The sampler that is asked for, or one whose way back loses little."""
    if settings.get("sampler") is None:
        return samplers.DDIM(min(ENCODING_STEPS, model.schedule.timesteps), clip=False)
    return samplers.get(settings["sampler"], model.schedule)


def _refuse(settings, *names):
    for name in names:
        if name in settings:
            raise ValueError(f"{name} means nothing where nothing is drawn by lot; leave it out.")
