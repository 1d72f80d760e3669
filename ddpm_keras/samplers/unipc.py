"""UniPC: a multistep predictor, and a corrector that needs no evaluation of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import keras
import numpy as np

from .. import kinds
from ..choices import check
from ..scalars import count
from .base import X_STARTS, Sampler
from .grids import levels, solver_timesteps

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

_VARIANTS = ("bh1", "bh2")


@keras.saving.register_keras_serializable(package="ddpm_keras", name="UniPCSampler")
class UniPC(Sampler):
    """UniPC on predicted images (Zhao et al. 2023): deterministic, good from 5 to 20 steps.

    Each step first corrects the image that the last one led to, by the x_start found there, and
    predicts the next from that. Both are sums over x_start and those before, so they make one row
    of coefficients. The order rises over the first steps, and falls over the last.

    Args:
        steps: number of steps, at most the schedule's timesteps.
        order: 1, 2 or 3, of the predictor; the corrector's is one more.
        variant: B(h) of the paper, "bh2" (exp(h) - 1) or "bh1" (h).
        spacing: "trailing", "linspace", "leading" or "leading_unchecked"; see `solver_timesteps`.
        clip: whether x_start is clipped to [-1, 1].

    Example:

    >>> sampler = UniPC(steps=10)
    """

    def __init__(
        self,
        steps: int = 20,
        order: int = 2,
        variant: str = "bh2",
        spacing: str = "trailing",
        clip: bool | str = False,
    ):
        super().__init__(clip)
        self.order = kinds.order(order)
        self.steps = count(steps, "steps")
        check("variant", variant, _VARIANTS)
        self.variant = variant
        self.spacing = kinds.spacing(spacing)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        return solver_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        signal, rate, log_snr = levels(schedule, timesteps)
        steps, ratio = len(timesteps), rate[1:] / rate[:-1]
        weights = np.zeros((steps, len(X_STARTS)))  # of x_start and those before, in each step
        for k in range(steps):
            h = log_snr[k + 1] - log_snr[k]
            known = k + 1 - np.isinf(log_snr[0])  # an x_start infinitely far back says nothing
            order = max(1, min(self.order, steps - k, known))
            ratios = (log_snr[k - np.arange(1, order)] - log_snr[k]) / h
            weights[k, :order] += signal[k + 1] * self._prediction(h, ratios)
            if np.isfinite(h):
                correction = signal[k + 1] * self._correction(h, ratios)
                weights[k + 1, : order + 1] = ratio[k + 1] * correction
        return {"x": ratio} | dict(zip(X_STARTS, weights.T, strict=True))

    def _prediction(self, h, ratios):
        """Weights of x_start and those before in the predictor (UniP).

        Args:
            h: the step, in lambda.
            ratios: where those before were found, in steps of h from here, (order - 1,).
        """
        weights = self._of_differences(h, self._rhos(h, ratios), ratios)
        weights[0] -= np.expm1(-h)
        return weights

    def _correction(self, h, ratios):
        """Weights of the next x_start, of this and of those before in corrector less predictor."""
        ends = np.append(ratios, 1.0)
        rhos = self._rhos(h, ends)
        rhos[:-1] -= self._rhos(h, ratios)
        weights = self._of_differences(h, rhos, ends)
        return np.append(weights[-1], weights[:-1])

    def _of_differences(self, h, rhos, ratios):
        """Weights of this x_start and of the others in -B(h) sum rho (other - this) / ratio."""
        others = -self._base(h) * rhos / ratios
        return np.append(-others.sum(), others)

    def _rhos(self, h, ratios):
        """The rho by which differences at `ratios` integrate polynomials exactly (eq. 5).

        That of a single one is 1/2, which suffices for its order.
        """
        if len(ratios) <= 1:
            return np.full(len(ratios), 0.5)
        moment, moments = np.expm1(-h) / -h - 1.0, []
        for j in range(1, len(ratios) + 1):
            moments.append(moment * math.factorial(j) / self._base(h))
            moment = moment / -h - 1.0 / math.factorial(j + 1)
        return np.linalg.solve(np.vander(ratios, increasing=True).T, moments)

    def _base(self, h):
        """B(h), for predicted images."""
        return -h if self.variant == "bh1" else np.expm1(-h)
