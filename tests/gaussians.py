"""Noise predictors known in closed form: the best ones for data drawn from a Gaussian.

For data from N(mean, deviation^2) per value and x = sqrt(a) x_start + sqrt(1 - a) epsilon,
E[epsilon | x] = sqrt(1 - a) (x - sqrt(a) mean) / (a deviation^2 + 1 - a).
"""

import numpy as np

from ddpm_keras import noise


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
