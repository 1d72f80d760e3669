"""DPM-Solver++ in its multistep form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from ..scalars import count
from .base import Sampler
from .grids import checked_spacing, solver_timesteps

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DPMSolverSampler")
class DPMSolver(Sampler):
    """DPM-Solver++ multistep (Lu et al. 2022b): deterministic, good from 10 to 20 steps.

    The first step and the last, which goes to x_start itself, are of first order.

    Args:
        steps: number of steps, at most the schedule's timesteps.
        order: 1 (the same as DDIM) or 2, algorithm 2 of the paper in its midpoint form.
        spacing: "linspace", "trailing", "leading" or "leading_unchecked"; see `solver_timesteps`.
        clip: whether x_start is clipped to [-1, 1].

    Example:

    >>> sampler = DPMSolver(steps=20)
    """

    def __init__(
        self, steps: int = 20, order: int = 2, spacing: str = "linspace", clip: bool = False
    ):
        super().__init__(clip)
        self.order = count(order, "order")
        if self.order > 2:
            raise ValueError(f"order is {order}; use 1 or 2.")
        self.steps = count(steps, "steps")
        self.spacing = checked_spacing(spacing)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        return solver_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        cumprod = schedule.alphas_cumprod[timesteps]
        signal, rate = np.sqrt(cumprod), np.sqrt(1.0 - cumprod)
        log_snr = np.log(signal / rate)  # lambda in the paper
        # x <- rate_next / rate x + signal_next (1 - exp(-h)) D, with exp(-h) = 0 at the last step
        h = np.diff(log_snr)
        scale = np.append(signal[1:] * -np.expm1(-h), 1.0)
        extrapolation = np.zeros(
            len(timesteps)
        )  # 1 / (2 r), with r the ratio of the last h to this
        if self.order == 2:
            extrapolation[1:-1] = h[1:] / h[:-1] / 2.0
        return {
            "x": np.append(rate[1:] / rate[:-1], 0.0),
            "x_start": scale * (1.0 + extrapolation),
            "previous_x_start": -scale * extrapolation,
        }
