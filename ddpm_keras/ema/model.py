"""A Keras model that trains a network and keeps moving averages of its weights."""

import keras
import numpy as np
import tensorflow as tf

from .. import names
from ..files import atomic_path
from ..keras_internals import Trainer, print_message, unscale_loss_for_distribution
from ..scalars import count
from .arguments import by_name
from .averages import EMA
from .groups import like, tf_variable
from .steps import (
    FirstLost,
    MovingStatistics,
    SayLostSteps,
    SayShortRuns,
    apply_if_finite,
    global_norm,
    in_every_replica,
    innermost,
    scales_loss,
)
from .weight_sets import WeightSet, check_finite


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMAModel(Trainer):
    """Trains a network and keeps moving averages of its weights.

    It is compiled, fitted, saved and loaded like any `keras.Model`, with the loss and metrics of
    the network's own task. `fit` trains the raw weights; `evaluate` (so also validation in `fit`),
    `predict` and `export_network` use the weight set `evaluation_weights`, and leave the training
    state alone; calling the model itself uses the raw weights.

    A step whose gradients are not finite is not made: weights, optimizer and averages stay as they
    are, and `fit` says so once. A weight set that is not finite all the same (a learning rate can
    be so large that a step overflows) is not evaluated, exported, saved or trained on.

    Args:
        network: Any Keras model: functional, Sequential or subclassed, that does not override how
            `keras.Model` trains (`train_step`, `compute_loss` and the like): for such a model there
            is `EMA` itself.
        ema: An `EMA`, a float, a sequence or dict of decays, or None for no average.
        accumulation_steps: Split each batch into this many micro-batches, one after the other, and
            make one optimizer step with their mean gradient. It equals the big batch, at a
            fraction of its memory, for losses that are means over the batch (BatchNormalization
            still sees micro-batches).
        evaluation_weights: The weight set to evaluate, predict and export with: a name of
            `weight_sets`, or "ema", the last average ("raw" if there is none).

    Attributes:
        train_counter: Batches trained on, an int64 variable: the position in the data.
        idle_counter: Those of them that made no step, an int64 variable, as their gradients were
            only accumulated in the optimizer or not finite.

    Raises:
        ValueError: An argument is not what it should be, or the network trains itself.

    Example:

    ```python
    model = EMAModel(network, ema=(0.99, 0.999))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3)
    model.evaluate(x, y)                            # with ema_0.999, the last average
    model.export_network("ema_0.99", "network.keras")
    ```
    """

    def __init__(self, network, ema=None, accumulation_steps=1, evaluation_weights="ema", **kwargs):
        super().__init__(**kwargs)
        _check_trains_as_usual(network, type(self).__name__)
        self.network = network
        self.ema = EMA.get(ema)
        self.accumulation_steps = count(accumulation_steps, "accumulation_steps")
        self.train_counter = self._add_counter("train_counter")
        self.idle_counter = self._add_counter("idle_counter")
        self.first_lost = FirstLost()
        self.evaluation_weights = evaluation_weights
        if network.built:
            self.built = True
            self._prepare_averages()

    def _add_counter(self, name):
        return self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    # A Keras model.

    def build(self, input_shape=None):
        if not self.network.built:
            self.network.build_from_config({"input_shape": input_shape})
        self.built = True

    def call(self, inputs, training=None, **kwargs):
        return self.network(inputs, training=training, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        return self.network.compute_output_shape(*args, **kwargs)

    def fit(self, *args, **kwargs):
        given = by_name(keras.Model.fit, self, args, kwargs)
        if not self.network.built:
            self._build_network(given.get("x"))
        self.check_finite()
        callbacks = given.get("callbacks")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            given["callbacks"] = [*_as_list(callbacks), *self._own_callbacks()]
        if given.get("validation_data") is not None or given.get("validation_split"):
            self._say_weights("Validation", given)
        return super().fit(**given)

    def _own_callbacks(self):
        """Callbacks of every `fit`, after those that are given."""
        return [SayLostSteps(), *([SayShortRuns()] if self.ema is not None else [])]

    def evaluate(self, *args, **kwargs):
        """The loss and metrics of `evaluation_weights`; the arguments are those of Keras."""
        given = by_name(keras.Model.evaluate, self, args, kwargs)
        if not self.is_validation_of_fit(given):  # or `fit` has said it
            self._say_weights("Evaluation", given)
        return super().evaluate(**given)

    def predict(self, *args, **kwargs):
        """Outputs of the network with `evaluation_weights`; the arguments are those of Keras."""
        given = by_name(keras.Model.predict, self, args, kwargs)
        self._say_weights("Prediction", given)
        return super().predict(**given)

    def _say_weights(self, what, given):
        """Says which weights are used where there is a choice, if Keras would show progress too."""
        if given.get("verbose", "auto") and len(self.weight_sets) > 1:
            name = self.resolve(self._evaluation_weights)
            print_message(f"{what} with {name}, as evaluation_weights of the model says.")

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
            evaluation_weights=self._evaluation_weights,
        )
        if isinstance(self._evaluation_weights, WeightSet):  # arrays are no configuration
            config["evaluation_weights"] = "ema"
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

    def save(self, *args, **kwargs):
        self.check_finite()
        super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        self.check_finite()
        super().save_weights(*args, **kwargs)

    def load_own_variables(self, store):
        self._prepare_averages()
        if len(store.keys()) == 1:  # written before idle batches were counted
            self.train_counter.assign(store["0"])
            return
        super().load_own_variables(store)

    # Weight sets.

    @property
    def weight_sets(self):
        """The names of all weight sets: "raw", then "ema_<name>" for each average."""
        averages = self.ema.names if self.ema is not None else ()
        return (names.RAW, *map(names.average, averages))

    def resolve(self, weights):
        """The full name of a weight set: "ema" is the last average, or "raw" if there is none.

        None is `evaluation_weights`.
        """
        weights = self._evaluation_weights if weights is None else weights
        if isinstance(weights, WeightSet):
            return weights.name
        if weights == names.LAST:
            return self.weight_sets[-1]
        if weights not in self.weight_sets:
            raise ValueError(
                f"There is no weight set {weights!r}: choose one of {', '.join(self.weight_sets)}."
            )
        return weights

    def check_finite(self, weights=None):
        """Refuses weights that hold a number that is not finite.

        Args:
            weights: A name of `weight_sets`, "ema" or a `WeightSet`; by default all weight sets.

        Raises:
            ValueError: They do; the message names the weight set and the weight.
        """
        if not self.network.weights:
            return
        for each in self.weight_sets if weights is None else (weights,):
            check_finite(self.resolve(each), self.network.weights, self.weight_values(each))

    def weight_values(self, weights=None):
        """The values of a weight set, one tensor or variable per entry of `network.weights`.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`; by
                default `evaluation_weights`.
        """
        weights = self._evaluation_weights if weights is None else weights
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
        return keras.StatelessScope([(v, like(v, x)) for v, x in pairs])

    def export_network(self, weights=None, path=None):
        """A fresh network that holds a weight set.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`; by
                default `evaluation_weights`.
            path: Also save the network here (a name ending in ".keras").

        Returns:
            The network, built from the config of `self.network`.

        Raises:
            ValueError: There is no such weight set, or it holds a number that is not finite.
        """
        weights = self._evaluation_weights if weights is None else weights
        self.check_finite(weights)
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
        optimizer = innermost(self.optimizer)
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
        return super().make_train_function(force)

    def train_step(self, data):
        statistics = MovingStatistics(self.network)
        loss, y_pred, gradients = self._gradients(self._loss_of_batch, data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_tracker.update_state(
            unscale_loss_for_distribution(loss), sample_weight=_batch_size(x)
        )
        self._apply_step(gradients, loss, statistics)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _loss_of_batch(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=True)
        loss = self.loss_of(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
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

    def _apply_step(self, gradients, loss, statistics):
        """One call of the optimizer, then one move of the averages if it made a true step.

        The optimizer makes none while it only accumulates, or if the gradients are not finite.

        Args:
            gradients: Aligned with `self.trainable_variables`, scaled by the loss scale.
            loss: Of the batch. A loss scale is lowered until the gradients are finite, so only a
                loss that is not finite either is worth a word.
            statistics: `MovingStatistics` from before the forward pass.

        Returns:
            The norm of the gradients without the loss scale, float32: of those of this replica, but
            not finite in any replica if it is so in one. Then no step was made.
        """
        optimizer = self.optimizer
        scale = optimizer.scale_loss(tf.ones(()))
        norm = unscale_loss_for_distribution(global_norm(gradients) / scale)
        norm = in_every_replica(norm)
        finite = tf.math.is_finite(norm)
        before = tf.identity(optimizer.iterations)  # of a wrapper: those of the optimizer inside
        apply_if_finite(optimizer, gradients, self.trainable_variables, finite)
        stepped = tf.convert_to_tensor(optimizer.iterations) > before
        statistics.restore_unless(finite)
        if self.ema is not None:
            self.ema.update(self.network.weights, stepped)
        lost = tf.logical_not(finite)
        if scales_loss(optimizer):
            lost &= tf.logical_not(tf.math.is_finite(in_every_replica(loss)))
        self.train_counter.assign_add(1)
        self.idle_counter.assign_add(tf.cast(tf.logical_not(stepped), "int64"))
        self.first_lost.note(lost, self.train_counter - self.idle_counter + 1)
        return norm

    @property
    def steps_made(self):
        """True optimizer steps made so far, an int: what the word step means everywhere."""
        return int(self.train_counter.numpy()) - int(self.idle_counter.numpy())

    @property
    def first_lost_step(self):
        """Number of the first step of this `fit` that was not made, as its gradients were not
        finite; 0 if there was none. What only lowered a loss scale does not count."""
        return int(self.first_lost.variable.numpy())

    # Evaluation with a weight set.

    @property
    def evaluation_weights(self):
        """The weight set that is evaluated, predicted with and exported unless told otherwise.

        A name of `weight_sets`, "ema" or a `WeightSet`; assign one to change it. It is saved with
        the model, unless it is a `WeightSet`.
        """
        return self._evaluation_weights

    @evaluation_weights.setter
    def evaluation_weights(self, weights):
        if weights is None:
            raise ValueError("evaluation_weights must be a name of weight_sets or a WeightSet.")
        self.resolve(weights)
        self._evaluation_weights = weights
        self.test_function = self.predict_function = None  # they were traced for the former one

    def make_test_function(self, force=False):
        self._prepare_averages()
        self.check_finite(self._evaluation_weights)
        return super().make_test_function(force)

    def make_predict_function(self, force=False):
        self._prepare_averages()
        self.check_finite(self._evaluation_weights)
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


def _check_trains_as_usual(network, name):
    """Refuses a network with methods of its own for what the model around it does."""
    if not isinstance(network, keras.Model):
        raise ValueError(f"network must be a keras.Model; got {network!r:.80}.")
    own = [
        method
        for method in ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")
        if not getattr(network, method).__module__.startswith("keras.")
    ]
    if own:
        raise ValueError(
            f"{type(network).__name__} has its own {' and '.join(own)}, which {name} would not "
            "use: keep that model and call ema.update in its train_step, with ema = EMA(...)."
        )


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
