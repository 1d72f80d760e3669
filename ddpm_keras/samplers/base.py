"""Samplers: from noise to images with any noise predictor.

`sampler(predict, noise, schedule, seed=0)` runs the reverse process on `noise` (float32, shape
(batch, ...)), where `predict(x, t)` gives epsilon (or the image or v, as `prediction` says) for t
int32 of shape (batch,). The loop is one `tf.while_loop` that holds `predict` once, so it works
eagerly and in a `tf.function` with an unknown batch size.

A step of each sampler here is linear in the current image, the predicted noise, the predicted
x_start, those of the steps before and fresh noise. A sampler therefore is a table of coefficients,
computed in float64, and they all share one loop. x_start and epsilon follow from what the network
predicts at once: an x_start that is predicted is not divided by a small signal on its way.

Fresh noise is drawn for each image from its own seed, so an image does not depend on the batch it
is made in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .. import kinds
from ..aliases import Predictor, Tensor
from ..configured import Configured
from ..noise import NoiseSchedule, check_prediction, to_epsilon, to_x_start
from ..random import as_image_seeds, step_noise
from ..scalars import whole
from .clipping import clipped

X_STARTS = ("x_start", "previous_x_start", "x_start_2_back", "x_start_3_back")
_COLUMNS = ("x", "epsilon", *X_STARTS, "noise")


class Sampler(Configured):
    """What every sampler shares: the loop, clipping, and configuration.

    A subclass gives `timesteps` and `coefficients`. Each argument of its `__init__` is kept as an
    attribute of that name, by which two samplers are told apart.

    Args:
        clip: whether the predicted x_start is clipped to [-1, 1] at each step; "dynamic"
            thresholds it dynamically (Saharia et al. 2022, section 2.3).
    """

    def __init__(self, clip: bool | str):
        self.clip = kinds.clip(clip)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        """The timesteps that are visited, descending, int64 of shape (steps,)."""
        raise NotImplementedError(f"{type(self).__name__} must define timesteps(schedule).")

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        """The terms of each step.

        Args:
            schedule: the `NoiseSchedule`.
            timesteps: what `timesteps` gave.

        Returns:
            A dict of columns of shape (steps,): what "x", "epsilon", "x_start", those of the steps
            before, "previous_x_start", "x_start_2_back" and "x_start_3_back", and "noise" are each
            multiplied by. A column left out is zero.
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
        prediction: str = "epsilon",
    ) -> Tensor:
        """Denoises.

        Args:
            predict: `predict(x, t)`, shaped like x; x float32, t int32 of shape (batch,).
            noise: x_T, standard normal, shape (batch, ...); with `first`, images that are as noisy
                as `timesteps(schedule)[first]`.
            schedule: The `NoiseSchedule` the predictor was trained with.
            seed: An integer, or per-image seeds as `image_seeds` gives them, shape (batch, 2).
            first: The step to begin at, from 0 to steps - 1.
            prediction: what `predict` gives: "epsilon" (the noise), "sample" (the image) or "v".

        Returns:
            Images, float32, shaped like `noise`; data in [-1, 1] gives values about there.

        Raises:
            ValueError: an argument or what `predict` gives is not of its kind, or the noise is
                predicted on a schedule of zero terminal SNR.
        """
        chain = Chain(self, schedule, first, prediction)
        noise = _checked_noise(noise)
        seeds = as_image_seeds(seed, tf.shape(noise)[0]) if chain.draws else None
        memory = chain.memory(noise)

        def step(k, x, memory):
            return k + 1, *chain.step(predict, k, x, memory, seeds)

        _, x, _ = tf.while_loop(
            lambda k, *_: k < chain.steps,
            step,
            (0, noise, memory),
            shape_invariants=(tf.TensorShape([]), noise.shape, memory.shape),
            parallel_iterations=1,
        )
        return x


