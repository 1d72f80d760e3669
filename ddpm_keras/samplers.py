"""Samplers: from noise to images with any noise predictor.

`sampler(predict, noise, schedule, seed=0)` runs the reverse process on `noise` (float32, shape
(batch, ...)), where `predict(x, t)` gives epsilon for t int32 of shape (batch,). The loop is one
`tf.while_loop` that holds `predict` once, so it works eagerly and in a `tf.function` with an
unknown batch size.

A step of each sampler here is linear in the current image, the predicted noise, the predicted
x_start, the x_start of the step before and fresh noise. A sampler therefore is a table of
coefficients, computed in float64, and they all share one loop.

Fresh noise is drawn for each image from its own seed, so an image does not depend on the batch it
is made in.
"""

import keras
import numpy as np
import tensorflow as tf

from .noise import NoiseSchedule

SPACINGS = ("leading", "trailing", "linspace")
VARIANCES = ("fixed_large", "fixed_small")
_COLUMNS = ("signal", "rate", "x", "epsilon", "x_start", "previous_x_start", "noise")


class Sampler:
    """What every sampler shares: the loop, clipping, and configuration.

    A subclass gives `timesteps(schedule)`, the descending timesteps it visits, and
    `coefficients(schedule, timesteps)`, a dict of columns of length steps from "x", "epsilon",
    "x_start", "previous_x_start" and "noise"; a column left out is zero.

    Args:
        clip: Whether the predicted x_start is clipped to [-1, 1] at each step.
    """

    def __init__(self, clip):
        self.clip = bool(clip)

    def __call__(self, predict, noise, schedule, seed=0):
        """Denoises.

        Args:
            predict: `predict(x, t) -> epsilon`, shaped like x; x float32, t int32 of shape
                (batch,).
            noise: x_T, standard normal, shape (batch, ...).
            schedule: The `NoiseSchedule` the predictor was trained with.
            seed: An integer, or per-image seeds as `image_seeds` gives them, shape (batch, 2).

        Returns:
            Images, float32, shaped like `noise`; data in [-1, 1] gives values about there.
        """
        noise = tf.convert_to_tensor(noise, tf.float32)
        timesteps, table = self._table(schedule)
        # Columns of zeros are left out of the graph: DDIM without eta draws no noise.
        used = {name for name, column in zip(_COLUMNS, table.T, strict=True) if np.any(column)}
        timesteps, table = tf.constant(timesteps, tf.int32), tf.constant(table, tf.float32)
        batch = tf.shape(noise)[0]
        seeds = _as_image_seeds(seed, batch) if "noise" in used else None

        def step(k, x, previous_x_start):
            c = dict(zip(_COLUMNS, tf.unstack(tf.gather(table, k)), strict=True))
            epsilon = tf.cast(predict(x, tf.repeat(timesteps[k], batch)), tf.float32)
            x_start = (x - c["rate"] * epsilon) / c["signal"]
            if self.clip:
                x_start = tf.clip_by_value(x_start, -1.0, 1.0)
            terms = {
                "x": x,
                "epsilon": epsilon,
                "x_start": x_start,
                "previous_x_start": previous_x_start,
            }
            x = sum(c[name] * term for name, term in terms.items() if name in used)
            if "noise" in used:
                x += c["noise"] * step_noise(seeds, k + 1, tf.shape(noise)[1:])
            return k + 1, tf.ensure_shape(x, noise.shape), tf.ensure_shape(x_start, noise.shape)

        _, x, _ = tf.while_loop(
            lambda k, *_: k < len(timesteps),
            step,
            (0, noise, tf.zeros_like(noise)),
            shape_invariants=(tf.TensorShape([]), noise.shape, noise.shape),
            parallel_iterations=1,
        )
        return x

    def _table(self, schedule):
        """(timesteps, float64 table of shape (steps, columns)) for a schedule."""
        timesteps = self.timesteps(schedule)
        cumprod = schedule.alphas_cumprod[timesteps]
        columns = dict.fromkeys(_COLUMNS, np.zeros(len(timesteps)))
        columns |= {"signal": np.sqrt(cumprod), "rate": np.sqrt(1.0 - cumprod)}
        columns |= self.coefficients(schedule, timesteps)
        return timesteps, np.stack([columns[name] for name in _COLUMNS], axis=1)

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDPMSampler")
class DDPM(Sampler):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), with x_start clipped before the posterior
    mean.

    With fewer steps than the schedule has, the betas between the visited timesteps are merged so
    that alphas_cumprod is the same there (Nichol & Dhariwal 2021, eq. 19).

    Args:
        variance: "fixed_large", beta_t (best on CIFAR-10 with many steps), or "fixed_small", the
            posterior's.
        steps: Number of steps, at most the schedule's timesteps; None visits every timestep.
        clip: Whether x_start is clipped to [-1, 1].
        spacing: Which timesteps fewer steps visit: "linspace", "leading" or "trailing".

    Example:

    >>> sampler = DDPM("fixed_small", steps=100)
    """

    def __init__(self, variance="fixed_large", steps=None, clip=True, spacing="linspace"):
        super().__init__(clip)
        if variance not in VARIANCES:
            raise ValueError(f"Unknown variance {variance!r}; use one of {', '.join(VARIANCES)}.")
        self.variance = variance
        self.steps = None if steps is None else _checked_steps(steps)
        self.spacing = _checked_spacing(spacing)

    def timesteps(self, schedule):
        steps = schedule.timesteps if self.steps is None else self.steps
        return sampling_timesteps(schedule.timesteps, steps, self.spacing)

    def coefficients(self, schedule, timesteps):
        cumprod = schedule.alphas_cumprod[timesteps]
        spaced = NoiseSchedule(1.0 - cumprod[::-1] / np.append(1.0, cumprod[:0:-1]), "respaced")
        variances = {"fixed_large": spaced.betas, "fixed_small": spaced.posterior_variance}
        deviation = np.sqrt(variances[self.variance])
        deviation[0] = 0.0  # the last step returns the mean
        return {
            "x_start": spaced.posterior_mean_coef_x_start[::-1],
            "x": spaced.posterior_mean_coef_x_t[::-1],
            "noise": deviation[::-1],
        }

    def get_config(self):
        return {
            "variance": self.variance,
            "steps": self.steps,
            "clip": self.clip,
            "spacing": self.spacing,
        }


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DDIMSampler")
class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al. 2021a, eq. 12).

    Each step goes to the next timestep of the grid, and the last one to x_start itself.

    Args:
        steps: Number of steps, at most the schedule's timesteps.
        eta: 0 is deterministic; 1 adds as much noise as ancestral sampling with the posterior's
            variance.
        spacing: "leading", "trailing" (visits T-1) or "linspace" (visits T-1 and 0).
        clip: Whether x_start is clipped to [-1, 1]; epsilon is not recomputed from it.

    Example:

    >>> sampler = DDIM(steps=50)
    """

    def __init__(self, steps=50, eta=0.0, spacing="leading", clip=True):
        super().__init__(clip)
        if not 0.0 <= eta <= 1.0:
            raise ValueError(f"eta is {eta}; use a number from 0 (deterministic) to 1.")
        self.steps = _checked_steps(steps)
        self.eta = float(eta)
        self.spacing = _checked_spacing(spacing)

    def timesteps(self, schedule):
        return sampling_timesteps(schedule.timesteps, self.steps, self.spacing)

    def coefficients(self, schedule, timesteps):
        cumprod = schedule.alphas_cumprod[timesteps]
        target = np.append(cumprod[1:], 1.0)
        variance = (
            self.eta**2 * (1.0 - target) / (1.0 - cumprod) * (1.0 - cumprod / target)
        )  # eq. 16
        return {
            "x_start": np.sqrt(target),
            "epsilon": np.sqrt(np.maximum(1.0 - target - variance, 0.0)),
            "noise": np.sqrt(variance),
        }

    def get_config(self):
        return {"steps": self.steps, "eta": self.eta, "spacing": self.spacing, "clip": self.clip}


