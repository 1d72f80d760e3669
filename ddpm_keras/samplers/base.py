"""Samplers: from noise to images with any noise predictor.

`sampler(predict, noise, schedule, seed=0)` runs the reverse process on `noise` (float32, shape
(batch, ...)), where `predict(x, t)` gives epsilon for t int32 of shape (batch,). The loop is one
`tf.while_loop` that holds `predict` once, so it works eagerly and in a `tf.function` with an
unknown batch size.

A step of each sampler here is linear in the current image, the predicted noise, the predicted
x_start, the x_start of the step before and fresh noise. A sampler therefore is a table of
coefficients, computed in float64, and they all share one loop.

Fresh noise is drawn for each image from its own seed, so an image does not depend on the batch it
is made in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..aliases import Predictor, Tensor
from ..configured import Configured
from ..noise import NoiseSchedule
from ..random import as_image_seeds, step_noise
from ..scalars import flag, whole

_COLUMNS = ("signal", "rate", "x", "epsilon", "x_start", "previous_x_start", "noise")


class Sampler(Configured):
    """What every sampler shares: the loop, clipping, and configuration.

    A subclass gives `timesteps` and `coefficients`. Each argument of its `__init__` is kept as an
    attribute of that name, by which two samplers are told apart.

    Args:
        clip: whether the predicted x_start is clipped to [-1, 1] at each step.
    """

    def __init__(self, clip: bool):
        self.clip = flag(clip, "clip")

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        """The timesteps that are visited, descending, int64 of shape (steps,)."""
        raise NotImplementedError(f"{type(self).__name__} must define timesteps(schedule).")

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        """The terms of each step.

        Args:
            schedule: the `NoiseSchedule`.
            timesteps: what `timesteps` gave.

        Returns:
            A dict of columns of shape (steps,) from "x", "epsilon", "x_start", "previous_x_start"
            and "noise": what each is multiplied by. A column left out is zero.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define coefficients(schedule, timesteps)."
        )

    def __call__(
        self,
        predict: Predictor,
        noise: Tensor,
        schedule: NoiseSchedule,
        seed: Any = 0,
        first: int = 0,
    ) -> Tensor:
        """Denoises.

        Args:
            predict: `predict(x, t) -> epsilon`, shaped like x; x float32, t int32 of shape
                (batch,).
            noise: x_T, standard normal, shape (batch, ...); with `first`, images that are as noisy
                as `timesteps(schedule)[first]`.
            schedule: The `NoiseSchedule` the predictor was trained with.
            seed: An integer, or per-image seeds as `image_seeds` gives them, shape (batch, 2).
            first: The step to begin at, from 0 to steps - 1.

        Returns:
            Images, float32, shaped like `noise`; data in [-1, 1] gives values about there.

        Raises:
            ValueError: `noise`, `schedule`, `first` or what `predict` gives is not of its kind.
        """
        chain = Chain(self, schedule, first)
        noise = _checked_noise(noise)
        seeds = as_image_seeds(seed, tf.shape(noise)[0]) if chain.draws else None

        def step(k, x, memory):
            return k + 1, *chain.step(predict, k, x, memory, seeds)

        _, x, _ = tf.while_loop(
            lambda k, *_: k < chain.steps,
            step,
            (0, noise, chain.memory(noise)),
            shape_invariants=(tf.TensorShape([]), noise.shape, noise.shape),
            parallel_iterations=1,
        )
        return x