class Chain:
    """The steps of a sampler on a schedule, one at a time, for loops that do more than denoise.

    Args:
        sampler: a `Sampler`.
        schedule: the `NoiseSchedule` of the predictor.
        first: step of the sampler to begin at. The chain is that of the timesteps that are left.
        prediction: what the predictor gives: "epsilon", "sample" or "v".

    Attributes:
        timesteps: that are visited, descending, int64 of shape (steps,).
        steps: how many.
        draws: whether its steps draw noise.
        depth: number of predicted images that a step looks at, its own and those before.
        remembers: whether there are any before.

    Example:

    >>> chain = Chain(samplers.DDIM(50), schedule)
    >>> memory = chain.memory(x)
    >>> for k in range(chain.steps):
    ...     x, memory = chain.step(predict, k, x, memory)
    """

    def __init__(
        self,
        sampler: Sampler,
        schedule: NoiseSchedule,
        first: int = 0,
        prediction: str = "epsilon",
    ):
        check_schedule(schedule)
        check_prediction(prediction, schedule)
        visited = sampler.timesteps(schedule)
        if not 0 <= whole(first, "first") < len(visited):
            raise ValueError(f"first is {first}; {sampler!r} has steps 0 to {len(visited) - 1}.")
        self.timesteps = visited[first:]
        self.steps = len(self.timesteps)
        self.sampler, self.schedule, self.prediction = sampler, schedule, prediction
        table = _table(sampler, schedule, self.timesteps)
        # Columns of zeros are left out of the graph: DDIM without eta draws no noise.
        self._used = {name for name, column in zip(_COLUMNS, table.T, strict=True) if column.any()}
        self._visited = tf.constant(self.timesteps, tf.int32)
        self._coefficients = tf.constant(table, tf.float32)
        self.draws = "noise" in self._used
        self.depth = 1 + max([0, *(X_STARTS.index(name) for name in self._used & {*X_STARTS})])
        self.remembers = self.depth > 1

    def memory(self, x: Tensor) -> Tensor:
        """What the first step is given of the steps before: zeros, (batch, depth, ...)."""
        return tf.repeat(tf.zeros_like(x)[:, None], self.depth, axis=1)

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
            predict: `predict(x, t)`, which gives what is the `prediction`.
            k: number of the step, from 0, an int or a tensor.
            x: images as noisy as `timesteps[k]`, float32 (batch, ...).
            memory: what the step before returned, or `memory(x)`.
            seeds: int32 (batch, 2), one for each image; needed where the chain `draws`.
            draw: number of the noise that is drawn, at least 1; k + 1 if not given.

        Returns:
            `(x, memory)`: the images after the step, and the memory for the next one: what they
            were predicted to become in this step, `memory[:, 0]`, and in those before.
        """
        c = dict(zip(_COLUMNS, tf.unstack(tf.gather(self._coefficients, k)), strict=True))
        t = tf.repeat(self._visited[k], tf.shape(x)[0])
        given = (self.schedule, self.prediction, predicted(predict, x, t), x, t)
        x_start = clipped(to_x_start(*given), self.sampler.clip)
        memory = tf.concat([x_start[:, None], memory[:, :-1]], axis=1)
        terms = {"x": x} | dict(zip(X_STARTS, tf.unstack(memory, axis=1), strict=False))
        if "epsilon" in self._used:
            terms["epsilon"] = to_epsilon(*given)
        after = sum(c[name] * term for name, term in terms.items() if name in self._used)
        if self.draws:
            draw = k + 1 if draw is None else draw
            after += c["noise"] * step_noise(_one_each(seeds, x), draw, tf.shape(x)[1:])
        return tf.ensure_shape(after, x.shape), memory


def _table(sampler, schedule, timesteps):
    """The coefficients of each step, float64 of shape (steps, columns)."""
    columns = dict.fromkeys(_COLUMNS, np.zeros(len(timesteps)))
    columns |= sampler.coefficients(schedule, timesteps)
    return np.stack([columns[name] for name in _COLUMNS], axis=1)


def _one_each(seeds, x):
    """Seeds of images; refused where there is not one for each, whose noise would be broadcast."""
    shape = np.shape(seeds) if seeds is not None else ()
    if not x.shape[:1].concatenate(2).is_compatible_with(shape):
        raise ValueError(
            f"seeds has shape {tuple(shape)} for images {tuple(x.shape)}: give one for each, as "
            "samplers.image_seeds(seed, 0, count) does."
        )
    return seeds


def predicted(predict, x, t):
    """What a predictor gives for x, float32; refused where its shape would be broadcast."""
    output = tf.cast(predict(x, t), tf.float32)
    if not output.shape.is_compatible_with(x.shape):
        raise ValueError(
            f"predict(x, t) gave shape {tuple(output.shape)} for x of shape {tuple(x.shape)}: "
            "give the noise in each image, shaped like x."
        )
    return output


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
