"""Noise predictors known in closed form: the best ones for data drawn from a Gaussian.

For data from N(mean, deviation^2) per value and x = sqrt(a) x_start + sqrt(1 - a) epsilon,
E[epsilon | x] = sqrt(1 - a) (x - sqrt(a) mean) / (a deviation^2 + 1 - a).
"""

import numpy as np

from ddpm_keras import noise

_TERMS = ("x", "x_start", "previous_x_start", "x_start_2_back", "x_start_3_back")


def gaussian_predictor(schedule, mean=0.0, deviation=1.0):
    """`predict(x, t)` for NumPy arrays or eager tensors, float64 inside and float32 outside.

    At the noisy end of the cosine schedule x_start holds that rounding magnified by
    1 / sqrt(a) = 20,000, as samplers receive it from a network.

    Args:
        schedule: a `NoiseSchedule`.
        mean: of the data, a number or an array that broadcasts against images.
        deviation: of each value of the data.
    """

    def predict(x, t):
        cumprod = np.reshape(schedule.alphas_cumprod[np.asarray(t)], (-1, 1, 1, 1))
        centred = np.asarray(x, np.float64) - np.sqrt(cumprod) * mean
        epsilon = np.sqrt(1 - cumprod) * centred / (cumprod * deviation**2 + 1 - cumprod)
        return epsilon.astype(np.float32)

    return predict


def graph_predictor(schedule, mean=0.0, deviation=1.0):
    """The same as TensorFlow operations, for graphs; `mean` is a number."""
    cumprod = schedule.alphas_cumprod
    scale = np.sqrt(1 - cumprod) / (cumprod * deviation**2 + 1 - cumprod)

    def predict(x, t):
        centred = x - noise.gather(np.sqrt(cumprod) * mean, t, x)
        return noise.gather(scale, t, x) * centred

    return predict


def moments(sampler, schedule, mean, deviation, rows=None, first=0):
    """Mean and standard deviation of what a sampler makes of noise, with the best predictor.

    Each row of its table maps Gaussians to Gaussians, so they follow in float64 without a draw.

    Args:
        sampler: a `Sampler` that does not clip.
        schedule: a `NoiseSchedule`.
        mean, deviation: of the data, numbers.
        rows: how many of the table's rows are followed; None: all.
        first: the step to begin at, as of `Sampler`.
    """
    timesteps = sampler.timesteps(schedule)[first:]
    columns = sampler.coefficients(schedule, timesteps)
    cumprod = schedule.alphas_cumprod[timesteps]
    signal, of_epsilon = np.sqrt(cumprod), columns.get("epsilon", 0.0) / np.sqrt(1 - cumprod)
    gain = deviation**2 * signal / (cumprod * deviation**2 + 1 - cumprod)
    # Of x, and of x_start now and 1, 2, 3 steps back: first it is predicted, then the step is made.
    predict, step = np.zeros((2, len(timesteps), 5, 5))
    predict[:] = np.eye(5, k=-1)
    predict[:, 0, 0], predict[:, 1, 0] = 1.0, gain
    step[:] = np.eye(5)
    step[:, 0] = np.stack([np.broadcast_to(columns.get(c, 0.0), gain.shape) for c in _TERMS], 1)
    step[:, 0, 0] += of_epsilon
    step[:, 0, 1] -= of_epsilon * signal
    both, shift = step @ predict, step[:, :, 1] * (mean - gain * signal * mean)[:, None]
    noise = np.broadcast_to(columns.get("noise", 0.0), gain.shape) ** 2
    centre, spread = np.zeros(5), np.zeros((5, 5))
    spread[0, 0] = 1.0
    for k in range(len(timesteps))[:rows]:
        centre, spread = both[k] @ centre + shift[k], both[k] @ spread @ both[k].T
        spread[0, 0] += noise[k]
    return centre[0], np.sqrt(spread[0, 0])


def predictor_of(schedule, prediction, mean=0.0, deviation=1.0):
    """The best prediction of that kind for Gaussian data, float64 inside and float32 outside."""

    def predict(x, t):
        cumprod = np.reshape(schedule.alphas_cumprod[np.asarray(t)], (-1, 1, 1, 1))
        x, signal = np.asarray(x, np.float64), np.sqrt(cumprod)
        gain = deviation**2 * signal / (cumprod * deviation**2 + 1 - cumprod)
        x_start = mean + gain * (x - signal * mean)
        epsilon = (x - signal * x_start) / np.sqrt(1 - cumprod)
        return np.float32(noise.training_target(schedule, prediction, x_start, epsilon, t))

    return predict
