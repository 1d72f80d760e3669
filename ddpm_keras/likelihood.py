"""Bits per dimension: the variational bound on the likelihood of images (Ho et al. 2020, eq. 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.special
import tensorflow as tf
from numpy.typing import ArrayLike

from . import choices, noise, samplers
from .aliases import Predictor
from .inputs import Inputs, as_numpy
from .samplers.base import check_schedule, predicted
from .scalars import count, flag

if TYPE_CHECKING:  # names in annotations alone
    from .ema.weight_sets import WeightSet
    from .noise import NoiseSchedule

_HALF_BIN = 1.0 / 255.0  # of 256 levels over [-1, 1]
_OFF_LEVEL = 0.1  # of the distance between two levels: float16 rounds by .06


def bits_per_dim(
    predict: Predictor,
    images: ArrayLike,
    schedule: NoiseSchedule,
    variance: str = "fixed_large",  # "fixed_large" or "fixed_small", of the reverse process
    clip: bool = True,  # whether the predicted x_start is clipped to [-1, 1]
    seed: int = 0,
    batch_size: int = 128,
    image_range: tuple[float, float] = (-1, 1),  # of float images
    prediction: str = "epsilon",  # what predict gives
) -> dict[str, Any]:
    """The variational bound of images under the reverse process, in bits per dimension.

    The network is evaluated once an image and timestep, each with noise of its own, so the bound
    is estimated without bias; it does not depend on `batch_size`.

    Args:
        predict: `predict(x, t)`, as for a sampler.
        images: uint8 in 0..255, or float on those 256 levels in `image_range`; shape (N, ...).
        schedule: The `NoiseSchedule` the predictor was trained with.
        variance: "fixed_large", beta_t, or "fixed_small", the posterior's.
        clip: Whether the predicted x_start is clipped to [-1, 1].
        seed: Integer, of the noise.
        batch_size: Images at a time, at least 1.
        image_range: (low, high) of float images.
        prediction: what `predict` gives: "epsilon", "sample" (the image) or "v".

    Returns:
        dict, in bits per dimension: "total" and its "standard_error" over the images; "prior", the
        term of the last latent; "vlb", float64 (T,), the term of each timestep, of which entry 0
        is the decoder's; "per_image", float64 (N,), the totals.

    Raises:
        ValueError: No images, floats beyond `image_range` or between the levels, or an unknown
            variance.

    Example:

    >>> bits = bits_per_dim(predict, held_out_images, noise.linear(1000))
    >>> bits["total"] == bits["prior"] + bits["vlb"].sum()

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", sections 2-3.
    """
    batch_size, clip = count(batch_size, "batch_size"), flag(clip, "clip")
    check_schedule(schedule)
    images = _on_levels(images, image_range)
    log_variance = _model_log_variance(schedule, variance)
    prior, terms = [], []
    for start in range(0, len(images), batch_size):
        x_start = images[start : start + batch_size] / 127.5 - 1.0
        seeds = samplers.image_seeds(seed, start, len(x_start))
        prior.append(_prior(x_start, schedule))
        terms.append(_terms(predict, prediction, x_start, schedule, log_variance, clip, seeds))
    prior, terms = np.concatenate(prior), np.concatenate(terms)
    per_image = prior + terms.sum(axis=1)
    if not np.isfinite(per_image).all():
        wrong = int(np.argmin(np.isfinite(per_image)))
        raise ValueError(f"predict gave a number that is not finite for image {wrong}.")
    return {
        "total": float(per_image.mean()),
        "standard_error": float(per_image.std() / math.sqrt(max(1, len(per_image) - 1))),
        "prior": float(prior.mean()),
        "vlb": terms.mean(axis=0),
        "per_image": per_image,
    }


def model_bits_per_dim(
    model: Any, images: ArrayLike, weights: str | WeightSet | None = None, **options: Any
) -> dict[str, Any]:
    """`bits_per_dim` of one weight set of a `DDPM`, which stays as it is.

    Args:
        model: A `DDPM`. A conditional one is asked without a label.
        images: uint8 in 0..255, or float on those 256 levels in `model.image_range`.
        weights: A name of `model.weight_sets`, "ema" or a `WeightSet`; by default
            `model.evaluation_weights`.
        **options: Those of `bits_per_dim`.

    Returns:
        The dict of `bits_per_dim`.

    Raises:
        ValueError: The images are not what the model is trained on.
    """
    Inputs(model.image_shape, model.image_range).check_arrays(images)
    weights = model.evaluation_weights if weights is None else weights
    model.check_finite(weights)
    values = [tf.convert_to_tensor(value) for value in model.weight_values(weights)]

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(x, t):
        labels = None if model.num_classes is None else tf.fill(tf.shape(t), model.num_classes)
        with model.weight_scope(values):
            return model.predict_output(x, t, labels)

    options = {"image_range": model.image_range, "prediction": model.prediction} | options
    return bits_per_dim(predict, images, model.schedule, **options)


def _on_levels(images, image_range):
    """Images as float64 on the levels 0..255; refused if they lie between them."""
    Inputs(image_range=image_range).check_arrays(images)
    images = as_numpy(images)
    if images.dtype == np.uint8:
        return np.float64(images)
    low, high = image_range
    values = (np.float64(images) - low) * (255 / (high - low))
    levels = np.rint(values)
    if np.abs(values - levels).max() > _OFF_LEVEL:
        raise ValueError(
            "bits_per_dim needs 8-bit images, but these floats lie between the 256 levels of "
            f"image_range=({low:g}, {high:g}): give uint8 images."
        )
    return levels


def gaussian_kl(mean_difference_squared, log_variance_q, log_variance_p):
    """KL(q || p) of Gaussians, in nats; a mean over dimensions where the first argument is one."""
    ratio = np.exp(log_variance_q - log_variance_p)
    distance = mean_difference_squared * np.exp(-log_variance_p)
    return 0.5 * (log_variance_p - log_variance_q - 1.0 + ratio + distance)


def discretized_log_likelihood(x_start, mean, log_variance):
    """log of a Gaussian's mass in the bin of each 8-bit value, in nats (Ho et al. 2020, eq. 13).

    Args:
        x_start: Values k / 127.5 - 1, any shape; the bins of -1 and 1 reach to infinity.
        mean: Shaped like `x_start`.
        log_variance: A number.
    """
    precision = np.exp(-0.5 * log_variance)
    # Mirrored to the left tail, where the logarithm of the distribution function is accurate.
    side = np.where(x_start > mean, -1.0, 1.0)
    centre = side * (x_start - mean) * precision
    upper = scipy.special.log_ndtr(centre + _HALF_BIN * precision)
    lower = scipy.special.log_ndtr(centre - _HALF_BIN * precision)
    inside = upper + np.log1p(-np.exp(lower - upper))
    reach = (x_start - mean) * precision
    below = scipy.special.log_ndtr(reach + _HALF_BIN * precision)
    above = scipy.special.log_ndtr(-reach + _HALF_BIN * precision)
    return np.where(x_start < -0.999, below, np.where(x_start > 0.999, above, inside))


def _model_log_variance(schedule, variance):
    choices.check("variance", variance, choices.VARIANCES)
    clipped = schedule.posterior_log_variance_clipped
    if variance == "fixed_small":
        return clipped
    return np.append(clipped[0], np.log(schedule.betas[1:]))


def _prior(x_start, schedule):
    """KL(q(x_T | x_start) || N(0, 1)) of each image, bits per dimension."""
    signal_squared = schedule.alphas_cumprod[-1]
    mean_squared = signal_squared * np.mean(_flat(x_start) ** 2, axis=1)
    return gaussian_kl(mean_squared, np.log1p(-signal_squared), 0.0) / math.log(2.0)


def _terms(predict, prediction, x_start, schedule, log_variance, clip, seeds):
    """The term of each image and timestep, float64 (batch, T), bits per dimension."""
    images = tf.constant(x_start, tf.float32)
    error = np.empty((len(x_start), schedule.timesteps))  # mean squared, of the predicted x_start
    for step in reversed(range(schedule.timesteps)):
        t = tf.fill([len(x_start)], step)
        drawn = samplers.step_noise(seeds, step, x_start.shape[1:])
        x = noise.q_sample(schedule, images, t, drawn)
        output = predicted(predict, x, t)
        found = noise.to_x_start(schedule, prediction, output, x, t)
        found = np.float64(tf.clip_by_value(found, -1.0, 1.0) if clip else found)
        error[:, step] = np.mean(_flat(found - x_start) ** 2, axis=1)
    # The two means differ by the x_start in them alone, eq. 7.
    nats = gaussian_kl(
        schedule.posterior_mean_coef_x_start**2 * error,
        schedule.posterior_log_variance_clipped,
        log_variance,
    )
    decoder = discretized_log_likelihood(x_start, found, log_variance[0])  # of t = 0, the last
    nats[:, 0] = -np.mean(_flat(decoder), axis=1)
    return nats / math.log(2.0)


def _flat(images):
    return np.reshape(images, (len(images), -1))
