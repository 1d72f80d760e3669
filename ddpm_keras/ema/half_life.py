"""The decay that is told by its half-life in images, whatever the batch size."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import names
from ..scalars import count, positive
from .decays import Decay, as_float64


@keras.saving.register_keras_serializable(package="ddpm_keras")
class HalfLife(Decay):
    """beta_n = 0.5^(1 / h_n): of any image, half of its count is left after a half-life of images.

    h_n is the half-life in steps, `images` / `batch_size`, but at most `rampup_ratio` times the
    steps made before, so that the initial weights are forgotten at the first update.

    Args:
        images: The half-life in images, positive; Karras et al. take 500,000 on CIFAR-10.
        batch_size: Images in one optimizer step.
        rampup_ratio: Longest half-life as a share of the images seen so far, positive; None for no
            ramp-up.

    Reference:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
        appendix F, and its published code.
    """

    takes_beta = False

    def __init__(self, images: float, batch_size: int, rampup_ratio: float | None = 0.05):
        self.images = positive(images, "images")
        self.batch_size = count(batch_size, "batch_size")
        self.rampup_ratio = rampup_ratio
        if rampup_ratio is not None:
            self.rampup_ratio = positive(rampup_ratio, "rampup_ratio")

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        half_life = xp.zeros_like(n) + self.images / self.batch_size
        if self.rampup_ratio is not None:
            half_life = xp.minimum(half_life, n * self.rampup_ratio)
        expm1 = np.expm1 if xp is np else tf.math.expm1
        return -expm1(-np.log(2.0) / xp.maximum(half_life, 1e-9))  # at n = 0 it is 1

    def _scaled(self, kappa):
        batch_size = round(self.batch_size * kappa, 6)  # 3.0000000000000004 is 3
        return HalfLife(self.images, batch_size, self.rampup_ratio)

    @property
    def name(self) -> str:
        ramp = "" if self.rampup_ratio == 0.05 else f"_{self.rampup_ratio}".lower()
        return f"halflife_{names.number(self.images)}{ramp}"