@keras.saving.register_keras_serializable(package="ddpm_keras", name="DPMSolverSampler")
class DPMSolver(Sampler):
    """DPM-Solver++ multistep (Lu et al. 2022b): deterministic, good from 10 to 20 steps.

    The first step and the last, which goes to x_start itself, are of first order.

    Args:
        steps: Number of steps, below the schedule's timesteps.
        order: 1 (the same as DDIM) or 2, algorithm 2 of the paper in its midpoint form.
        spacing: "linspace", "leading" or "trailing".
        clip: Whether x_start is clipped to [-1, 1].

    Example:

    >>> sampler = DPMSolver(steps=20)
    """

    def __init__(self, steps=20, order=2, spacing="linspace", clip=False):
        super().__init__(clip)
        if order not in (1, 2):
            raise ValueError(f"order is {order}; use 1 or 2.")
        self.steps = _checked_steps(steps)
        self.order = int(order)
        self.spacing = _checked_spacing(spacing)

    def timesteps(self, schedule):
        # One interval more than the steps: the solver ends at x_start, not at timestep 0.
        if self.spacing == "trailing":
            return sampling_timesteps(schedule.timesteps, self.steps, self.spacing)
        return sampling_timesteps(schedule.timesteps, self.steps + 1, self.spacing)[:-1]

    def coefficients(self, schedule, timesteps):
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

    def get_config(self):
        return {
            "steps": self.steps,
            "order": self.order,
            "spacing": self.spacing,
            "clip": self.clip,
        }