class Chain:
    """The steps of a sampler on a schedule, one at a time, for loops that do more than denoise.

    Args:
        sampler: a `Sampler`.
        schedule: the `NoiseSchedule` of the predictor.
        first: step of the sampler to begin at. The chain is that of the timesteps that are left.

    Attributes:
        timesteps: that are visited, descending, int64 of shape (steps,).
        steps: how many.
        draws: whether its steps draw noise.
        remembers: whether a step depends on the one before.

    Example:

    >>> chain = Chain(samplers.DDIM(50), schedule)
    >>> memory = chain.memory(x)
    >>> for k in range(chain.steps):
    ...     x, memory = chain.step(predict, k, x, memory)
    """

    def __init__(self, sampler: Sampler, schedule: NoiseSchedule, first: int = 0):
        check_schedule(schedule)
        visited = sampler.timesteps(schedule)
        if not 0 <= whole(first, "first") < len(visited):
            raise ValueError(f"first is {first}; {sampler!r} has steps 0 to {len(visited) - 1}.")
        self.timesteps = visited[first:]
        self.steps = len(self.timesteps)
        self.clip = sampler.clip
        table = _table(sampler, schedule, self.timesteps)
        # Columns of zeros are left out of the graph: DDIM without eta draws no noise.
        self._used = {name for name, column in zip(_COLUMNS, table.T, strict=True) if column.any()}
        self._visited = tf.constant(self.timesteps, tf.int32)
        self._coefficients = tf.constant(table, tf.float32)
        self.draws = "noise" in self._used
        self.remembers = "previous_x_start" in self._used

    def memory(self, x: Tensor) -> Any:
        """What the first step is given of a step before: images of zeros, shaped like `x`."""
        return tf.zeros_like(x)

    def step(
        self,
        predict: Predictor,
        k: Any,
        x: Tensor,
        memory: Any,
        seeds: Any = None,
        draw: Any = None,
    ) -> Any:
        """One step.

        Args:
            predict: `predict(x, t) -> epsilon`.
            k: number of the step, from 0, an int or a tensor.
            x: images as noisy as `timesteps[k]`, float32 (batch, ...).
            memory: what the step before returned, or `memory(x)`.
            seeds: int32 (batch, 2), one for each image; needed where the chain `draws`.
            draw: number of the noise that is drawn, at least 1; k + 1 if not given.

        Returns:
            `(x, x_start)`: the images after the step, and what they were predicted to become, which
            is the memory for the next step.
        """
        c = dict(zip(_COLUMNS, tf.unstack(tf.gather(self._coefficients, k)), strict=True))
        epsilon = predicted(predict, x, tf.repeat(self._visited[k], tf.shape(x)[0]))
        x_start = (x - c["rate"] * epsilon) / c["signal"]
        if self.clip:
            x_start = tf.clip_by_value(x_start, -1.0, 1.0)
        terms = {"x": x, "epsilon": epsilon, "x_start": x_start, "previous_x_start": memory}
        after = sum(c[name] * term for name, term in terms.items() if name in self._used)
        if self.draws:
            draw = k + 1 if draw is None else draw
            after += c["noise"] * step_noise(seeds, draw, tf.shape(x)[1:])
        return tf.ensure_shape(after, x.shape), tf.ensure_shape(x_start, x.shape)


def _table(sampler, schedule, timesteps):
    """The coefficients of each step, float64 of shape (steps, columns)."""
    cumprod = schedule.alphas_cumprod[timesteps]
    columns = dict.fromkeys(_COLUMNS, np.zeros(len(timesteps)))
    columns |= {"signal": np.sqrt(cumprod), "rate": np.sqrt(1.0 - cumprod)}
    columns |= sampler.coefficients(schedule, timesteps)
    return np.stack([columns[name] for name in _COLUMNS], axis=1)


def predicted(predict, x, t):
    """What a predictor gives for x, float32; refused where its shape would be broadcast."""
    epsilon = tf.cast(predict(x, t), tf.float32)
    if not epsilon.shape.is_compatible_with(x.shape):
        raise ValueError(
            f"predict(x, t) gave shape {tuple(epsilon.shape)} for x of shape {tuple(x.shape)}: "
            "give the noise in each image, shaped like x."
        )
    return epsilon


def check_schedule(schedule):
    """Refuses what is no `NoiseSchedule`."""
    if not isinstance(schedule, NoiseSchedule):
        raise ValueError(
            f"schedule must be the NoiseSchedule of the predictor, such as noise.linear(1000); got "
            f"{schedule!r:.80}."
        )


def _checked_noise(noise):
    noise = tf.convert_to_tensor(noise)
    if not noise.dtype.is_floating:
        raise ValueError(
            f"noise must be standard normal floats, not {noise.dtype.name}: draw it by "
            "samplers.initial_noise."
        )
    return tf.cast(noise, tf.float32)
