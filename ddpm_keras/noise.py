"""Noise schedules and the arithmetic of the forward process and of its posterior.

Tables are float64 NumPy arrays of shape (timesteps,), entry t belonging to timestep t in 0..T-1.
The functions below them are pure, work eagerly and in a graph, and gather from the tables at the
precision of their tensors. With `alphas_cumprod` written a, x_t = sqrt(a_t) x_start + sqrt(1 - a_t)
noise (Ho et al. 2020, eq. 4).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .aliases import Tensor
from .choices import PREDICTIONS, SCHEDULES, WEIGHTINGS, check
from .scalars import flag, number

MOST_TIMESTEPS = 100_000  # whose tables are made at once, and stay small
MAX_BETA = 0.999  # Nichol & Dhariwal 2021, section 3.2: no singularity at the end of the process
_LEAST_SIGNAL = float(np.finfo(np.float32).tiny) ** 2  # the samplers divide by its root in float32


@keras.saving.register_keras_serializable(package="ddpm_keras")
class NoiseSchedule:
    """How much noise each timestep adds, with every table that follows from it.

    Args:
        betas: variances of the forward process, shape (T,), each strictly between 0 and 1; the last
            may be 1, which leaves no signal at all (see `zero_terminal_snr`).
        name: what a configuration and a report call the schedule.

    Attributes (float64, shape (T,), read-only):
        betas, alphas, alphas_cumprod, alphas_cumprod_prev (1 at t = 0), snr (signal-to-noise
        ratio); posterior_variance, posterior_log_variance_clipped, posterior_mean_coef_x_start and
        posterior_mean_coef_x_t, of q(x_{t-1} | x_t, x_start) (Ho et al. 2020, eq. 6-7).
        And zero_terminal_snr, whether the last timestep is noise alone.

    Raises:
        ValueError: `betas` is not a non-empty vector, leaves (0, 1), or leaves no signal in the
            end.

    Example:

    >>> schedule = NoiseSchedule([0.1, 0.2, 0.3])
    >>> schedule.timesteps
    3
    """

    def __init__(self, betas: ArrayLike, name: str = "custom"):
        betas = _as_numbers(betas)
        if betas.ndim != 1 or betas.size < 1:
            raise ValueError(
                f"betas has shape {betas.shape}; give a vector with one beta per timestep."
            )
        inside = (1.0 - betas < 1) & (betas < 1)  # a beta below rounding is no noise either
        self.zero_terminal_snr = bool(betas[-1] == 1.0)
        inside[-1] |= self.zero_terminal_snr
        if not np.all(inside):
            first = int(np.argmin(inside))
            raise ValueError(
                f"betas[{first}] is {betas[first]}; every beta must lie strictly between 0 and 1."
            )
        self.name = str(name)
        self.betas = betas
        self.timesteps = len(betas)
        self.alphas = 1.0 - betas
        self.alphas_cumprod = np.cumprod(self.alphas)
        if self.alphas_cumprod[-1 - self.zero_terminal_snr :].max() < _LEAST_SIGNAL:
            raise ValueError(
                f"The betas leave a signal of {self.alphas_cumprod[-1]:g} after {len(betas)} "
                "timesteps, from which nothing can be sampled: use smaller betas or fewer."
            )
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])
        noise_level, previous_level = 1.0 - self.alphas_cumprod, 1.0 - self.alphas_cumprod_prev
        self.snr = self.alphas_cumprod / noise_level
        self.posterior_variance = betas * previous_level / noise_level
        # The posterior at t = 0 is a point: its log is replaced by the next one (Ho et al.'s code).
        first = self.posterior_variance[1] if self.timesteps > 1 else betas[0]
        self.posterior_log_variance_clipped = np.log(np.append(first, self.posterior_variance[1:]))
        self.posterior_mean_coef_x_start = betas * np.sqrt(self.alphas_cumprod_prev) / noise_level
        self.posterior_mean_coef_x_t = previous_level * np.sqrt(self.alphas) / noise_level
        for table in vars(self).values():
            if isinstance(table, np.ndarray):
                table.flags.writeable = False  # all of them follow from the betas

    def get_config(self) -> dict[str, Any]:
        """Name and timesteps of a schedule of the package; otherwise the betas themselves."""
        if self.name in SCHEDULES.built_in:
            if np.array_equal(SCHEDULES.find(self.name)(self.timesteps).betas, self.betas):
                return {"name": self.name, "timesteps": self.timesteps}
        return {"name": self.name, "betas": self.betas.tolist()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if "betas" in config:
            return cls(config["betas"], config["name"])
        return get(config["name"], config["timesteps"])

    def __repr__(self):
        end = ", zero_terminal_snr=True" if self.zero_terminal_snr else ""
        return f"NoiseSchedule({self.name}, timesteps={self.timesteps}{end})"


def linear(timesteps: int = 1000, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """Betas evenly spaced from 1e-4 to 0.02 at 1000 timesteps (Ho et al. 2020, section 4).

    For another number of timesteps both ends are multiplied by 1000 / timesteps, so that the
    process still ends in noise (improved-diffusion does the same), and no beta exceeds 0.999, which
    is reached below 21 timesteps.

    Args:
        timesteps: number of timesteps.
        zero_terminal_snr: whether the betas are rescaled by `rescaled_to_zero_terminal_snr`, so
            that the last timestep is noise alone.
    """
    timesteps = _checked(timesteps)
    scale = 1000.0 / timesteps
    betas = np.linspace(scale * 1e-4, scale * 0.02, timesteps)
    return _named(
        "linear", np.minimum(betas, MAX_BETA), flag(zero_terminal_snr, "zero_terminal_snr")
    )


def cosine(timesteps: int = 1000, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """alphas_cumprod falls as cos^2((s + .008) / 1.008 pi/2) (Nichol & Dhariwal 2021, eq. 17).

    The arguments are those of `linear`.
    """
    timesteps = _checked(timesteps)
    s = np.arange(timesteps + 1) / timesteps
    curve = np.cos((s + 0.008) / 1.008 * np.pi / 2) ** 2
    return _named("cosine", _betas_of(curve), flag(zero_terminal_snr, "zero_terminal_snr"))


def sigmoid(timesteps: int = 1000, zero_terminal_snr: bool = False) -> NoiseSchedule:
    """alphas_cumprod falls as a sigmoid over -3..3, rescaled to [0, 1] (Jabri et al. 2022).

    The arguments are those of `linear`.
    """
    timesteps = _checked(timesteps)
    s = np.arange(timesteps + 1) / timesteps
    curve = 1.0 / (1.0 + np.exp(6.0 * s - 3.0))
    # Only ratios of the curve count.
    return _named(
        "sigmoid", _betas_of(curve - curve[-1]), flag(zero_terminal_snr, "zero_terminal_snr")
    )


def rescaled_to_zero_terminal_snr(betas: ArrayLike) -> np.ndarray:
    """Betas by which the last timestep is noise alone (Lin et al. 2024, algorithm 1).

    sqrt(alphas_cumprod) is shifted to end at 0, and scaled to begin where it did. Images are drawn
    from noise alone; without this the network is trained on ends that still hold a little of the
    image, its mean above all. It must predict "v" or "sample": the noise says nothing of the image
    there.

    Args:
        betas: of a schedule, shape (T,), T at least 2.

    Returns:
        float64 (T,); the last is 1.
    """
    signal = np.sqrt(np.cumprod(1.0 - np.asarray(betas, np.float64)))
    if signal.size < 2:
        raise ValueError("A schedule of zero terminal SNR needs at least 2 timesteps.")
    cumprod = ((signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))) ** 2
    return 1.0 - cumprod / np.append(1.0, cumprod[:-1])


def get(
    schedule: NoiseSchedule | str, timesteps: int | None = 1000, **arguments: Any
) -> NoiseSchedule:
    """A `NoiseSchedule` from its name ("linear", "cosine", "sigmoid"), or the given one unchanged.

    Args:
        schedule: A name in `choices.SCHEDULES`, a `NoiseSchedule`, or the configuration Keras made
            of one.
        timesteps: Number of timesteps for a name; a `NoiseSchedule` keeps its own.
        **arguments: for a name, the schedule's own, such as `zero_terminal_snr`.

    Raises:
        ValueError: An unknown name, fewer than one timestep, or arguments for a `NoiseSchedule`.
    """
    if arguments and not isinstance(schedule, str):
        raise ValueError(f"{', '.join(arguments)} cannot change {schedule!r:.80}; make another.")
    if isinstance(schedule, NoiseSchedule):
        return schedule
    if isinstance(schedule, dict):
        return keras.saving.deserialize_keras_object(schedule)
    made = SCHEDULES.find(schedule)(timesteps, **arguments)
    if not isinstance(made, NoiseSchedule):
        raise ValueError(
            f"The schedule {schedule!r} gave a {type(made).__name__}; return a NoiseSchedule."
        )
    return made


def q_sample(schedule: NoiseSchedule, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Noises images: x_t = sqrt(a_t) x_start + sqrt(1 - a_t) noise (Ho et al. 2020, eq. 4).

    Args:
        schedule: A `NoiseSchedule`.
        x_start: Images, shape (batch, ...), in [-1, 1].
        t: Timesteps in 0..T-1, int, shape (batch,).
        noise: Standard normal, shaped like `x_start`.
    """
    _check_alike(x_start, noise)
    signal, rate = _rates(schedule, t, x_start)
    return signal * x_start + rate * noise


