"""DPM-Solver++ in its multistep form."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import keras
import numpy as np

from .. import kinds
from ..scalars import count
from .base import Sampler
from .grids import levels, solver_timesteps

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

_FEW = 15  # steps, below which the last but one is of second order at most


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DPMSolverSampler")
class DPMSolver(Sampler):
    """DPM-Solver++ multistep (Lu et al. 2022b): deterministic, good from 10 to 20 steps.

    The first step and the last, which goes to x_start itself, are of first order.

    Args:
        steps: number of steps, at most the schedule's timesteps.
        order: 1 (the same as DDIM), 2 (2M, algorithm 2 of the paper in its midpoint form) or 3 (3M,
            as others have it; see docs/samplers.md for what its error does).
        spacing: "linspace", "trailing", "leading" or "leading_unchecked"; see `solver_timesteps`.
        clip: whether x_start is clipped to [-1, 1].
        eta: 0 solves the probability flow, 1 the stochastic differential equation (appendix D of
            the paper, SDE-DPM-Solver++).

    Example:

    >>> sampler = DPMSolver(steps=20)
    """

    def __init__(
        self,
        steps: int = 20,
        order: int = 2,
        spacing: str = "linspace",
        clip: bool | str = False,
        eta: float = 0.0,
    ):
        super().__init__(clip)
        self.order = kinds.order(order)
        self.steps = count(steps, "steps")
        self.spacing = kinds.spacing(spacing)
        self.eta = kinds.eta(eta)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        return solver_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        signal, rate, log_snr = levels(schedule, timesteps)
        h = np.diff(log_snr)
        decay = np.exp(-h)  # 0 in the last step, and in the first from noise alone
        scale = signal[1:] * -np.expm1(-(1.0 + self.eta) * h)
        last, before = self._slopes(h, signal[1:], scale)
        return {
            "x": rate[1:] / rate[:-1] * decay**self.eta,
            "x_start": scale + last,
            "previous_x_start": before - last,
            "x_start_2_back": -before,
            "noise": rate[1:] * np.sqrt(1.0 - decay ** (2.0 * self.eta)),
        }

    def _slopes(self, h, signal, scale):
        """What the last two differences of x_start are multiplied by in each step."""
        last, before = np.zeros((2, len(h)))
        if self.order > 1:
            last[1:-1] = scale[1:-1] * (h[1:-1] / h[:-2]) / 2.0
        if self.order > 2:
            k = np.arange(2, len(h) - (2 if len(h) < _FEW else 1))
            last[k], before[k] = self._third_order(
                h[k], h[k - 1] / h[k], h[k - 2] / h[k], signal[k]
            )
        return last, before

    def _third_order(self, h, r0, r1, signal):
        """The same, of third order: with D1 and D2 of the method written out in differences.

        Args:
            h: the step, in lambda.
            r0, r1: the last step and that before, relative to it.
            signal: after the step.
        """
        span = (1.0 + self.eta) * h
        of_first = signal * (np.expm1(-span) / span + 1.0)
        of_second = -signal * ((np.expm1(-span) + span) / span**2 - 0.5)
        change = (of_first * r0 + of_second) / (r0 + r1)
        return (of_first + change) / r0, -change / r1


third_order = functools.partial(DPMSolver, order=3)
stochastic = functools.partial(DPMSolver, eta=1.0)
