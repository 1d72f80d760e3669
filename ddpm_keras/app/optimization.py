"""The optimizer that the options of a training name, and its learning rate."""

import inspect

import keras

from .. import choices
from ..learning_rate import WarmupStableDecay

EPSILON = 1e-8  # of Ho et al. 2020; Keras has 1e-7


def optimizer(options):
    """The Keras optimizer that `--optimizer` names, its other settings those of Keras."""
    make = getattr(keras.optimizers, choices.OPTIMIZERS[options.optimizer])
    settings = {"epsilon": EPSILON} if "epsilon" in inspect.signature(make).parameters else {}
    return make(learning_rate(options), global_clipnorm=options.clip_norm or None, **settings)


def learning_rate(options):
    """A float, or the schedule that `--lr-schedule` names after the warm-up."""
    peak, warmup, steps = options.learning_rate, options.warmup_steps, options.steps
    schedules = keras.optimizers.schedules
    if options.lr_schedule == "constant":
        return schedules.PolynomialDecay(0.0, warmup, peak) if warmup else peak
    if options.lr_schedule == "cosine":
        if not warmup:
            return schedules.CosineDecay(peak, steps)
        return schedules.CosineDecay(0.0, steps - warmup, 0.0, "CosineDecay", peak, warmup)
    return WarmupStableDecay(peak, steps, warmup, options.decay_steps, options.lr_decay)
