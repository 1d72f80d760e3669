"""A learning rate that Keras has no schedule for."""

import math

import keras

from . import choices
from .scalars import count, positive, whole

# What is left of the rate when this part of the decay is to come.
_FALLING = {
    "linear": lambda left: left,
    "cosine": lambda left: (1.0 - keras.ops.cos(math.pi * left)) / 2.0,
    "sqrt": lambda left: 1.0 - keras.ops.sqrt(1.0 - left),
}


@keras.saving.register_keras_serializable(package="ddpm_keras")
class WarmupStableDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line, stays, and falls to zero (WSD).

    At step t it is learning_rate * min(t / warmup_steps, 1) until the last `decay_steps`, of which
    it falls with the part s that is over, and 0 from `steps` on. With `decay_steps = steps -
    warmup_steps` it falls as soon as it has risen.

    Args:
        learning_rate: What it rises to, positive.
        steps: Length of the run in optimizer steps.
        warmup_steps: Steps in which it rises from 0, at least 0.
        decay_steps: The last steps of the run, in which it falls, at least 1.
        decay: How it falls: "linear" (1 - s), "cosine" ((1 + cos(pi s)) / 2) or "sqrt" (1 -
            sqrt(s), the "1-sqrt" of Hägele et al.).

    Raises:
        ValueError: An argument is not what it should be, or the run is too short for both.

    References:
        - Hu et al. 2024, "MiniCPM: Unveiling the Potential of Small Language Models with Scalable
          Training Strategies", section 4.
        - Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
          Durations".
    """

    def __init__(self, learning_rate, steps, warmup_steps=0, decay_steps=1, decay="linear"):
        self.learning_rate = positive(learning_rate, "learning_rate")
        self.steps = count(steps, "steps")
        self.warmup_steps = whole(warmup_steps, "warmup_steps", 0)
        self.decay_steps = count(decay_steps, "decay_steps")
        choices.check("decay of the learning rate", decay, choices.LR_DECAYS)
        self.decay = decay
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(
                f"{warmup_steps} warmup_steps and {decay_steps} decay_steps are more than {steps} "
                "steps: give fewer of one."
            )

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        left = keras.ops.clip((self.steps - step) / self.decay_steps, 0.0, 1.0)
        rising = step / self.warmup_steps if self.warmup_steps else 1.0
        return self.learning_rate * keras.ops.minimum(rising, _FALLING[self.decay](left))

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "decay": self.decay,
        }
