"""How images come out of noise, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import images
from ..sampling import Sampling
from ..scalars import count

if TYPE_CHECKING:  # names in annotations alone
    from ..ddpm import DDPM


class Denoising(NamedTuple):
    """The states of images on their way from noise (Ho et al. 2020, section 4.3 and figure 6).

    `picture` and `frames` are for uint8.

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

    def picture(self) -> Any:
        """One `PIL.Image`: for each image a row of x_t above one of x_start, both to their end."""
        rows = [np.concatenate([states, self.images[np.newaxis]]) for states in self[1:3]]
        tiles = np.stack(rows, axis=1).swapaxes(0, 2)  # (N, 2, frames + 1, ...)
        return images.grid(tiles.reshape(-1, *tiles.shape[3:]), len(rows[0]), size=800)

    def frames(self) -> Any:
        """`PIL.Image`s of an animation: x_t beside x_start, and the images at the end."""
        states = zip([*self.x, self.images], [*self.x_start, self.images], strict=True)
        return [
            images.side_by_side(
                {"x_t": images.grid(x, size=200), "x_start": images.grid(y, size=200)}
            )
            for x, y in states
        ]


def denoise_progressively(
    model: DDPM, num_images: int, frames: int = 10, **settings: Any
) -> Denoising:
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
    >>> way.picture().save("denoising.png")
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
            states.append((drawing.finished(before), drawing.finished(memory[:, 0])))
    noisy, predicted = zip(*states, strict=True)
    return np.stack(noisy), np.stack(predicted), drawing.finished(x)
