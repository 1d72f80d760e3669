"""A Keras model that trains a network and keeps moving averages of its weights."""

import logging

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from keras.src.losses.loss import unscale_loss_for_distribution

from .. import names
from ..files import atomic_path
from .averages import EMA
from .groups import tf_variable
from .weight_sets import WeightSet

logger = logging.getLogger("ddpm_keras")


class _RunLengthCheck(keras.callbacks.Callback):
    """Says at the start of `fit` (at its end if its length is unknown) what it is too short for."""

    def on_train_begin(self, logs=None):
        steps = self.params.get("steps")
        self._known = steps is not None
        if self._known:
            self._warn(self.model.ema.num_updates + steps * self.params["epochs"])

    def on_train_end(self, logs=None):
        if not self._known:
            self._warn(self.model.ema.num_updates)

    def _warn(self, steps):
        for line in self.model.ema.warnings(steps):
            logger.warning(line)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMAModel(keras.Model):
    """Trains a network and keeps moving averages of its weights.

    It is compiled, fitted, saved and loaded like any `keras.Model`, with the loss and metrics of
    the network's own task. `fit` trains the raw weights; `evaluate` (so also validation in `fit`)
    and `predict` use the weight set `evaluation_weights`, "ema" unless set otherwise, and leave the
    training state alone; calling the model itself uses the raw weights.

    Args:
        network: Any Keras model: functional, Sequential or subclassed.
        ema: An `EMA`, a float, a sequence or dict of decays, or None for no average.
        accumulation_steps: Split each batch into this many micro-batches, one after the other, and
            make one optimizer step with their mean gradient. It equals the big batch, at a
            fraction of its memory, for losses that are means over the batch (BatchNormalization
            still sees micro-batches).

    Example:

    ```python
    model = EMAModel(network, ema=(0.99, 0.999))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3)
    model.evaluate(x, y)                            # with ema_0.999, the last average
    model.export_network("ema_0.99", "network.keras")
    ```
    """

    def __init__(self, network, ema=None, accumulation_steps=1, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.ema = EMA.get(ema)
        self.accumulation_steps = int(accumulation_steps)
        if self.accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1; got {accumulation_steps}.")
        self._evaluation_weights = "ema"
        self.train_counter = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="train_counter",
        )
        if network.built:
            self.built = True
            self._prepare_averages()

    # A Keras model.

    def build(self, input_shape=None):
        if not self.network.built:
            self.network.build_from_config({"input_shape": input_shape})
        self.built = True

    def call(self, inputs, training=None, **kwargs):
        return self.network(inputs, training=training, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        return self.network.compute_output_shape(*args, **kwargs)

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        if not self.network.built:
            self._build_network(x)
        if self.ema is not None and not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*_as_list(callbacks), _RunLengthCheck()]
        return super().fit(x, *args, callbacks=callbacks, **kwargs)

    def _build_network(self, x):
        """Builds the network on the first rows: averages copy weights before the step is traced."""
        if isinstance(x, tf.data.Dataset):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(next(iter(x)))
        elif isinstance(x, (np.ndarray, tf.Tensor, list, tuple, dict)):
            x = tf.nest.map_structure(lambda array: array[:1], x)
        else:
            return
        with self.distribute_strategy.scope():
            self(x)

    def get_config(self):
        config = super().get_config()
        config.update(
            network=keras.saving.serialize_keras_object(self.network),
            ema=keras.saving.serialize_keras_object(self.ema) if self.ema is not None else None,
            accumulation_steps=self.accumulation_steps,
        )
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in ("network", "ema"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(
                    config[key], custom_objects=custom_objects
                )
        return cls(**config)

    def load_own_variables(self, store):
        self._prepare_averages()
        super().load_own_variables(store)

    # Weight sets.

    @property
    def weight_sets(self):
        """The names of all weight sets: "raw", then "ema_<name>" for each average."""
        averages = self.ema.names if self.ema is not None else ()
        return (names.RAW, *map(names.average, averages))

    def resolve(self, weights):
        """The full name of a weight set: "ema" is the last average, or "raw" if there is none."""
        if isinstance(weights, WeightSet):
            return weights.name
        if weights == names.LAST:
            return self.weight_sets[-1]
        if weights not in self.weight_sets:
            raise ValueError(
                f"There is no weight set {weights!r}: choose one of {', '.join(self.weight_sets)}."
            )
        return weights

    def weight_values(self, weights="ema"):
        """The values of a weight set, one tensor or variable per entry of `network.weights`.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`.
        """
        if isinstance(weights, WeightSet):
            return self._checked_values(weights)
        name = self.resolve(weights)
        if name == names.RAW:
            return list(self.network.weights)
        self._prepare_averages()
        return self.ema.variables(names.average_of(name))

    def _checked_values(self, weights):
        given = [tuple(np.shape(value)) for value in weights.values]
        expected = [tuple(variable.shape) for variable in self.network.weights]
        if given != expected:
            raise ValueError(
                f"The weight set {weights.name!r} has shapes {given}, the network {expected}: "
                "it belongs to another network."
            )
        return list(weights.values)

    def weight_scope(self, weights):
        """A `keras.StatelessScope` in which the network computes with these values.

        Args:
            weights: A name, a `WeightSet`, or a list of values aligned with `network.weights`.
        """
        values = weights
        if isinstance(weights, (str, WeightSet)):
            values = self.weight_values(weights)
        pairs = zip(self.network.weights, values, strict=True)
        return keras.StatelessScope([(v, tf_variable(x)) for v, x in pairs])

    def export_network(self, weights="ema", path=None):
        """A fresh network that holds a weight set.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`.
            path: Also save the network here (a name ending in ".keras").

        Returns:
            The network, built from the config of `self.network`.
        """
        values = self.weight_values(weights)
        network = type(self.network).from_config(self.network.get_config())
        if not network.built:
            network.build_from_config(self.network.get_build_config())
        for variable, value in zip(network.weights, values, strict=True):
            variable.assign(tf.cast(tf_variable(value), variable.dtype))
        if path is not None:
            path = str(path)
            if not path.endswith(".keras"):
                raise ValueError(f"A network is saved as a .keras file; got {path!r}.")
            with atomic_path(path) as temporary:
                network.save(temporary)
        return network

    def _prepare_averages(self):
        """Makes the averages fit the network: built, thawed weights included."""
        if self.ema is None or not self.network.weights:
            return
        self.ema.build(self.network.weights)
        if tf.executing_eagerly():
            self.ema._settle()

    def load_weights(self, filepath, **kwargs):
        super().load_weights(filepath, **kwargs)
        self._prepare_averages()  # averages that start anew do so from the loaded weights

    # Training.

    def make_train_function(self, force=False):
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if optimizer.use_ema:
            raise ValueError(
                "An optimizer with use_ema=True overwrites the raw weights when fit() ends: "
                f"drop it and give the model ema={optimizer.ema_momentum} instead."
            )
        if not self.network.weights:
            raise ValueError(
                "The network has no weights to average yet: call it on a batch before training."
            )
        self._prepare_averages()
        if not _of_several_workers(self.distribute_strategy):
            return super().make_train_function(force)
        if self.steps_per_execution > 1:
            raise ValueError(
                "Several workers take one step at a time: leave out "
                f"steps_per_execution={self.steps_per_execution}."
            )
        self.train_function = self._step_of_workers()
        return self.train_function

    # Under MultiWorkerMirroredStrategy `fit` of Keras 3.15 fails in two places, replaced here: it
    # gives the batch of all workers to an eager call, and takes the mean of scalars over an axis.

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = self.distribute_strategy
        if not _of_several_workers(strategy):
            return super()._maybe_symbolic_build(iterator, data_batch)
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = _of_first_replica(strategy, next(batches))
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def _step_of_workers(self):
        strategy = self.distribute_strategy

        def step_of_all(data):
            return _of_first_replica(strategy, strategy.run(self.train_step, args=(data,)))

        step = tf.function(self._asserted(step_of_all), reduce_retracing=True)
        return lambda iterator: step(next(iterator))  # metrics are the same in every replica

    def _asserted(self, step):
        """A function of a batch of all replicas, made to fail before a batch that is wrong."""
        return step  # any batch may be right: a subclass knows

    def train_step(self, data):
        loss, y_pred, gradients = self._gradients(self._loss_of_batch, data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._loss_tracker.update_state(
            unscale_loss_for_distribution(loss), sample_weight=_batch_size(x)
        )
        self._apply_step(gradients)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _loss_of_batch(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=True)
        loss = self._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
        )
        return loss, y_pred

    def _gradients(self, loss_of_batch, data):
        """Loss, outputs and gradients of a batch, in `accumulation_steps` micro-batches.

        Args:
            loss_of_batch: data -> (loss, outputs); the loss a mean over the batch, outputs a
                structure of tensors with the batch as first axis.
            data: A structure of tensors with the batch as first axis; None is allowed.

        Returns:
            (loss, outputs, gradients) as if the whole batch had been used at once. The gradients
            belong to `self.trainable_variables` and are scaled by the optimizer's loss scale.
        """
        if self.accumulation_steps == 1:
            return self._gradients_of(loss_of_batch, data)
        batch_size = _batch_size(data)
        loss, gradients, outputs = 0.0, None, []
        for k in range(self.accumulation_steps):
            start = k * batch_size // self.accumulation_steps
            end = (k + 1) * batch_size // self.accumulation_steps
            # One after the other, or the micro-batches would be in memory together. An empty one
            # (in a last batch smaller than accumulation_steps) borrows a row and counts zero.
            done = [loss] if k == 0 else [g for g in gradients if g is not None]
            with tf.control_dependencies([tf.convert_to_tensor(tensor) for tensor in done]):
                start = tf.identity(start)
            micro = _rows(data, start, tf.maximum(end, start + 1))
            micro_loss, micro_outputs, micro_gradients = self._gradients_of(loss_of_batch, micro)
            share = tf.cast(end - start, tf.float32) / tf.cast(batch_size, tf.float32)
            loss += tf.cast(micro_loss, tf.float32) * share
            outputs.append(_rows(micro_outputs, 0, end - start))
            gradients = _add_scaled(gradients, micro_gradients, share)
        outputs = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *outputs)
        return loss, outputs, gradients

    def _gradients_of(self, loss_of_batch, data):
        with tf.GradientTape() as tape:
            loss, outputs = loss_of_batch(data)
            scaled = self.optimizer.scale_loss(loss)
        return loss, outputs, tape.gradient(scaled, self.trainable_variables)

    def _apply_step(self, gradients):
        """One call of the optimizer, then one move of the averages if it made a true step.

        Args:
            gradients: Aligned with `self.trainable_variables`.

        Returns:
            A boolean tensor: False if the optimizer skipped the step (non-finite gradients) or only
            accumulated. `iterations` of a wrapper is that of its inner optimizer, so it tells.
        """
        before = tf.identity(self.optimizer.iterations)
        self.optimizer.apply(gradients, self.trainable_variables)
        stepped = tf.convert_to_tensor(self.optimizer.iterations) > before
        if self.ema is not None:
            self.ema.update(self.network.weights, stepped)
        self.train_counter.assign_add(1)
        return stepped

    # Evaluation with a weight set.

    @property
    def evaluation_weights(self):
        """The weight set that `evaluate` and `predict` use; assign a name to change it."""
        return self._evaluation_weights

    @evaluation_weights.setter
    def evaluation_weights(self, weights):
        self.resolve(weights)
        self._evaluation_weights = weights
        self.test_function = self.predict_function = None  # they were traced for the former one

    def make_test_function(self, force=False):
        self._prepare_averages()
        return super().make_test_function(force)

    def make_predict_function(self, force=False):
        self._prepare_averages()
        return super().make_predict_function(force)

    def test_step(self, data):
        return self._with_metrics_kept(lambda: super(EMAModel, self).test_step(data))

    def _with_metrics_kept(self, step):
        """Runs a step on the evaluation weights; of all it assigns, only metrics are kept."""
        with self.weight_scope(self._evaluation_weights) as scope:
            result = step()
        for variable in self.metrics_variables:
            value = scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)
        return result

    def predict_step(self, data):
        with self.weight_scope(self._evaluation_weights):
            return super().predict_step(data)


def _of_several_workers(strategy):
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and strategy.extended._in_multi_worker_mode()


def _of_first_replica(strategy, values):
    def local(value):
        return strategy.experimental_local_results(value)[0]

    return tree.map_structure(local, values)


def _as_list(callbacks):
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _batch_size(data):
    return tf.shape(next(leaf for leaf in tf.nest.flatten(data) if leaf is not None))[0]


def _rows(data, start, end):
    return tf.nest.map_structure(lambda leaf: None if leaf is None else leaf[start:end], data)


def _add_scaled(totals, gradients, share):
    """totals + share * gradients, None where a variable has no gradient."""
    scaled = [
        None if g is None else tf.convert_to_tensor(g) * tf.cast(share, g.dtype) for g in gradients
    ]
    if totals is None:
        return scaled
    pairs = zip(totals, scaled, strict=True)
    return [s if t is None else t if s is None else t + s for t, s in pairs]
