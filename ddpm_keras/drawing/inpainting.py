"""Parts of images painted anew, so that they fit the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .. import samplers
from ..scalars import count
from . import given

if TYPE_CHECKING:  # names in annotations alone
    from ..ddpm import DDPM

INPAINTING_STEPS, _JUMPS = 250, 25  # as published, which is to go back 10 steps


def inpaint(
    model: DDPM,
    images: ArrayLike,
    mask: ArrayLike,
    jump: int | None = None,
    resamplings: int = 10,
    **settings: Any,
) -> np.ndarray:
    """Paints what a mask covers (RePaint, Lugmayr et al. 2022, algorithm 1 and appendix B).

    After each step what is known is put back, with the noise of its timestep. What is painted would
    fit it badly, as it was painted before: so after every `jump` steps the images are noised again
    by as many, and denoised anew, `resamplings` - 1 times.

    Args:
        model: a `DDPM`.
        images: (N, height, width, channels), as the model is trained on.
        mask: True where to paint: (height, width), or (N, height, width), one for each image;
            numbers are True unless 0. A last axis of one channel may follow.
        jump: steps to go back, at least 1 and fewer than the sampler's; by default a 25th of them.
        resamplings: how often each part of the way is gone, at least 1; the network is called about
            so many times the sampler's steps.
        **settings: as of `DDPM.sample`; the sampler, by default DDIM with eta=1 and 250 steps, must
            be one whose steps do not depend on the step before, such as DDPM.

    Returns:
        An array shaped like the images; where the mask is False, their very pixels.

    Raises:
        ValueError: an argument is not what it should be.

    Example:

    >>> mask = np.zeros((32, 32), bool)
    >>> mask[8:24, 8:24] = True
    >>> painted = inpaint(model, images[:4], mask)
    """
    images = given.checked(model, images)
    mask = _checked_mask(mask, images.shape)
    if settings.get("sampler") is None:
        steps = min(INPAINTING_STEPS, model.schedule.timesteps)
        settings["sampler"] = samplers.DDIM(steps, eta=1.0)
    drawing = given.sampling(model, len(images), **settings)
    chain = samplers.Chain(drawing.sampler, model.schedule, prediction=model.prediction)
    if chain.remembers:
        raise ValueError(
            f"Inpainting goes back and forth, and {drawing.sampler!r} remembers the step before: "
            "use samplers.DDIM or samplers.DDPM."
        )
    jump = max(1, chain.steps // _JUMPS) if jump is None else _checked_jump(jump, chain.steps)
    plan = repaint_plan(chain.steps, jump, count(resamplings, "resamplings"))
    signals = np.append(model.schedule.alphas_cumprod[chain.timesteps], 1.0)
    painted = []
    for part in drawing.parts():
        known = given.scaled(model, images[part])
        x = _painted(drawing, part, known, mask[part], plan, signals)
        painted.append(drawing.finished(np.where(mask[part], x, known)))
    return np.concatenate(painted)


def _checked_jump(jump, steps):
    jump = count(jump, "jump")
    if jump >= steps:
        raise ValueError(
            f"jump is {jump}, and the sampler makes {steps} steps, so that there is no going back "
            "by as many: give a smaller one, or leave it out."
        )
    return jump


def repaint_plan(steps, jump, resamplings):
    """The order of steps: [(step, how many to go back after it), ...].

    Args:
        steps: number of steps, of which the last gives the images.
        jump, resamplings: as of `inpaint`.
    """
    plan, step = [], 0
    returns = {left: resamplings - 1 for left in range(1, steps - jump + 1, jump)}
    while step < steps:
        left, back = steps - step - 1, 0  # steps to make after this one
        if returns.get(left):
            returns[left] -= 1
            back = jump
        plan.append((step, back))
        step += 1 - back
    return plan


def _painted(drawing, part, known, mask, plan, signals):
    """The images of a part, float32, after all steps of the plan.

    Args:
        drawing: a `Sampling`.
        known: float32 in [-1, 1].
        mask: True where to paint.
        plan: as of `repaint_plan`.
        signals: alphas_cumprod before each step, and 1 after the last.
    """
    seeds, x = drawing.seeds(part), drawing.noise(part)
    memory = drawing.memory(x)
    mask = tf.constant(mask)
    for visit, (k, back) in enumerate(plan):
        draws = range(3 * visit + 1, 3 * visit + 4)  # each visit draws noise of its own
        x, _ = drawing.step(k, x, memory, part, draws[0])
        signal = signals[k + 1]
        x = tf.where(mask, x, _noised(known, signal, seeds, draws[1]))
        if back:
            x = _noised(x, signals[k + 1 - back] / signal, seeds, draws[2])
    return x


def _noised(x, signal, seeds, draw):
    """sqrt(signal) x + sqrt(1 - signal) noise, of the noise number `draw` of each image."""
    rates = np.sqrt([signal, 1.0 - signal]).astype(np.float32)
    return _mixed(x, tf.constant(rates[0]), tf.constant(rates[1]), seeds, tf.constant(draw))


@tf.function(autograph=False, reduce_retracing=True)
def _mixed(x, signal, rate, seeds, draw):
    return signal * x + rate * samplers.step_noise(seeds, draw, tf.shape(x)[1:])


def _checked_mask(mask, shape):
    """A mask as bool (N, height, width, 1)."""
    mask = np.asarray(mask)
    number, height, width, _ = shape
    if mask.ndim and mask.shape[-1] == 1 and mask.ndim in (3, 4):
        mask = mask[..., 0]
    if mask.shape not in ((height, width), (number, height, width)):
        raise ValueError(
            f"mask has shape {mask.shape}; give one of shape {(height, width)}, or one for each of "
            f"the {number} images."
        )
    if mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise ValueError(f"mask must be True where to paint, not {mask.dtype}: give a bool array.")
    if not mask.any():
        raise ValueError(
            "mask is True (or white) nowhere, so that nothing would be painted: is it upside down?"
        )
    return np.broadcast_to(mask != 0, (number, height, width))[..., np.newaxis]
