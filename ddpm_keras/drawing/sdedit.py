"""New images like given ones: noised part of the way, and denoised again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from . import given

if TYPE_CHECKING:  # names in annotations alone
    import numpy as np

    from ..ddpm import DDPM


def image_to_image(
    model: DDPM, images: ArrayLike, strength: float = 0.6, **settings: Any
) -> np.ndarray:
    """Images that keep the outlines of given ones (SDEdit, Meng et al. 2022, algorithm 1).

    Args:
        model: a `DDPM`.
        images: (N, height, width, channels), as the model is trained on.
        strength: share of the sampler's steps that are made, in [0, 1], rounded to whole steps: 0
            gives the images themselves, 1 forgets them and draws from noise.
        **settings: as of `DDPM.sample`.

    Returns:
        An array shaped like the images.

    Raises:
        ValueError: an argument is not what it should be.

    Example:

    >>> variations = image_to_image(model, images[:4], strength=0.5, seed=1)
    """
    images = given.checked(model, images)
    drawing = given.sampling(model, len(images), **settings)
    first = drawing.first_step(strength)

    def begin(part):
        return drawing.noised(given.scaled(model, images[part]), part, first)

    return drawing.images(begin, first)
