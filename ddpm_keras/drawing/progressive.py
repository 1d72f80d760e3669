"""How images come out of noise, step by step."""

from typing import NamedTuple

import numpy as np

from ..sampling import Sampling
from ..scalars import count


class Denoising(NamedTuple):
    """The states of images on their way from noise (Ho et al. 2020, section 4.3 and figure 6).

    Attributes:
        timesteps: of each state, descending, int64 (frames,).
        x: x_t, the images with the noise that is left, (frames, N, height, width, channels).
        x_start: what the model takes each of them to become, of the same shape.
        images: what they become, (N, height, width, channels).
    """

    timesteps: np.ndarray
    x: np.ndarray
    x_start: np.ndarray
    images: np.ndarray


def denoise_progressively(model, num_images, frames=10, **settings):
    """Draws images and keeps states on the way: the very images of `DDPM.sample`.

    Args:
        model: a `DDPM`.
        num_images: number of images.
        frames: states to keep, spread evenly over the steps from the first to the last, at most one
            for each.
        **settings: as of `DDPM.sample`.

    Returns:
        A `Denoising`.

    Raises:
        ValueError: an argument is not what it should be.

    Example:

    >>> way = denoise_progressively(model, 4, frames=8)
    >>> images.animate([images.grid(x) for x in way.x], "denoising.webp")
    """
    drawing = Sampling(model, num_images, **settings)
    timesteps = drawing.timesteps
    kept = np.linspace(0, len(timesteps) - 1, min(count(frames, "frames"), len(timesteps)))
    kept = kept.round().astype(int)
    ways = [_way(drawing, part, set(kept)) for part in drawing.parts()]
    x, x_start = (np.concatenate([way[i] for way in ways], axis=1) for i in (0, 1))
    return Denoising(timesteps[kept], x, x_start, np.concatenate([way[2] for way in ways]))


def _way(drawing, part, kept):
    """(x, x_start, images) of a part, as `Denoising` has them."""
    x = drawing.noise(part)
    memory, states = drawing.memory(x), []
    for k in range(len(drawing.timesteps)):
        before = x
        x, memory = drawing.step(k, x, memory, part)
        if k in kept:
            states.append((drawing.finished(before), drawing.finished(memory)))
    noisy, predicted = zip(*states, strict=True)
    return np.stack(noisy), np.stack(predicted), drawing.finished(x)
