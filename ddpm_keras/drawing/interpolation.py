"""From one image to another, by their noise or by what becomes of them half noised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from .. import samplers
from ..aliases import Tensor
from ..sampling import Sampling
from ..scalars import whole
from . import given

if TYPE_CHECKING:  # names in annotations alone
    from ..ddpm import DDPM


class _SameNoise(Sampling):
    """A series of which all images have the noise of the first."""

    def seeds(self, part):
        one = samplers.image_seeds(self.seed, self.start, 1)
        return tf.repeat(one, part.stop - part.start, axis=0)


def interpolate_noise(
    model: DDPM, first: Any, second: Any, num_images: int = 9, **settings: Any
) -> np.ndarray:
    """The images that lie between those of two seeds.

    Their noises are joined by `slerp`, so that what lies between is as likely as they are. With a
    deterministic sampler the ends are `model.sample(1, seed=first)` and `seed=second`; a sampler
    that draws noise draws the same for all.

    Args:
        model: a `DDPM`.
        first, second: seeds.
        num_images: number of images, at least 2, both ends among them.
        **settings: as of `DDPM.sample`; `seed` and `start` are of the noise that the sampler draws,
            and refused where it draws none.

    Returns:
        An array (num_images, height, width, channels).

    Raises:
        ValueError: an argument is not what it should be.

    Example:

    >>> between = interpolate_noise(model, 0, 1, num_images=9, sampler="ddim")
    """
    ends = [
        samplers.initial_noise(samplers.image_seeds(whole(seed, name), 0, 1), model.image_shape)
        for seed, name in ((first, "first"), (second, "second"))
    ]
    drawing = given.sampling(model, whole(num_images, "num_images", 2), _SameNoise, **settings)
    chain = samplers.Chain(drawing.sampler, model.schedule, prediction=model.prediction)
    for name in ("seed", "start"):
        if settings.get(name) and not chain.draws:
            raise ValueError(
                f"{name} means nothing between two seeds by {drawing.sampler!r}, which draws no "
                "noise: leave it out."
            )
    weights = np.linspace(0.0, 1.0, drawing.num_images)
    return drawing.images(lambda part: slerp(*ends, weights[part]))


def interpolate_images(
    model: DDPM,
    first: Any,
    second: Any,
    num_images: int = 9,
    strength: float = 0.5,
    **settings: Any,
) -> np.ndarray:
    """The images that lie between two images (Ho et al. 2020, section 4.4 and figure 8).

    Both are noised by the same noise; what lies between is denoised.

    Args:
        model: a `DDPM`.
        first, second: images (height, width, channels), as the model is trained on.
        num_images: number of images, at least 2, both ends among them.
        strength: as of `image_to_image`: 0 blends the pixels, more makes images of it.
        **settings: as of `DDPM.sample`.

    Returns:
        An array (num_images, height, width, channels).

    Raises:
        ValueError: an argument is not what it should be.
    """
    ends = [given.checked(model, np.asarray(end)[np.newaxis]) for end in (first, second)]
    one, other = (given.scaled(model, end) for end in ends)
    drawing = given.sampling(model, whole(num_images, "num_images", 2), _SameNoise, **settings)
    begins = drawing.first_step(strength)
    weights = np.linspace(0.0, 1.0, drawing.num_images, dtype=np.float32)[:, None, None, None]

    def begin(part):  # to noise what lies between is to lie between what is noised
        between = (1.0 - weights[part]) * one + weights[part] * other
        return drawing.noised(between, part, begins)

    return drawing.images(begin, begins)


def slerp(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Points of the great circle through two noises (Shoemake 1985, section 3.3).

    Its points have the length of the ends, and so are noise as they are; those of the straight line
    are shorter.

    Args:
        first, second: float arrays (1, ...).
        weights: (N,), 0 for the first and 1 for the second.

    Returns:
        float32 (N, ...).

    Raises:
        ValueError: the ends are not one noise each, of one shape.
    """
    first, second = (np.asarray(each, np.float64) for each in (first, second))
    if first.shape != second.shape or first.shape[:1] != (1,):
        raise ValueError(
            f"first and second must be one noise each, (1, ...) of one shape; got {first.shape} "
            f"and {second.shape}."
        )
    cosine = np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    weights = np.reshape(weights, (-1,) + (1,) * (first.ndim - 1))
    shares = 1.0 - weights, weights
    if np.sin(angle) > 1e-6:  # else the line is the circle
        shares = (np.sin(share * angle) / np.sin(angle) for share in shares)
    of_first, of_second = shares
    return (of_first * first + of_second * second).astype(np.float32)
