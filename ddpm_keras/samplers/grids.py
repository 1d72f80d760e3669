"""The timesteps that a sampler visits."""

import numpy as np

from ..choices import SPACINGS, check


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


def checked_spacing(spacing: str) -> str:
    """`spacing`; refused where it is not among `SPACINGS`."""
    check("spacing", spacing, SPACINGS)
    return spacing


def _grid(timesteps, points, spacing):
    if spacing == "trailing":
        return np.round(timesteps - np.arange(points) * (timesteps / points)).astype(np.int64) - 1
    if spacing == "linspace":
        ends = (0, timesteps - 1) if points > 1 else (timesteps - 1, timesteps - 1)
        return np.round(np.linspace(*ends, points)).astype(np.int64)[::-1]
    return (np.arange(points) * (timesteps // points))[::-1]


def _check(timesteps, steps, spacing, points):
    """Refuses what makes no grid, or one of so many points that begins too low."""
    checked_spacing(spacing)
    if steps > timesteps:
        raise ValueError(
            f"{steps} sampling timesteps are asked of a schedule of {timesteps}; use fewer steps."
        )
    if spacing == "leading":
        _check_start(timesteps, steps, points)


def _check_start(timesteps, steps, points):
    """Refuses a leading grid that begins below the last 5%, with the nearest that does not."""
    count = np.arange(1, timesteps + 1)
    first = (count - 1) * (timesteps // count)
    good = count[first >= timesteps - max(1, timesteps // 20)]
    if points not in good:
        nearest = good[np.argmin(np.abs(good - points))] - points + steps
        raise ValueError(
            f"steps={steps} with spacing='leading' begins at t = {first[points - 1]} of "
            f"{timesteps}, below the noise that images begin as: use steps={nearest}, "
            "spacing='trailing', or spacing='leading_unchecked' for this very grid."
        )
