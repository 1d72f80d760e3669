"""Group normalisation, with what is added before and what follows, in few passes over the map.

TensorFlow on a CPU makes a pass over the whole feature map for every operation. Here a chain of
element-wise operations is one pass, compiled by XLA; sums over the map are compiled apart from what
depends on them, which would otherwise compute them again for every element. The derivative is
written by hand: of the map it keeps the input alone, and computes the rest again.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .bfloat16 import narrowed
from .compiled import compiled
from .gradients import custom_gradient
from .masks import scaled_mask

_SLICES = 8  # of a map, added to one another before the places in them are: a third of the time


def linear(z):
    """(z, its slope)."""
    return z, tf.ones_like(z)


def silu(z):
    """(z sigmoid(z), its slope)."""
    gate = tf.sigmoid(z)
    return z * gate, gate * (1.0 + z * (1.0 - gate))


@dataclasses.dataclass(frozen=True)
class Norm:
    """y = dropped(activation(gamma * normalised(x + added) + beta)), computed in float32.

    With m the mean of a group, r = 1 / sqrt(its variance + epsilon), h = r (x + added - m), and
    g = dL/dy times the slope of what follows, dL/dgamma = sum(g h), dL/dbeta = sum(g) and
    dL/dx = r (gamma g - mean(gamma g) - h mean(gamma g h)), the means over the group.

    Attributes:
        groups: number of groups, which divides the channels.
        epsilon: added to the variance.
        activation: `linear` or `silu`.
        rate: of the dropout, in [0, 1).

    Reference:
        Wu & He 2018, "Group Normalization".
    """

    groups: int
    epsilon: float
    activation: Callable[[Any], Any] = linear
    rate: float = 0.0

    def __call__(self, x, gamma, beta, added=None, key=None):
        """The normalised map, in the dtype of `x`.

        Args:
            x: floats (batch, height, width, channels).
            gamma, beta: float32 (channels,).
            added: floats (batch, channels), added to every place of the map; None: nothing.
            key: uint32 (2,), which says with the place what is dropped; for a rate above 0.
        """
        added = tf.zeros_like(x[:, 0, 0, :]) if added is None else added
        key = tf.zeros((2,), tf.uint32) if key is None else key

        @custom_gradient
        def normalised(x, added, gamma, beta):
            moments = _moments((self.groups, _slices(x), self.epsilon), x, added)
            y = _applied((self.activation, self.rate), x, *moments[:2], gamma, beta, key)

            def derivative(dy):
                return _pulled_back(self, x, moments, gamma, beta, key, dy)

            return y, derivative

        return normalised(x, added, gamma, beta)


def _pulled_back(norm, x, moments, gamma, beta, key, dy):
    """dL/dx, dL/dadded, dL/dgamma and dL/dbeta of dL/dy."""
    centre, inverse, offset = moments
    dz = _of_affine((norm.activation, norm.rate), x, dy, centre, inverse, gamma, beta, key)
    slope, level, d_added, d_gamma, d_beta = _sums(
        (norm.groups, _slices(x)), x, dz, centre, inverse, offset, gamma
    )
    dx = _combined(None, x, dz, centre, inverse, gamma, slope, level)
    return dx, d_added, d_gamma, d_beta


@compiled
def _moments(static, x, added):
    """Of each channel, (batch, channels): m - added, r, and mean(x) - (m - added)."""
    groups, slices, epsilon = static
    start = tf.cast(x[:, :1, :1, :], tf.float32)  # any value near the mean keeps the digits
    values = tf.cast(x, tf.float32) - start
    added = tf.cast(added, tf.float32)
    mean = _mean_of_map(values, slices)
    variance = _mean_of_map(tf.square(values), slices) - tf.square(mean)
    mean += start[:, 0, 0, :] + added
    group_mean = _mean_of_groups(groups, mean)
    # Law of total variance: within the channels plus between their means.
    group_variance = _mean_of_groups(groups, variance + tf.square(mean - group_mean))
    return group_mean - added, tf.math.rsqrt(group_variance + epsilon), mean - group_mean


@compiled
def _applied(static, x, centre, inverse, gamma, beta, key):
    activation, rate = static
    z = _to_map(gamma * inverse) * (tf.cast(x, tf.float32) - _to_map(centre)) + beta
    y, _ = activation(z)
    return narrowed(y * _mask(rate, x, key), x.dtype)


@compiled
def _of_affine(static, x, dy, centre, inverse, gamma, beta, key):
    """g, in the dtype of `x`."""
    activation, rate = static
    values = tf.cast(x, tf.float32) - _to_map(centre)
    _, slope = activation(_to_map(gamma * inverse) * values + beta)
    return narrowed(tf.cast(dy, tf.float32) * slope * _mask(rate, x, key), x.dtype)


@compiled
def _sums(static, x, dz, centre, inverse, offset, gamma):
    """All that is summed over the map, of g."""
    groups, slices = static
    values, dz = tf.cast(x, tf.float32) - _to_map(centre), tf.cast(dz, tf.float32)
    total = _mean_of_map(dz, slices)
    along = _mean_of_map(dz * values, slices) * inverse
    level = -inverse * _mean_of_groups(groups, gamma * total)
    slope = -tf.square(inverse) * _mean_of_groups(groups, gamma * along)
    places = _places(x)
    d_added = (gamma * inverse * total + level + slope * offset) * places
    d_gamma, d_beta = (tf.reduce_sum(each, 0) * places for each in (along, total))
    return slope, level, narrowed(d_added, x.dtype), d_gamma, d_beta


@compiled
def _combined(_, x, dz, centre, inverse, gamma, slope, level):
    """dL/dx of g."""
    values = tf.cast(x, tf.float32) - _to_map(centre)
    dx = _to_map(gamma * inverse) * tf.cast(dz, tf.float32) + _to_map(slope) * values
    return narrowed(dx + _to_map(level), x.dtype)


def _mask(rate, x, key):
    return scaled_mask(tf.shape(x), key, rate) if rate else 1.0


def _to_map(channels):
    return channels[:, tf.newaxis, tf.newaxis, :]


def _places(x):
    return tf.cast(tf.shape(x)[1] * tf.shape(x)[2], tf.float32)


def _slices(x):
    """How many slices of a map are added to one another first."""
    height, width = x.shape[1:3]
    known = height is not None and width is not None
    return _SLICES if known and height * width % _SLICES == 0 else 1


def _mean_of_map(values, slices):
    """(batch, channels) of (batch, height, width, channels)."""
    batch, _, _, channels = tf.unstack(tf.shape(values))
    values_of = tf.reshape(values, (batch, slices, -1, channels))
    added = functools.reduce(operator.add, tf.unstack(values_of, slices, axis=1))
    return tf.reduce_sum(added, 1) / _places(values)


def _mean_of_groups(groups, values):
    """The mean of each group, (batch, channels): the same number for all of its members."""
    shape = tf.shape(values)
    grouped = tf.reshape(values, (shape[0], groups, shape[1] // groups))
    mean = tf.reduce_mean(grouped, 2, keepdims=True)
    return tf.reshape(tf.broadcast_to(mean, tf.shape(grouped)), shape)
