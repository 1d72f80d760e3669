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

import numpy as np
import tensorflow as tf

from ..configured import Configured
from ..noise import NoiseSchedule
from ..random import as_image_seeds, step_noise
from ..scalars import flag

_COLUMNS = ("signal", "rate", "x", "epsilon", "x_start", "previous_x_start", "noise")


class Sampler(Configured):
    """What every sampler shares: the loop, clipping, and configuration.

    A subclass gives `timesteps` and `coefficients`. Each argument of its `__init__` is kept as an
    attribute of that name, by which two samplers are told apart.

    Args:
        clip: whether the predicted x_start is clipped to [-1, 1] at each step.
    """

    def __init__(self, clip):
        self.clip = flag(clip, "clip")

    def timesteps(self, schedule):
        """The timesteps that are visited, descending, int64 of shape (steps,)."""
        raise NotImplementedError(f"{type(self).__name__} must define timesteps(schedule).")

    def coefficients(self, schedule, timesteps):
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

    def __call__(self, predict, noise, schedule, seed=0):
        """Denoises.

        Args:
            predict: `predict(x, t) -> epsilon`, shaped like x; x float32, t int32 of shape
                (batch,).
            noise: x_T, standard normal, shape (batch, ...).
            schedule: The `NoiseSchedule` the predictor was trained with.
            seed: An integer, or per-image seeds as `image_seeds` gives them, shape (batch, 2).

        Returns:
            Images, float32, shaped like `noise`; data in [-1, 1] gives values about there.

        Raises:
            ValueError: `noise`, `schedule` or what `predict` gives is not of its kind.
        """
        check_schedule(schedule)
        noise = _checked_noise(noise)
        timesteps, table = self._table(schedule)
        steps = len(timesteps)
        # Columns of zeros are left out of the graph: DDIM without eta draws no noise.
        used = {name for name, column in zip(_COLUMNS, table.T, strict=True) if np.any(column)}
        timesteps, table = tf.constant(timesteps, tf.int32), tf.constant(table, tf.float32)
        batch = tf.shape(noise)[0]
        seeds = as_image_seeds(seed, batch) if "noise" in used else None

        def step(k, x, previous_x_start):
            c = dict(zip(_COLUMNS, tf.unstack(tf.gather(table, k)), strict=True))
            epsilon = predicted(predict, x, tf.repeat(timesteps[k], batch))
            x_start = (x - c["rate"] * epsilon) / c["signal"]
            if self.clip:
                x_start = tf.clip_by_value(x_start, -1.0, 1.0)
            terms = {
                "x": x,
                "epsilon": epsilon,
                "x_start": x_start,
                "previous_x_start": previous_x_start,
            }
            x = sum(c[name] * term for name, term in terms.items() if name in used)
            if "noise" in used:
                x += c["noise"] * step_noise(seeds, k + 1, tf.shape(noise)[1:])
            return k + 1, tf.ensure_shape(x, noise.shape), tf.ensure_shape(x_start, noise.shape)

        _, x, _ = tf.while_loop(
            lambda k, *_: k < steps,
            step,
            (0, noise, tf.zeros_like(noise)),
            shape_invariants=(tf.TensorShape([]), noise.shape, noise.shape),
            parallel_iterations=1,
        )
        return x

    def _table(self, schedule):
        """(timesteps, float64 table of shape (steps, columns)) for a schedule."""
        timesteps = self.timesteps(schedule)
        cumprod = schedule.alphas_cumprod[timesteps]
        columns = dict.fromkeys(_COLUMNS, np.zeros(len(timesteps)))
        columns |= {"signal": np.sqrt(cumprod), "rate": np.sqrt(1.0 - cumprod)}
        columns |= self.coefficients(schedule, timesteps)
        return timesteps, np.stack([columns[name] for name in _COLUMNS], axis=1)


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
