"""The power-function average: a profile whose width is a fixed share of the run."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import kinds
from .decays import Decay, as_float64, tnp


def power_function_gamma(sigma_rel: float) -> float:
    """The exponent gamma of the power-function average with relative width `sigma_rel`.

    The width of the profile t^gamma on [0, 1] is
    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)); its inverse is the largest real root of
    gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + (12 - sigma_rel^-2).

    Args:
        sigma_rel: The standard deviation of the profile relative to the length of the run, above 0
            and below 0.2887 (a flat profile, gamma = 0, is 1 / sqrt(12) wide).

    Returns:
        gamma as a float.

    Reference:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models",
        eq. 123-127.
    """
    inverse = kinds.width(sigma_rel) ** -2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(np.max(roots[np.abs(roots.imag) < 1e-9 * np.abs(roots)].real))


@keras.saving.register_keras_serializable(package="ddpm_keras")
class PowerFunctionDecay(Decay):
    """beta_n = (1 - 1 / (n + 1))^(gamma + 1): the weight of step t grows like t^gamma.

    Its width is a fixed fraction of the run, so it never needs a warm-up and forgets the initial
    weights at the first update.

    Args:
        sigma_rel: Relative width, above 0 and below 0.2887; 0.05 and 0.10 are usual.

    Reference:
        Karras et al. 2024, eq. 123-127.
    """

    def __init__(self, sigma_rel: float):
        self.sigma_rel = kinds.width(sigma_rel)
        self.gamma = power_function_gamma(self.sigma_rel)

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        log1p, expm1 = (tf.math.log1p, tf.math.expm1) if xp is tnp else (np.log1p, np.expm1)
        past = xp.maximum(n, 1.0)  # keeps log(0) out; n = 0 is answered below
        return xp.where(n < 1.0, 1.0, -expm1((self.gamma + 1.0) * log1p(-1.0 / (past + 1.0))))

    def _scaled(self, kappa):
        return self  # its width is a share of the run: the product of kappa betas is that of one

    @property
    def name(self) -> str:
        return f"power_{self.sigma_rel}"
