"""A Keras model trained on images alone, with every door checked through which they come."""

# pyright: reportAttributeAccessIssue=false
# (a cached property of a Keras model is taken for the descriptor itself)

import collections.abc
import contextlib
import functools
import logging
import math
from typing import Any

import keras
import tensorflow as tf
from keras import tree
from numpy.typing import ArrayLike

from ..ema import EMAModel
from ..ema.arguments import by_name
from ..errors import UsageError
from ..networks.graphs import graphs_as_traced
from ..networks.unet import check_channels_last
from ..scalars import number, whole
from . import containers, mapped
from .arrays import as_numpy
from .checks import Inputs, check_image_range, unpacked

# A step that is inlined begins before what it shall wait for is done.
_NOT_INLINED = {"_noinline": True}
_PARTS = ("x", "y", "sample_weight")

# Arguments of `fit` and `evaluate` that Keras takes below these, and makes nothing of.
_LEAST = {"batch_size": 1, "validation_batch_size": 1, "epochs": 0, "initial_epoch": 0}
_LEAST |= {"steps_per_epoch": 1, "steps": 1, "validation_steps": 1}
_OF_VALIDATION = ("validation_batch_size", "validation_steps")

logger = logging.getLogger("ddpm_keras")


class ImageModel(EMAModel):
    """An `EMAModel` that is trained on images with a loss of its own.

    What `fit`, `evaluate`, `train_on_batch` and `test_on_batch` are given is refused in one line,
    a `ValueError`, if it is not images (and labels) that the network takes: as far as possible
    before anything is made, otherwise before the step on the batch that is wrong.

    A subclass has `image_shape` and `num_classes`.

    Args:
        network, ema, accumulation_steps: as of `EMAModel`.
        image_range: (low, high) of float images.
    """

    _made_with = (*EMAModel._made_with, "image_range")

    def __init__(self, network, ema=None, accumulation_steps=1, image_range=(-1, 1), **kwargs):
        check_channels_last()
        super().__init__(network, ema=ema, accumulation_steps=accumulation_steps, **kwargs)
        self.image_range = check_image_range(image_range)

    def get_config(self):
        return super().get_config() | {"image_range": list(self.image_range)}

    @functools.cached_property
    def inputs_taken(self) -> Inputs:
        """The `Inputs` that say what images, labels and weights this model takes."""
        return Inputs(self.image_shape, self.image_range, self.num_classes)

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, *args, **kw):
        """Compiles for training.

        Args:
            optimizer: a Keras optimizer or its name.
            loss, loss_weights, metrics, weighted_metrics: must be left out: the loss is the model's
                own, and nothing is predicted that a metric could compare.
            *args, **kw: further arguments of `keras.Model.compile`.

        Raises:
            ValueError: a loss or metrics are given.
        """
        given = {"loss": loss, "loss_weights": loss_weights, "metrics": metrics}
        given["weighted_metrics"] = args[0] if args else kw.get("weighted_metrics")
        for name, value in given.items():
            if value is not None and value != []:
                raise ValueError(
                    f"{type(self).__name__} trains on a loss of its own: leave out {name} of "
                    "compile. Its weighting is an argument of the model, and callbacks measure."
                )
        super().compile(optimizer, None, None, None, *args, **kw)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _build_network(self, x):
        """Builds a network that has not been called yet, on blank images of the model's shape."""
        labels = [] if self.num_classes is None else [tf.zeros(1, tf.int32)]
        with self.distribute_strategy.scope():
            self.network([tf.zeros((1, *self.image_shape)), tf.zeros(1, tf.int32), *labels])
        self.built = True

    # The doors.

    def fit(self, *args, **kwargs):
        """Trains on images; the arguments are those of `keras.Model.fit`.

        Raises:
            ValueError: what is given is not images (and labels) that this model takes.
        """
        given = by_name(keras.Model.fit, self, args, kwargs)
        _check_numbers(given)
        containers.refuse_batch_size(given.get("x"), given.get("batch_size"))
        self._prepare(given)
        if given.get("class_weight") is not None:
            given["x"], given["class_weight"] = containers.class_weights(
                self.inputs_taken, given["x"], given["class_weight"]
            )
        if given.get("validation_data") is not None:
            data = dict(zip(_PARTS, unpacked(given["validation_data"]), strict=True))
            size = given.get("validation_batch_size")
            containers.refuse_batch_size(data["x"], size, "validation_batch_size")
            self._prepare(data)
            given["validation_data"] = tuple(data.values())
        mapped.stream_fit(given)
        with self._one_line(), graphs_as_traced(self.network):
            return super().fit(**given)

    def _own_callbacks(self):
        return [*super()._own_callbacks(), _NarrowRange()]

    def evaluate(self, *args, **kwargs):
        """The loss of images; the arguments are those of `keras.Model.evaluate`.

        Raises:
            ValueError: what is given is not images (and labels) that this model takes.
        """
        given = by_name(keras.Model.evaluate, self, args, kwargs)
        _check_numbers(given)
        if not self.is_validation_of_fit(given):  # then `fit` has prepared it
            containers.refuse_batch_size(given.get("x"), given.get("batch_size"))
            self._prepare(given)
            mapped.stream_evaluate(given)
        with self._one_line():
            return super().evaluate(**given)

    def evaluation_arrays(self, images: ArrayLike, labels: ArrayLike | None = None) -> Any:
        """(images, labels) as checked arrays; labels int32 (N,), or None for a network without.

        Raises:
            ValueError: they are not what the model is trained on.
        """
        if self.num_classes is None and labels is not None:
            raise ValueError("labels need a network with num_classes: leave them out.")
        images, labels, _ = containers.arrays(self.inputs_taken, images, labels)
        if labels is not None:
            labels = self.inputs_taken.check_labels(labels, len(images))
        return as_numpy(images), labels

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the network predicts for `x` = [noisy images, t], with `evaluation_weights`.

        Raises:
            ValueError: x is images alone.
        """
        if _lacks_timesteps(x):
            raise ValueError(
                "predict takes [noisy images, timesteps] and gives what the network predicts: draw "
                "images by sample, and measure the loss of images by evaluate."
            )
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        given = by_name(keras.Model.train_on_batch, self, args, kwargs)
        self._prepare_arrays(given)
        if given.get("class_weight") is not None:
            _, given["class_weight"] = containers.class_weights(
                self.inputs_taken, None, given["class_weight"]
            )
        with self._one_line():
            return super().train_on_batch(**given)

    def test_on_batch(self, *args, **kwargs):
        given = by_name(keras.Model.test_on_batch, self, args, kwargs)
        self._prepare_arrays(given)
        with self._one_line():
            return super().test_on_batch(**given)

    def _prepare(self, given, prepare=containers.prepare):
        """Checks x, y and sample_weight of a dict of arguments, and makes them what Keras takes."""
        prepared = prepare(self.inputs_taken, *(given.get(name) for name in _PARTS))
        given.update(zip(_PARTS, prepared, strict=True))

    def _prepare_arrays(self, given):
        self._prepare(given, containers.arrays)

    @contextlib.contextmanager
    def _one_line(self):
        """Turns the failed assertion of a batch into a `ValueError` of one line."""
        try:
            yield
        except tf.errors.OpError as error:
            line = self.inputs_taken.refusal(error)
            if line is None:
                raise
        else:
            return
        raise UsageError(line)

    def _unpacked(self, data):
        """(images, labels, weights) of a batch, and how many images it has.

        A replica may get none of a last batch. It has a blank image then, since what a network
        makes of none is not to be relied on.
        """
        parts = self.inputs_taken.unpack(data)
        count = tf.shape(parts[0])[0]
        if self.distribute_strategy.num_replicas_in_sync > 1:
            parts = [part if part is None else _with_blank(part, count) for part in parts]
        return *parts, count

    # The checks of each batch.

    def checked(self, step):
        strategy = self.distribute_strategy
        whole = tf.function(step, experimental_attributes=_NOT_INLINED, autograph=False)

        def asserted_step(data):
            waits = []
            for replica in _of_each_replica(strategy, data):
                waits += self.inputs_taken.assertions(*unpacked(replica))
            if strategy.num_replicas_in_sync == 1:  # of several, some get none of a last batch
                waits.append(self.inputs_taken.has_images(unpacked(data)[0]))
            if tf.executing_eagerly():
                return step(data)
            return whole(_delayed(data, waits))

        return asserted_step


class _NarrowRange(keras.callbacks.Callback):
    """Warns if the float images of the first batch use only the upper half of [-1, 1]."""

    def on_train_begin(self, logs=None):
        self._looking = self.model.image_range == (-1, 1)
        if self._looking:
            self.model.inputs_taken.watch_least()

    def on_train_batch_end(self, batch, logs=None):
        if self._looking and 0 <= float(self.model.inputs_taken.least) < math.inf:
            logger.warning(
                "All float images of the first batch lie in [0, 1], half of image_range=(-1, 1): "
                "if that is their whole range, give DDPM(..., image_range=(0, 1))."
            )
        self._looking = False


def _lacks_timesteps(x):
    """Whether what `predict` is given is one array, or batches of one."""
    if isinstance(x, tf.data.Dataset):
        x = unpacked(x.element_spec)[0]
    return len(x) < 2 if isinstance(x, (list, tuple)) else hasattr(x, "shape")


def _with_blank(rows, count):
    """Rows, and one of zeros where there are none."""
    return tf.pad(rows, [[0, tf.cast(count == 0, tf.int32)], *[[0, 0]] * (rows.shape.rank - 1)])


def _of_each_replica(strategy, data):
    """The batch of each replica of this process, of what an iterator of a strategy gives."""
    local = [strategy.experimental_local_results(leaf) for leaf in tree.flatten(data)]
    count = max(len(parts) for parts in local)
    return [
        tree.pack_sequence_as(data, [parts[i % len(parts)] for parts in local])
        for i in range(count)
    ]


def _delayed(data, waits):
    """A batch that is there only when some operations of the graph are done.

    The batch has to wait, not the function that it is given to: a call inside of
    `tf.control_dependencies` leaves the waiting to its inputs where one of them is new, and those
    that stand for variables do not wait.
    """

    def delayed(leaf):
        if leaf is None:
            return None
        with tf.device(leaf.device or None), tf.control_dependencies(waits):
            return tf.identity(leaf)

    return tf.nest.map_structure(delayed, data, expand_composites=True)


def _check_numbers(given):
    """Refuses numbers of images, epochs and shares that Keras would take and make nothing of."""
    for name, least in _LEAST.items():
        if given.get(name) is not None:
            whole(given[name], name, least)
    if not isinstance(given.get("validation_freq", 1), collections.abc.Container):  # of epochs
        whole(given.get("validation_freq", 1), "validation_freq", 1)
    split, held_out = given.get("validation_split"), given.get("validation_data")
    if split and held_out is not None:
        raise ValueError("validation_split and validation_data are given: leave out one of them.")
    for name in _OF_VALIDATION:
        if given.get(name) is not None and not split and held_out is None:
            raise ValueError(f"{name} means nothing without validation_data: leave it out.")
    if not 0 <= number(given.get("validation_split", 0.0) or 0.0, "validation_split") < 1:
        raise ValueError(
            f"validation_split must be at least 0 and below 1; got {given['validation_split']}."
        )
