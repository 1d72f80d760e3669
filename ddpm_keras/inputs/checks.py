"""What images, labels and weights of images may be: said once, for arrays and batches in a graph.

What can be told from dtype and shape is refused when a function is traced. What only the values
tell (their range, NaN) is refused by an assertion on the least and the greatest of each batch, from
the first batch to the last.
"""

import math
import re

import keras
import numpy as np
import tensorflow as tf

from ..scalars import number
from .arrays import (
    InputError,
    as_numpy,
    check_is_tensor,
    check_one_each,
    dtype_of,
    fits,
    shape_of,
    wrong_number,
)

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_COMMON_RANGES = ((0, 1), (-1, 1), (0, 255))  # the narrowest first
_TOLERANCE = 0.0005  # of the width of a range: rounding when images are scaled
_MARK = "ddpm_keras.inputs"
# By what a data set reads while a graph runs.
_RAISED = re.compile(r"(?:InputError|DamagedImages): (.*)")
_ASSERTED = re.compile(rf"\[{_MARK} (\w+)\] \[([^\]]*)\] \[([^\]]*)\]")

_DTYPE_CURES = {
    "uint16": "divide 16-bit images by 257 and cast them to uint8",
    "bool": "multiply by 255 and cast to uint8",
    "complex64": "take their absolute value, scaled to image_range, as float32",
    "complex128": "take their absolute value, scaled to image_range, as float32",
    "string": "decode the files first, for example by tf.io.decode_image",
    "object": "make one array of images of one size by np.stack",
}


