"""Memory maps that `fit` and `evaluate` are given: read batch by batch, as arrays are taken."""

import math

import numpy as np
import tensorflow as tf

from ..data.rows import is_mapped
from ..data.stream import reader
from ..keras_internals import ArrayDataAdapter


def stream_fit(given):
    """Puts data sets in place of the memory maps among arguments of `fit`.

    Their batches are those that Keras makes of arrays: the same images, in the same order.

    Args:
        given: dict of the arguments, with x, y and sample_weight; it is changed.
    """
    size = given.get("batch_size")
    if is_mapped(given["x"]):
        if given.get("validation_split") and given.get("validation_data") is None:
            _split(given)
        given |= _streamed(
            given,
            batch_size=size,
            steps=given.get("steps_per_epoch"),
            shuffle=given.get("shuffle", True),
            class_weight=given.get("class_weight"),
        )
        given |= {"class_weight": None, "shuffle": False}
    held_out = given.get("validation_data")
    if isinstance(held_out, tuple) and is_mapped(held_out[0]):
        given["validation_data"] = _streamed(
            dict(zip(("x", "y", "sample_weight"), held_out, strict=True)),
            batch_size=given.get("validation_batch_size") or size,
            steps=given.get("validation_steps"),
        )["x"]


def stream_evaluate(given):
    """The same for arguments of `evaluate`."""
    if is_mapped(given["x"]):
        given |= _streamed(given, batch_size=given.get("batch_size"), steps=given.get("steps"))


def _split(given):
    """Divides x, y and sample_weight as Keras does by validation_split."""
    at = math.floor(len(given["x"]) * (1 - given.pop("validation_split")))
    parts = [given[name] for name in ("x", "y", "sample_weight")]
    if not 0 < at < len(parts[0]):
        raise ValueError(
            f"validation_split leaves one part of {len(parts[0])} images empty: give another."
        )
    given["validation_data"] = tuple(part if part is None else part[at:] for part in parts)
    for name, part in zip(("x", "y", "sample_weight"), parts, strict=True):
        given[name] = part if part is None else part[:at]


def _streamed(given, **settings):
    """x, y and sample_weight as one data set: the row numbers that Keras takes, then images."""
    images, take = given["x"], reader(given["x"])
    numbers = np.arange(len(images))
    adapter = ArrayDataAdapter(numbers, given["y"], given["sample_weight"], **settings)
    batches = adapter.get_tf_dataset().map(
        lambda rows, *others: (take(rows), *others), num_parallel_calls=2, deterministic=True
    )
    known = tf.data.experimental.assert_cardinality(adapter.num_batches)
    return {"x": batches.apply(known).prefetch(2), "y": None, "sample_weight": None}
