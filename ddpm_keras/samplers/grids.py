"""The timesteps that a sampler visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import kinds

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

_MOST_NOISE = 80.0  # sigma at which an image, whose values are about 1, cannot be told from noise


def sampling_timesteps(timesteps: int, steps: int, spacing: str) -> np.ndarray:
    """The descending timesteps a sampler visits, int64 of shape (steps,), within 0..timesteps-1.

    "trailing" counts down from timesteps-1, "linspace" rounds an even division that holds both
    ends, and "leading" takes every (timesteps // steps)-th from 0 (Lin et al. 2024, table 2, with
    timesteps from 0). A leading grid may begin far below timesteps-1, where an image is no pure
    noise and what is drawn from noise is wrong: unless it begins in the last 5% it is refused. As
    "leading_unchecked" it is taken wherever it begins, as others do.

    Raises:
        ValueError: more steps than timesteps, or a leading grid that begins too low.
    """
    _check(timesteps, steps, spacing, points=steps)
    return _grid(timesteps, steps, spacing)


def solver_timesteps(timesteps: int, steps: int, spacing: str) -> np.ndarray:
    """The same for a solver, whose last interval ends at the image instead of at timestep 0.

    Of "linspace" and "leading" it divides into one interval more than there are steps, as others
    do; as many steps as timesteps visit all of them.
    """
    if spacing == "trailing" or steps >= timesteps:
        return sampling_timesteps(timesteps, steps, spacing)
    _check(timesteps, steps, spacing, points=steps + 1)
    return _grid(timesteps, steps + 1, spacing)[:-1]


def karras_timesteps(schedule: NoiseSchedule, steps: int, rho: float = 7.0) -> np.ndarray:
    """The descending timesteps nearest to levels of noise that are evenly spaced in sigma^(1/rho).

    sigma is sqrt((1 - a) / a), from 80 (Karras et al. 2022, eq. 5 and table 1), or from the last 5%
    of the schedule where that is noisier, to that of timestep 0. Of levels that fall on one
    timestep, each takes the next that is free. On a schedule of zero terminal SNR T-1 comes first.

    Raises:
        ValueError: more steps than timesteps.
    """
    _check_steps(schedule.timesteps, steps)
    infinite = int(schedule.zero_terminal_snr)
    sigma = sigmas(schedule)
    places = np.arange(steps - infinite)
    begin = max(nearest_level(sigma, _MOST_NOISE), _lowest_start(schedule.timesteps) - infinite)
    roots = np.linspace(sigma[begin] ** (1 / rho), sigma[0] ** (1 / rho), len(places))
    grid = nearest_level(sigma, roots**rho) + places
    grid = np.maximum(np.minimum.accumulate(grid) - places, len(places) - 1 - places)
    return np.append(np.full(infinite, schedule.timesteps - 1), grid)


def sigmas(schedule):
    """sqrt((1 - a) / a) of the timesteps that leave any signal a, rising."""
    cumprod = schedule.alphas_cumprod[schedule.alphas_cumprod > 0]
    return np.sqrt((1.0 - cumprod) / cumprod)


def nearest_level(sigma, values):
    """The timesteps whose sigma, of a rising table, are nearest to values."""
    return np.searchsorted((sigma[1:] + sigma[:-1]) / 2.0, values)


def _grid(timesteps, points, spacing):
    if spacing == "trailing":
        return np.round(timesteps - np.arange(points) * (timesteps / points)).astype(np.int64) - 1
    if spacing == "linspace":
        ends = (0, timesteps - 1) if points > 1 else (timesteps - 1, timesteps - 1)
        return np.round(np.linspace(*ends, points)).astype(np.int64)[::-1]
    return (np.arange(points) * (timesteps // points))[::-1]


def _check(timesteps, steps, spacing, points):
    """Refuses what makes no grid, or one of so many points that begins too low."""
    kinds.spacing(spacing)
    _check_steps(timesteps, steps)
    if spacing == "leading":
        _check_start(timesteps, steps, points)


def _check_steps(timesteps, steps):
    if steps > timesteps:
        raise ValueError(
            f"{steps} sampling timesteps are asked of a schedule of {timesteps}; use fewer steps."
        )


def _lowest_start(timesteps):
    """The first timestep of the last 5%."""
    return timesteps - max(1, timesteps // 20)


def _check_start(timesteps, steps, points):
    """Refuses a leading grid that begins below the last 5%, with the nearest that does not."""
    count = np.arange(1, timesteps + 1)
    first = (count - 1) * (timesteps // count)
    good = count[first >= _lowest_start(timesteps)]
    if points not in good:
        nearest = good[np.argmin(np.abs(good - points))] - points + steps
        raise ValueError(
            f"steps={steps} with spacing='leading' begins at t = {first[points - 1]} of "
            f"{timesteps}, below the noise that images begin as: use steps={nearest}, "
            "spacing='trailing', or spacing='leading_unchecked' for this very grid."
        )


def levels(schedule, timesteps):
    """What timesteps leave of the image and of noise, and in the end the image itself.

    Args:
        schedule: a `NoiseSchedule`.
        timesteps: visited, int of shape (steps,).

    Returns:
        (signal, rate, log_snr), float64 of shape (steps + 1,): sqrt(a), sqrt(1 - a) and their
        log-ratio, called lambda in papers on solvers. The last are 1, 0 and infinity; a timestep
        that is noise alone has 0, 1 and minus infinity.
    """
    cumprod = np.append(schedule.alphas_cumprod[timesteps], 1.0)
    with np.errstate(divide="ignore"):
        log_snr = 0.5 * (np.log(cumprod) - np.log1p(-cumprod))
    return np.sqrt(cumprod), np.sqrt(1.0 - cumprod), log_snr