class Inputs:
    """The images, labels and weights of images that a model takes.

    Args:
        image_shape: (height, width, channels), or None for images of any shape.
        image_range: (low, high) of float images; uint8 images always lie in 0..255.
        num_classes: of a conditional network, whose labels lie in 0..num_classes - 1; or None.
    """

    def __init__(self, image_shape=None, image_range=(-1, 1), num_classes=None):
        self.image_shape = image_shape and tuple(image_shape)
        self.image_range = check_image_range(image_range)
        self.num_classes = num_classes
        self.least = None  # the variable of `watch_least`

    # What dtype and shape tell. `images` and the others are arrays, tensors or their specs.

    def check_kinds(self, images, labels=None, weights=None):
        """Refuses what can be refused without looking at a value.

        Raises:
            InputError: in one line that names the cure.
        """
        self._check_images(images)
        count = shape_of(images)[0]
        if self.num_classes is not None:
            self._check_labels(labels, count)
        if weights is not None:
            check_is_tensor(weights, "sample_weight", "one number an image")
            if dtype_of(weights) not in (*_FLOATS, *_INTEGERS):
                raise InputError(
                    f"sample_weight must hold numbers, not {dtype_of(weights)}: cast it to float32."
                )
            check_one_each(weights, count, "sample_weight")

    def _check_images(self, images):
        check_is_tensor(images, "images", "one array (N, height, width, channels)")
        dtype, shape = dtype_of(images), shape_of(images)
        if dtype != "uint8" and dtype not in _FLOATS:
            whole = "cast them to uint8 if they lie in 0..255, and scale them to floats otherwise"
            cure = _DTYPE_CURES.get(dtype, whole if dtype in _INTEGERS else "cast them to float32")
            raise InputError(
                f"Images must be uint8 in 0..255 or floats in image_range, not {dtype}: {cure}."
            )
        if shape is None:
            raise InputError(
                "The data set does not say the rank of its images: say it, for example by "
                f"dataset.map(lambda x: tf.ensure_shape(x, {(None, *(self.image_shape or ()))}))."
            )
        if self.image_shape is not None and not fits(shape, (None, *self.image_shape)):
            raise InputError(self._wrong_shape(shape))
        if shape[0] == 0:
            raise InputError(
                f"There are no images in an array of shape {shape}: give at least one."
            )

    def _wrong_shape(self, shape):
        expected = self.image_shape
        line = (
            f"The network takes images of shape {expected}, but the batches hold {tuple(shape[1:])}"
        )
        if len(shape) == 3 and fits(shape, expected):
            return (
                f"These are single images of shape {expected}, not batches: batch them, for "
                "example by dataset.batch(64), or add an axis by images[None]."
            )
        if len(shape) == 3 and expected[-1] == 1 and fits(shape[1:], expected[:2]):
            return f"{line}: add the axis of the channels by images[..., None]."
        if len(shape) == 4 and fits(shape[1:], (expected[-1], *expected[:2])):
            return f"{line}: channels come last; move them by np.moveaxis(images, 1, -1)."
        return f"{line}: resize the images, or build the network for their shape."

    def _check_labels(self, labels, count):
        if labels is None:
            raise InputError(
                "A conditional network is trained on (images, labels): give one integer in "
                f"0..{self.num_classes - 1} an image."
            )
        check_is_tensor(labels, "labels", "one integer an image")
        shape = shape_of(labels)
        if shape is not None and len(shape) == 2 and shape[1] not in (None, 1):
            raise InputError(
                f"Labels must be integers, one an image, not one-hot vectors of shape {shape}: "
                "give np.argmax(labels, axis=-1)."
            )
        if dtype_of(labels) not in _INTEGERS:
            raise InputError(
                f"Labels must be integers in 0..{self.num_classes - 1}, not {dtype_of(labels)}: "
                "give the number of each image's class, cast to int32."
            )
        check_one_each(labels, count, "labels")

    def check_batch(self, batch, dtype):
        """A batch as (x,), (x, y) or (x, y, sample_weight), of NumPy arrays.

        Args:
            batch: what a generator or the like yields.
            dtype: of the images of the first batch: TensorFlow would cast others to it unasked.
        """
        images, labels, weights = unpacked(batch)
        self.check_kinds(images, labels, weights)
        if dtype_of(images) != dtype:
            raise InputError(
                f"Images of a batch are {dtype_of(images)}, those of the first one {dtype}: cast "
                "all to one dtype."
            )
        parts = (images, *self.labels_kept(images, labels, weights))
        return tuple(as_numpy(part) for part in parts if part is not None)

    def labels_kept(self, images, labels, weights):
        """(labels, weights) without labels that are ignored, but never weights alone.

        Keras takes weights that come without labels for labels, or forgets them.
        """
        if self.num_classes is None:
            labels = None if weights is None else np.zeros(len(images), np.int32)
        return labels, weights

    # What the values tell.

    def _bounded(self, images, labels, weights):
        """(what, values, least allowed, greatest allowed) of all that is bounded."""
        if dtype_of(images) != "uint8":
            low, high = self.image_range
            slack = _TOLERANCE * (high - low)
            yield "images", images, low - slack, high + slack
        if self.num_classes is not None:
            yield "labels", labels, 0, self.num_classes - 1
        if weights is not None:
            yield "weights", weights, 0, float(np.finfo(np.float32).max)

    def check_arrays(self, images, labels=None, weights=None):
        """Refuses whole arrays that a model cannot be given.

        Args:
            images: uint8, or float in `image_range`, (N, height, width, channels).
            labels: integers (N,) or (N, 1) in 0..num_classes - 1; ignored without classes.
            weights: numbers (N,) or (N, 1), finite and at least 0, or None.

        Raises:
            InputError: in one line that names the cure.
        """
        self.check_kinds(images, labels, weights)
        for what, values, low, high in self._bounded(images, labels, weights):
            values, number = as_numpy(values), _number(what)
            with np.errstate(invalid="ignore"):  # NaN is refused below
                least, greatest = number(values.min()), number(values.max())
            if not (low <= least and greatest <= high):
                raise InputError(self._explain(what, least, greatest))

    def check_labels(self, labels, count, none_allowed=False):
        """Labels of a conditional network as int32 (count,).

        Args:
            labels: integers (count,) or (count, 1), an array or a list.
            count: the number of images.
            none_allowed: whether num_classes itself, which means no label, is one.

        Raises:
            InputError: in one line that names the cure.
        """
        labels = as_numpy(labels)
        self._check_labels(labels, count)
        low, high = int(labels.min()), int(labels.max())
        if not 0 <= low <= high < self.num_classes + none_allowed:
            raise InputError(self._wrong_labels(low, high, none_allowed))
        return labels.astype(np.int32).reshape(-1)

    def assertions(self, images, labels=None, weights=None):
        """The checks of one batch, as operations in a graph that fail before what waits for them.

        XLA drops assertions, so they belong outside of what it compiles. `refusal` makes a line of
        the error that they end in.

        Returns:
            A list of operations (None where executed at once).
        """
        self.check_kinds(images, labels, weights)
        images = tf.convert_to_tensor(images)
        asserted = []
        if self.image_shape is not None and None in images.shape[1:]:
            size = tf.shape(images)[1:]
            fits = tf.reduce_all(size == self.image_shape)
            asserted.append(_assert("shape", fits, size, self.image_shape))
        for what, values in (("labels", labels), ("sample_weight", weights)):
            if values is not None and (what != "labels" or self.num_classes is not None):
                found, count = tf.size(values), tf.shape(images)[0]
                asserted.append(_assert(f"number_of_{what}", found == count, found, count))
        for what, values, low, high in self._bounded(images, labels, weights):
            kind = tf.int64 if what == "labels" else tf.float32
            values = tf.cast(values, kind)
            least, greatest = tf.reduce_min(values), tf.reduce_max(values)
            inside = (least >= tf.constant(low, kind)) & (greatest <= tf.constant(high, kind))
            asserted.append(_assert(what, inside, least, greatest))
            if what == "images" and self.least is not None:
                self.least.assign(tf.minimum(self.least, least))
        return asserted

    def has_images(self, images):
        """The check that a batch of unknown size is not empty, an operation as of `assertions`."""
        found = tf.shape(images)[0]
        return _assert("count", found > 0, found, 1)

    def watch_least(self):
        """From here on, `least` holds the least value of all float images that were asserted."""
        if self.least is None:
            with tf.init_scope(), tf.device("CPU:0"):
                self.least = tf.Variable(math.inf, trainable=False, name="least_of_images")
        self.least.assign(math.inf)

    def refusal(self, error):
        """The line that says what was wrong with a batch, or None if the error is another.

        Args:
            error: the `tf.errors.OpError` that a function ended in.
        """
        raised, found = (pattern.search(str(error)) for pattern in (_RAISED, _ASSERTED))
        if found is None:
            return raised and raised.group(1)
        what, one, other = found.groups()
        if what == "count":
            return (
                "A batch holds no images: give at least one, and leave empty batches out, for "
                "example by dataset.filter(lambda x: tf.shape(x)[0] > 0)."
            )
        if what == "shape":
            return self._wrong_shape((None, *map(int, one.split())))
        if what.startswith("number_of_"):
            return wrong_number(what.removeprefix("number_of_"), one, other)
        number = _number(what)
        return self._explain(what, number(one), number(other))

    def _explain(self, what, least, greatest):
        if what == "labels":
            return self._wrong_labels(least, greatest)
        if what == "weights":
            return (
                f"sample_weight must be finite and at least 0, not {least:g}..{greatest:g}: "
                "give 0 to the images that shall not count."
            )
        return self._wrong_range(least, greatest)

    def _wrong_range(self, least, greatest):
        low, high = self.image_range
        line = (
            f"Float images must lie in image_range=({low:g}, {high:g}), not {least:g}..{greatest:g}"
        )
        if not (math.isfinite(least) and math.isfinite(greatest)):
            return f"{line}: remove or repair the images that hold NaN or infinite values."
        for a, b in _COMMON_RANGES:
            if a <= least and greatest <= b:
                scale = ", or scale them by x / 127.5 - 1" if (low, high, b) == (-1, 1, 255) else ""
                return f"{line}: give uint8 images or DDPM(..., image_range=({a}, {b})){scale}."
        return f"{line}: scale or clip the images, or give DDPM(..., image_range=(low, high))."

    def _wrong_labels(self, least, greatest, none_allowed=False):
        allowed = f"0..{self.num_classes - 1}"
        if none_allowed:
            allowed = f"0..{self.num_classes} ({self.num_classes} means none)"
        line = f"Labels must be integers in {allowed}, not {least}..{greatest}"
        if least == 1 and greatest == self.num_classes:
            return f"{line}: subtract 1."
        if least < 0:
            return f"{line}: leave out the images that have no class."
        return f"{line}: number the classes from 0, or build the network with more num_classes."

    # What becomes of them.

    def unpack(self, data):
        """(images, labels, weights) of a batch with their kinds checked.

        Returns:
            images as given, with the shape of the network's; labels int32 (batch,) or None; weights
            float32 (batch,) or None.
        """
        images, labels, weights = unpacked(data)
        self.check_kinds(images, labels, weights)
        images = tf.ensure_shape(images, (None, *self.image_shape))
        if self.num_classes is None:
            labels = None
        else:
            labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
        if weights is not None:
            weights = tf.reshape(tf.cast(weights, tf.float32), [-1])
        return images, labels, weights

    def scaled(self, images):
        """Images as float32 in [-1, 1]: uint8 from 0..255, floats from `image_range`."""
        low, high = (0, 255) if dtype_of(images) == "uint8" else self.image_range
        images = tf.cast(images, tf.float32)
        if (low, high) == (-1, 1):
            return images
        half = (high - low) / 2
        return images / half - (low + half) / half


def check_image_range(image_range):
    """(low, high) as floats.

    Raises:
        ValueError: they are not two finite numbers, the lower one first.
    """
    try:
        low, high = (number(bound, "image_range") for bound in image_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low < high and math.isfinite(high - low)):
        raise InputError(
            "image_range must be (low, high) of float images, such as (-1, 1), (0, 1) or (0, 255), "
            f"not {image_range!r}."
        )
    return low, high


def unpacked(data):
    """(images, labels, weights) of a batch, None for what it does not hold."""
    if isinstance(data, (tuple, list)) and not 1 <= len(data) <= 3:
        raise InputError(
            f"A batch must be x, (x,), (x, y) or (x, y, sample_weight), not {len(data)} parts: "
            "give the images as one array."
        )
    return keras.utils.unpack_x_y_sample_weight(data)


def _number(what):
    return int if what == "labels" else float


def _assert(what, condition, one, other):
    return tf.raw_ops.Assert(
        condition=condition, data=[tf.constant(f"{_MARK} {what}"), one, other], summarize=8
    )