SAMPLERS = {"ddpm": DDPM, "ddim": DDIM, "dpm": DPMSolver}


def get(sampler, **arguments):
    """A sampler from its name and arguments, or the given one unchanged.

    Args:
        sampler: "ddpm", "ddim" or "dpm", a sampler, or the configuration Keras made of one.
        **arguments: The sampler's own, such as `steps`; None takes its default.

    Raises:
        ValueError: An unknown name, or an argument that the sampler does not take.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, dict):
        return keras.saving.deserialize_keras_object(sampler)
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}; use one of {', '.join(SAMPLERS)}.")
    arguments = {name: value for name, value in arguments.items() if value is not None}
    accepted = SAMPLERS[sampler]().get_config()
    for name in arguments:
        if name not in accepted:
            raise ValueError(
                f"The sampler {sampler!r} takes no {name!r}; it takes {', '.join(accepted)}."
            )
    return SAMPLERS[sampler](**arguments)


def sampling_timesteps(timesteps, steps, spacing):
    """The descending timesteps a sampler visits, int64 of shape (steps,), within 0..timesteps-1.

    "leading" takes every (timesteps // steps)-th from 0, "trailing" counts down from timesteps-1,
    and "linspace" rounds an even division that holds both ends (Lin et al. 2024, table 2, with
    timesteps from 0).

    Raises:
        ValueError: More steps than timesteps.
    """
    if steps > timesteps:
        raise ValueError(
            f"{steps} sampling timesteps are asked of a schedule of {timesteps}; use fewer steps."
        )
    if _checked_spacing(spacing) == "leading":
        return (np.arange(steps) * (timesteps // steps))[::-1]
    if spacing == "trailing":
        return np.round(timesteps - np.arange(steps) * (timesteps / steps)).astype(np.int64) - 1
    return np.round(np.linspace(0, timesteps - 1, steps)).astype(np.int64)[::-1]


def image_seeds(seed, start, count):
    """The seeds of images `start`, ..., `start + count - 1` of the series `seed`.

    Args:
        seed: An integer; two that agree modulo 2**32 give the same series.
        start: Index of the first image.
        count: Number of images.

    Returns:
        int32 of shape (count, 2), to pass as the `seed` of a sampler and to `initial_noise`.
    """
    if not tf.is_tensor(seed):
        seed = tf.constant((int(seed) + 2**31) % 2**32 - 2**31, tf.int32)
    index = tf.cast(start, tf.int32) + tf.range(tf.cast(count, tf.int32))
    return tf.stack([tf.repeat(tf.cast(seed, tf.int32), count), index], axis=1)


def initial_noise(seeds, image_shape):
    """x_T for each image: standard normal, float32 of shape (batch, *image_shape).

    Args:
        seeds: Per-image seeds, int32 of shape (batch, 2), from `image_seeds`.
        image_shape: (height, width, channels).
    """
    return step_noise(seeds, 0, image_shape)


def step_noise(seeds, k, image_shape):
    """Standard normal noise for step `k` of each image, a function of (its seed, k) alone.

    One counter-based generator runs over the whole batch: the image's seed is the key, (pixel, k)
    the counter. The bits are the same on every device, in every TensorFlow, and for every batch
    size.

    Args:
        seeds: int32 of shape (batch, 2).
        k: 0 for x_T, then 1, 2, ... for the steps.
        image_shape: Shape of an image, static or a tensor.

    Returns:
        float32 of shape (batch, *image_shape).
    """
    image_shape = tf.convert_to_tensor(image_shape, tf.int32)
    size = tf.reduce_prod(image_shape)
    pairs = tf.range(tf.cast((size + 1) // 2, tf.int64))[tf.newaxis]
    keys = tf.bitwise.bitwise_and(tf.cast(seeds, tf.int64), _WORD)
    first, second = threefry_2x32(
        (keys[:, :1], keys[:, 1:]), (pairs, tf.fill([1, 1], tf.cast(k, tf.int64)))
    )
    # Box-Muller; the half keeps the logarithm finite.
    radius = tf.sqrt(-2.0 * tf.math.log((tf.cast(first, tf.float32) + 0.5) * 2.0**-32))
    angle = tf.cast(second, tf.float32) * (2.0 * np.pi * 2.0**-32)
    normal = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :size]
    return tf.reshape(normal, tf.concat([[tf.shape(seeds)[0]], image_shape], axis=0))


_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry_2x32(key, counter):
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011): two random 32-bit words per counter.

    Words travel in int64, masked to 32 bits: uint32 arithmetic is not available on every device.

    Args:
        key: Two int64 tensors of words, broadcast against the counter.
        counter: Two int64 tensors of words.

    Returns:
        Two int64 tensors of words.
    """

    def add(a, b):
        return tf.bitwise.bitwise_and(a + b, _WORD)

    parity = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key[0], key[1]), 0x1BD11BDA)
    keys = (key[0], key[1], parity)
    x, y = add(counter[0], keys[0]), add(counter[1], keys[1])
    for injection in range(1, 6):
        for rotation in _ROTATIONS[(injection - 1) % 2]:
            x = add(x, y)
            high = tf.bitwise.left_shift(y, tf.constant(rotation, tf.int64))
            low = tf.bitwise.right_shift(y, tf.constant(32 - rotation, tf.int64))
            rotated = tf.bitwise.bitwise_and(tf.bitwise.bitwise_or(high, low), _WORD)
            y = tf.bitwise.bitwise_xor(rotated, x)
        x = add(x, keys[injection % 3])
        y = add(y, keys[(injection + 1) % 3] + injection)
    return x, y


def _as_image_seeds(seed, batch):
    """Per-image seeds from an integer, or as given."""
    if not tf.is_tensor(seed) and np.ndim(seed):
        seed = tf.convert_to_tensor(seed, tf.int32)
    if not tf.is_tensor(seed) or seed.shape.rank == 0:
        return image_seeds(seed, 0, batch)
    if seed.shape.rank != 2 or seed.shape[1] != 2:
        shape = tuple(seed.shape)
        raise ValueError(f"seed has shape {shape}; give an integer or image_seeds(seed, 0, count).")
    return seed


def _checked_steps(steps):
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps is {steps}; use a whole number of at least 1.")
    return int(steps)


def _checked_spacing(spacing):
    if spacing not in SPACINGS:
        raise ValueError(f"Unknown spacing {spacing!r}; use one of {', '.join(SPACINGS)}.")
    return spacing