def velocity(schedule: NoiseSchedule, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """v = sqrt(a_t) noise - sqrt(1 - a_t) x_start (Salimans & Ho 2022, appendix D)."""
    _check_alike(x_start, noise)
    signal, rate = _rates(schedule, t, x_start)
    return signal * noise - rate * x_start


def to_x_start(
    schedule: NoiseSchedule, prediction: str, output: Tensor, x: Tensor, t: Tensor
) -> Tensor:
    """The image a network's output stands for, not clipped.

    Args:
        schedule: A `NoiseSchedule`.
        prediction: What `output` is: "epsilon", "sample" (the image itself) or "v".
        output: The network's output at (x, t), shaped like `x`.
        x: Noisy images x_t, shape (batch, ...).
        t: Timesteps, int, shape (batch,).
    """
    check_prediction(prediction, schedule)
    _check_alike(x, output)
    signal, rate = _rates(schedule, t, x)
    if prediction == "epsilon":
        return (x - rate * output) / signal
    if prediction == "v":
        return signal * x - rate * output
    return output


def to_epsilon(
    schedule: NoiseSchedule, prediction: str, output: Tensor, x: Tensor, t: Tensor
) -> Tensor:
    """The noise a network's output stands for; arguments as in `to_x_start`."""
    check_prediction(prediction, schedule)
    _check_alike(x, output)
    signal, rate = _rates(schedule, t, x)
    if prediction == "sample":
        return (x - signal * output) / rate
    if prediction == "v":
        return rate * x + signal * output
    return output


def posterior_mean(schedule: NoiseSchedule, x_start: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_start), shaped like `x` (Ho et al. 2020, eq. 7)."""
    from_x_start = gather(schedule.posterior_mean_coef_x_start, t, x)
    return from_x_start * x_start + gather(schedule.posterior_mean_coef_x_t, t, x) * x


def posterior_variance(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Tensor:
    """Variance of q(x_{t-1} | x_t, x_start), shaped to multiply `like`; 0 at t = 0."""
    return gather(schedule.posterior_variance, t, like)


def training_target(
    schedule: NoiseSchedule, prediction: str, x_start: Tensor, noise: Tensor, t: Tensor
) -> Tensor:
    """What the network should give at (q_sample(x_start, t, noise), t): noise, image or v."""
    check_prediction(prediction, schedule)
    if prediction == "epsilon":
        return noise
    return x_start if prediction == "sample" else velocity(schedule, x_start, t, noise)


def loss_weights(
    schedule: NoiseSchedule, prediction: str, weighting: str, t: Tensor, gamma: float = 5.0
) -> Tensor:
    """The weight of each image's squared error, float32 of shape (batch,).

    "simple" is 1 whatever is predicted (Ho et al. 2020, eq. 14). "min_snr" bounds the weight of the
    error on the image by `gamma`, and is expressed in the predicted quantity (Hang et al. 2023,
    section 3.4).

    Args:
        schedule: A `NoiseSchedule`.
        prediction: "epsilon", "sample" or "v".
        weighting: "simple" or "min_snr".
        t: Timesteps, int, shape (batch,).
        gamma: The bound on the signal-to-noise ratio.
    """
    check_prediction(prediction, schedule)
    check("weighting", weighting, WEIGHTINGS)
    if weighting == "simple":
        table = np.ones(schedule.timesteps)
    elif schedule.zero_terminal_snr:
        raise ValueError(
            "weighting='min_snr' gives no weight to the last timestep of a schedule of zero "
            "terminal SNR, where sampling begins: use weighting='simple'."
        )
    else:
        error_scale = {"epsilon": schedule.snr, "sample": 1.0, "v": schedule.snr + 1.0}
        table = np.minimum(schedule.snr, gamma) / error_scale[prediction]
    return _entries(tf.constant(table, tf.float32), t)


def check_prediction(prediction: str, schedule: NoiseSchedule | None = None) -> None:
    """Refuses what is not "epsilon", "sample" or "v", or says nothing of the image in the end."""
    check("prediction", prediction, PREDICTIONS)
    if prediction == "epsilon" and schedule is not None and schedule.zero_terminal_snr:
        raise ValueError(
            "prediction='epsilon' says nothing of the image at the last timestep of a schedule of "
            "zero terminal SNR: predict 'v' or 'sample', or use a schedule without."
        )


def gather(table: np.ndarray, t: Tensor, like: Tensor) -> Tensor:
    """Entries `t` of a table, in the dtype of `like`, shaped (batch, 1, ...) to multiply it."""
    like = tf.convert_to_tensor(like)
    values = _entries(tf.constant(table, like.dtype), t)
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))


def _entries(table, t):
    """Entries `t` of a table; what is none is refused where it is known: a GPU takes it for 0."""
    t, last = tf.convert_to_tensor(t), table.shape[0] - 1
    known = tf.get_static_value(t)  # None in a graph
    if not t.dtype.is_integer:
        got = t.dtype.name
    elif known is not None and np.any((known < 0) | (known > last)):
        got = f"{known.min()} to {known.max()}"
    else:
        return tf.gather(table, tf.cast(t, tf.int32))
    raise ValueError(f"t must be timesteps, whole numbers from 0 to {last}; got {got}.")


def _rates(schedule, t, like):
    """sqrt(a_t) and sqrt(1 - a_t): the field's signal rate and noise rate."""
    signal = gather(np.sqrt(schedule.alphas_cumprod), t, like)
    return signal, gather(np.sqrt(1.0 - schedule.alphas_cumprod), t, like)


def _betas_of(curve):
    """The betas by which alphas_cumprod follow `curve`, given at s = 0, 1/T, ..., 1."""
    return np.minimum(1.0 - curve[1:] / curve[:-1], MAX_BETA)


def _named(name, betas, zero_terminal_snr):
    if zero_terminal_snr:
        betas = rescaled_to_zero_terminal_snr(betas)
    return NoiseSchedule(betas, name)


def _checked(timesteps):
    if not 1 <= number(timesteps, "timesteps") <= MOST_TIMESTEPS or timesteps != int(timesteps):
        raise ValueError(
            f"timesteps is {timesteps}; use a whole number from 1 to {MOST_TIMESTEPS}."
        )
    return int(timesteps)


def _as_numbers(betas):
    """betas as float64; refused if they are no numbers."""
    try:
        return np.array(betas, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"betas is a {type(betas).__name__} that holds no plain numbers: give a vector of "
            "floats, one beta per timestep."
        ) from None


def _check_alike(images, others):
    """Refuses whole numbers, and two arrays or tensors that are known to be broadcast."""
    kind = tf.as_dtype(images.dtype if hasattr(images, "dtype") else np.asarray(images).dtype)
    if not kind.is_floating:
        raise ValueError(
            f"Images must be floats in [-1, 1], not {kind.name}: scale uint8 by x / 127.5 - 1."
        )
    shapes = [tf.TensorShape(getattr(each, "shape", np.shape(each))) for each in (images, others)]
    if not shapes[0].is_compatible_with(shapes[1]):
        raise ValueError(f"Images and noise must have one shape; got {shapes[0]} and {shapes[1]}.")
