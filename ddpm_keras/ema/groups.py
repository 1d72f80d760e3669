"""How averages are stored: the weights joined in groups, one flat variable a group and average."""

import math
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from .. import keras_internals

# Weights are averaged in groups of about this many numbers (16 MiB): one group for a small network,
# and no large temporary arrays for a big one.
GROUP_SIZE = 2**22

# Weights are averaged while even the sum of their sizes is below half of the largest float32, so
# that their differences from an average are finite too.
LARGEST_SUM = float(np.finfo(np.float32).max) / 2


def as_variables(given):
    """Variables as a list.

    Raises:
        ValueError: they are something else, such as the model that has them.
    """
    several = isinstance(given, Iterable) and not hasattr(given, "assign")
    found = list(given) if several else []
    if not several or not all(hasattr(each, "assign") for each in found):
        raise ValueError(
            "variables is a list of variables, such as model.weights or network.weights; got "
            f"{given!r:.60}."
        )
    return found


def tf_variable(variable):
    """The TensorFlow variable of a Keras variable; anything else as it is."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def like(variable, value):
    """A value in the precision of a variable, of which averages, float32, may have another."""
    value = tf_variable(value)
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return value if value.dtype == dtype else tf.cast(value, dtype)


def label(variable):
    """What messages call a variable."""
    return getattr(variable, "path", None) or variable.name


def is_same_path(path, other):
    """Whether two paths are of one variable: Keras leaves the model out of them, or does not."""
    path, other = f"/{path}", f"/{other}"
    return path.endswith(other) or other.endswith(path)


def is_float(variable):
    """Whether the variable holds floating-point numbers of any width."""
    return tf.as_dtype(keras.backend.standardize_dtype(variable.dtype)).is_floating


def is_complex(variable):
    """Whether the variable holds complex numbers of any width."""
    return tf.as_dtype(keras.backend.standardize_dtype(variable.dtype)).is_complex


def fingerprint(variables):
    """A whole number made of all bits of some variables in order, the same on every device."""
    return int(checksum(variables))


def checksum(variables):
    """The same as an int64 scalar, in a graph too.

    Of values in float32, as averages take them, each times an odd number of its own, so that values
    that change their places are seen. Sums of whole numbers do not depend on how they are added.
    """
    total, begin = tf.zeros((), tf.int64), 0
    for values in _end_to_end(variables):
        end = begin + values.shape[0]
        odd = 2 * tf.range(begin, end, dtype=tf.int64) + 1
        total += tf.reduce_sum(odd * tf.cast(tf.bitcast(values, tf.int32), tf.int64))
        begin = end
    return total


def _end_to_end(variables):
    """Their values, float32, in flat tensors of some: an operation for each takes long to trace."""
    part, size = [], 0
    for variable in variables:
        part.append(tf.reshape(tf.cast(tf_variable(variable), tf.float32), [-1]))
        size += part[-1].shape[0]
        if size >= GROUP_SIZE:
            yield tf.concat(part, 0)
            part, size = [], 0
    if part:
        yield tf.concat(part, 0)


def holds_value(variable):
    """Whether a variable holds a value: one that is made in a graph does so once the graph ran."""
    with tf.init_scope():
        return not tf.executing_eagerly() or bool(tf_variable(variable).is_initialized())


def refuse_in_scope(what):
    """There other values are seen for the weights, and what is assigned is lost."""
    if keras_internals.in_stateless_scope():
        raise ValueError(f"{what} is for the weights themselves: leave the weight_scope first.")


def strategy_of(variable):
    """The strategy a variable was created under, so that its average is created under it too."""
    return keras_internals.strategy_of(tf_variable(variable))


def new_variable(value, name, dtype="float32"):
    """A variable that no optimizer trains and no policy casts, equal in every replica."""
    shape = np.shape(value)
    return keras.Variable(
        lambda shape=shape, dtype=None: tf.cast(value, dtype),
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        name=name,
    )


class Group:
    """Some of the averaged weights, joined end to end, with one flat variable for each average.

    Joined, the hundreds of weights of a network need a few operations an update, not thousands.

    Attributes:
        positions: Places of the weights among the variables given to `EMA.build`.
        weights: Those variables.
        shapes: Their shapes.
        averages: One float32 variable of shape (sum of sizes,) for each average.
        windows: Of each average that is the mean of past weights, by its place in `averages`, a
            float32 variable of shape (slots, sum of sizes) of them; 0 where none were put so far.
    """

    def __init__(self, positions, weights):
        self.positions = tuple(positions)
        self.weights = list(weights)
        self.shapes = [tuple(v.shape) for v in weights]
        self.averages = []
        self.windows = {}

    def weights_now(self):
        """The weights as they are, float32 of shape (sum of sizes,)."""
        return join([tf_variable(v) for v in self.weights])

    def first_values(self):
        """What averages start from: the weights, zeros where they hold no values yet."""
        if all(map(holds_value, self.weights)):
            return self.weights_now()
        return tf.zeros([sum(map(math.prod, self.shapes))])

    def split(self, flat):
        """A flat array, shape (sum of sizes,), as position -> array in the shape of the weight."""
        parts = tf.split(flat, [math.prod(shape) for shape in self.shapes])
        shaped = [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return dict(zip(self.positions, shaped, strict=True))

    def copy(self, strategy, fresh):
        """Copies the weights, as they are now, into the averages that are `fresh`, in the graph.

        Args:
            strategy: The `tf.distribute.Strategy` of the variables, in cross-replica context.
            fresh: A boolean tensor with an entry for each of `averages`.
        """
        averages = [average.value for average in self.averages]
        weights = [tf_variable(v) for v in self.weights]
        strategy.extended.update(
            averages[0], _copy, args=(averages[1:], weights, fresh), group=False
        )

    def move(self, strategy, weights, rates):
        """Moves every average once towards the weights, in the graph.

        In each replica on its own copies, which stay equal without talking to each other.

        Args:
            strategy: The `tf.distribute.Strategy` of the variables, in cross-replica context.
            weights: What `weights_now` gave, in each replica.
            rates: 1 - beta of each average, float32 scalars in the order of `averages`.
        """
        averages = [average.value for average in self.averages]
        strategy.extended.update(
            averages[0], _lerp, args=(averages[1:], weights, rates), group=False
        )

    def take(self, strategy, index, weights, slot, filled):
        """Puts the weights into the window of an average, which becomes the mean of what is there.

        Args:
            strategy, weights: As of `move`.
            index: The place of the average in `averages`.
            slot: The row of its window, an integer tensor.
            filled: How many rows are in use then, a float32 tensor.
        """
        strategy.extended.update(
            self.windows[index].value,
            _put,
            args=(self.averages[index].value, weights, slot, filled),
            group=False,
        )

    def restart(self, index, positions, filled):
        """Makes an average start anew, at these positions, from the weights as they are now.

        Args:
            index: The place of the average in `averages`.
            positions: A set of positions.
            filled: How many rows of its window are in use.
        """
        now, average = self.weights_now(), self.averages[index]
        sizes = [math.prod(shape) for shape in self.shapes]
        every = positions.issuperset(self.positions)  # without a mask of their size, which costs
        anew = every or tf.repeat([i in positions for i in self.positions], sizes)
        average.assign(tf.where(anew, now, average.value))
        if index in self.windows:
            window = self.windows[index]
            window.assign(tf.where(anew, rows(now, filled, window.shape[0]), window.value))


def rows(flat, filled, slots):
    """A window whose first rows, those in use, hold the same weights: float32 (slots, size)."""
    in_use = tf.range(slots)[:, None] < filled
    return tf.where(in_use, flat, 0.0)


def join(values):
    """Arrays of any shape as one flat float32 tensor, end to end."""
    return tf.concat([tf.reshape(tf.cast(v, tf.float32), [-1]) for v in values], 0)


def can_be_averaged(flat):
    """Whether a flat array holds finite numbers only (see `LARGEST_SUM`), a boolean tensor.

    The sum of squares takes one pass without a copy. Where it is finite, the numbers are too, and
    far from the largest; where not, they may be, and are looked at.
    """
    small = tf.math.is_finite(tf.nn.l2_loss(flat))
    return tf.cond(small, lambda: small, lambda: tf.reduce_sum(tf.abs(flat)) <= LARGEST_SUM)


def _copy(first, others, weights, fresh):
    """average = weight for each average that is fresh, in place."""
    weights = join(weights)
    for i, average in enumerate((first, *others)):
        average.assign(tf.where(fresh[i], weights, average))


def _lerp(first, others, weights, rates):
    """average += rate * (weight - average) for each average, in place."""
    for average, rate in zip((first, *others), rates, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(
            var=average.handle, alpha=rate, delta=average - weights
        )


def _put(window, average, weights, slot, filled):
    """A row of the window becomes the weights, and the average the mean of the rows in use."""
    tf.raw_ops.ResourceScatterUpdate(resource=window.handle, indices=slot, updates=weights)
    average.assign(tf.reduce_sum(window.read_value(), axis=0) / filled)


def in_groups(positions, sources):
    """A list of `Group`s of about GROUP_SIZE numbers: the weights at these places in `sources`."""
    runs, size = [], GROUP_SIZE
    for i in positions:
        if size >= GROUP_SIZE:
            runs.append([])
            size = 0
        runs[-1].append(i)
        size += math.prod(sources[i].shape)
    return [Group(run, [sources[i] for i in run]) for run in runs]
