"""The way of DDIM back: from images to the noise that it would make them of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from .. import kinds
from ..scalars import count
from .base import Sampler
from .ddim import DDIM
from .grids import sampling_timesteps

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDIMInversionSampler")
class DDIMInversion(Sampler):
    """DDIM without noise, made backwards (Song et al. 2021a, section 4.3 and eq. 14).

    It is given images and gives noise. A step begins at a timestep with what the model predicts
    there, as DDIM's does, and ends at the next noisier one of the same grid; the first takes the
    images for those of timestep 0. Both ways make the same error of first order, so that DDIM comes
    back to the images as its steps grow, if it clips nothing.

    Args:
        steps: number of steps of the DDIM that it is the way back of.
        spacing: of its grid: "trailing", "linspace", "leading" or "leading_unchecked".

    Example:

    >>> encoded = samplers.DDIMInversion(steps=100)(predict, images, schedule)
    """

    def __init__(self, steps: int = 100, spacing: str = "trailing"):
        super().__init__(clip=False)
        self.steps = count(steps, "steps")
        self.spacing = kinds.spacing(spacing)

    @classmethod
    def of(cls, sampler: Sampler) -> DDIMInversion:
        """The way back of a `DDIM` that draws no noise.

        Raises:
            ValueError: the sampler is another.
        """
        if not isinstance(sampler, DDIM) or sampler.eta:
            raise ValueError(
                f"{sampler!r} has no way back to its noise: use DDIM without eta, such as "
                "samplers.DDIM(steps=100)."
            )
        return cls(sampler.steps, sampler.spacing)

    def timesteps(self, schedule: NoiseSchedule) -> np.ndarray:
        """Those that the steps begin at, rising."""
        return self._levels(schedule)[:-1]

    def coefficients(self, schedule: NoiseSchedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
        cumprod = schedule.alphas_cumprod[self._levels(schedule)[-len(timesteps) :]]
        return {"x_start": np.sqrt(cumprod), "epsilon": np.sqrt(1.0 - cumprod)}

    def _levels(self, schedule):
        """0, and the timesteps of the grid from the least noisy on."""
        grid = sampling_timesteps(schedule.timesteps, self.steps, self.spacing)
        return np.append(0, grid[::-1] if grid[-1] or len(grid) == 1 else grid[-2::-1])
