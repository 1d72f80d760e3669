"""Denoising diffusion implicit models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import kinds
from ..scalars import count, flag
from .base import Sampler
from .grids import sampling_timesteps

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDIMSampler")
class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al. 2021a, eq. 12).

    Each step goes to the next timestep of the grid, and the last one to x_start itself.

    Args:
        steps: number of steps, at most the schedule's timesteps.
        eta: 0 is deterministic; 1 adds as much noise as ancestral sampling with the posterior's
            variance.
        spacing: "trailing" (visits T-1), "linspace" (visits T-1 and 0), "leading", or
            "leading_unchecked"; see `sampling_timesteps`.
        clip: whether x_start is clipped to [-1, 1].
        recompute_epsilon: whether epsilon is that of x and the clipped x_start, so that the two
            still make x (Nichol & Dhariwal's code; `use_clipped_model_output` in diffusers). False
            keeps the predicted one, as diffusers does by default: with clipping, the brightness of
            images then drifts, and more with more steps.

    Example:

    >>> sampler = DDIM(steps=50)
    """

    def __init__(
        self,
        steps: int = 50,
        eta: float = 0.0,
        spacing: str = "trailing",
        clip: bool | str = True,
        recompute_epsilon: bool = True,
    ):
        super().__init__(clip)
        self.eta = kinds.eta(eta)
        self.steps = count(steps, "steps")
        self.spacing = kinds.spacing(spacing)
        self.recompute_epsilon = flag(recompute_epsilon, "recompute_epsilon")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A configuration without `recompute_epsilon` is from before there was a choice."""
        if "recompute_epsilon" not in config:
            config = {"spacing": "leading"} | config | {"recompute_epsilon": False}
            if config["spacing"] == "leading":
                config["spacing"] = "leading_unchecked"
        return super().from_config(config)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        return sampling_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        cumprod = schedule.alphas_cumprod[timesteps]
        target = np.append(cumprod[1:], 1.0)
        variance = (
            self.eta**2 * (1.0 - target) / (1.0 - cumprod) * (1.0 - cumprod / target)
        )  # eq. 16
        direction = np.sqrt(np.maximum(1.0 - target - variance, 0.0))
        signal, noise = np.sqrt(target), np.sqrt(variance)
        if not self.recompute_epsilon:
            return {"x_start": signal, "epsilon": direction, "noise": noise}
        of_x = direction / np.sqrt(1.0 - cumprod)  # epsilon = (x - sqrt(a) x_start) / sqrt(1 - a)
        return {"x": of_x, "x_start": signal - np.sqrt(cumprod) * of_x, "noise": noise}
