"""Guidance: two predictions of the same thing, a good and a worse one, made into a better one.

What is predicted may be the noise, the image or v: for the same x_t each is linear in the others,
so `extrapolated` gives the same images by all of them; `rescaled` is for what the network predicts.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from .scalars import number


def extrapolated(good, worse, scale):
    """What lies on from the worse prediction through the good one: worse + scale (good - worse).

    It is classifier-free guidance where the worse prediction is that without a label (Ho & Salimans
    2022, eq. 6, with scale = 1 + w), and autoguidance where it is that of a worse network (Karras
    et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", section 4).

    Args:
        good: a prediction, (batch, ...).
        worse: another one for the same x_t and t.
        scale: 1 gives the good prediction to rounding, 0 the worse one.

    Returns:
        A prediction, shaped like both.
    """
    return worse + scale * (good - worse)


def rescaled(guided, good, share):
    """A guided prediction that keeps the spread of the good one, against burnt colours.

    Its standard deviation over each image is made that of the good prediction, and as much of the
    result is taken as `share` says (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample
    Steps are Flawed", eq. 15 and 16).

    Args:
        guided: what `extrapolated` gave, (batch, ...).
        good: the good prediction.
        share: from 0, which changes nothing, to 1; the paper uses 0.7.

    Returns:
        A prediction, shaped like both.
    """
    axes = list(range(1, guided.shape.rank))
    of_good, of_guided = (tf.math.reduce_std(x, axes, keepdims=True) for x in (good, guided))
    kept = guided * tf.math.divide_no_nan(of_good, of_guided)
    return share * kept + (1.0 - share) * guided


def scale_at(t, scale, low, high):
    """The scale at timesteps low <= t < high, and 1, which is no guidance, elsewhere.

    Guidance does harm where there is hardly anything but noise, and little good where there is
    hardly any (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample
    and Distribution Quality in Diffusion Models", section 3).

    Args:
        t: timesteps, (batch,).
        scale: as of `extrapolated`.
        low, high: ends of the interval, in timesteps.

    Returns:
        float32 (batch,).
    """
    return tf.where(_inside(t, low, high), scale, 1.0)


def _inside(t, low, high):
    t = tf.cast(t, tf.float32)
    return (low <= t) & (t < high)


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How far, when and how predictions are guided; its numbers may be scalar tensors.

    Args:
        scale: as of `extrapolated`; 1 is no guidance.
        rescale: the share of `rescaled`.
        low, high: the interval of `scale_at`.
    """

    scale: float
    rescale: float = 0.0
    low: float = 0.0
    high: float = math.inf

    @classmethod
    def checked(cls, scale, rescale=None, interval=None):
        """The guidance that arguments of `DDPM.sample` name; None where there is none.

        Raises:
            ValueError: one of them is not of its kind, or means nothing without a scale.
        """
        scale = 1.0 if scale is None else number(scale, "guidance_scale")
        if scale == 1.0:
            for value, name in ((rescale, "guidance_rescale"), (interval, "guidance_interval")):
                if value is not None:
                    raise ValueError(
                        f"{name} means nothing without guidance: give a guidance_scale, such as 2."
                    )
            return None
        rescale = 0.0 if rescale is None else number(rescale, "guidance_rescale")
        if not 0.0 <= rescale <= 1.0:
            raise ValueError(f"guidance_rescale is {rescale}; use a number from 0 to 1.")
        return cls(scale, rescale, *_checked_interval(interval))

    def visits(self, timesteps):
        """Whether any of these timesteps, an array of whole numbers, is guided, a bool."""
        return bool(((self.low <= timesteps) & (timesteps < self.high)).any())

    def acts(self, t):
        """Whether any of these timesteps is guided, a boolean tensor."""
        return tf.reduce_any(_inside(t, self.low, self.high))

    def combined(self, good, worse, t):
        """A prediction from a good and a worse one, (batch, ...), at timesteps t, (batch,)."""
        scale = scale_at(t, self.scale, self.low, self.high)
        scale = tf.reshape(scale, [-1] + [1] * (good.shape.rank - 1))
        return rescaled(extrapolated(good, worse, scale), good, self.rescale)


def _checked_interval(interval):
    """(low, high) of timesteps, or () where none is given."""
    if interval is None:
        return ()
    if np.shape(interval) == (2,):
        low, high = (number(end, "guidance_interval") for end in interval)
        if 0.0 <= low < high:
            return low, high
    raise ValueError(
        f"guidance_interval is {interval!r}; give (low, high) in timesteps, 0 <= low < high."
    )
