"""A Keras model that trains a network and keeps moving averages of its weights."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..aliases import PathLike
from ..keras_internals import (
    input_signature_of,
    layers_of,
    print_message,
    unscale_loss_for_distribution,
)
from .arguments import by_name
from .groups import refuse_in_scope
from .steps import (
    MovingStatistics,
    SayLostSteps,
    SayShortRuns,
    SayStillAverages,
    batches_per_step,
    build_before_trace,
    chain,
    refuse_own_average,
    say_other_batch,
)
from .training import TrainingStep, rows_in
from .weight_sets import WeightSet


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMAModel(TrainingStep):
    """Trains a network and keeps moving averages of its weights.

    It is compiled, fitted, saved and loaded like any `keras.Model`, with the loss and metrics of
    the network's own task. `fit` trains the raw weights; `evaluate` (so also validation in `fit`),
    `predict`, `export` and `export_network` use the weight set `evaluation_weights`, and leave the
    training state alone; calling the model itself uses the raw weights.

    The averages are non-trainable weights of the model, after those of `network`: `get_weights`,
    `EarlyStopping`, `summary` and whatever else goes through a model's weights takes them along.
    They follow the weights: where others are loaded without their averages, these start anew from
    them, and it is said.

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

    def __init__(
        self,
        network: keras.Model,
        ema: Any = None,
        accumulation_steps: int = 1,
        evaluation_weights: Any = "ema",
        **kwargs: Any,
    ):
        _check_trains_as_usual(network, type(self).__name__)
        kwargs.setdefault("dtype", _policy_of(network))
        super().__init__(
            network, ema, accumulation_steps, evaluation_weights=evaluation_weights, **kwargs
        )
        if network.built:
            self.built = True
            self._prepare_averages()

    # A Keras model.

    def build(self, input_shape: Any = None) -> None:
        if not self.network.built:
            self.network.build_from_config({"input_shape": input_shape})
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        return self.network(inputs, training=training, **kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.network.compute_output_shape(input_shape)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        refuse_in_scope("fit")
        given = by_name(keras.Model.fit, self, args, kwargs)
        if not self.compiled:
            raise ValueError(f"{type(self).__name__} is compiled before fit: call compile first.")
        if not self.network.built:
            self._build_network(given.get("x"))
        self._follow_assigned()
        self.check_finite()
        callbacks = given.get("callbacks")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            given["callbacks"] = [*_as_list(callbacks), *self._own_callbacks()]
        if given.get("validation_data") is not None or given.get("validation_split"):
            self._say_weights("Validation", given)
        self._say_batch(given)
        try:
            return super().fit(**given)
        finally:
            self._leave_weights()

    def _say_batch(self, given):
        """Where it is known before: of arrays, and of data sets whose batches are of one size."""
        x = given.get("x")
        arrays = all(hasattr(leaf, "shape") for leaf in tf.nest.flatten(x))
        batch_size = given.get("batch_size") or (32 if arrays else None)
        if isinstance(x, tf.data.Dataset):
            sizes = (spec.shape[0] for spec in tf.nest.flatten(x.element_spec) if spec.shape)
            batch_size = next(sizes, None) or batch_size
        if self.ema is not None and self.optimizer is not None and batch_size:
            say_other_batch(self.ema, batch_size * batches_per_step(self.optimizer))

    def _own_callbacks(self):
        """Callbacks of every `fit`, after those that are given."""
        said = [SayLostSteps()]
        if self.ema is not None and self.ema.names:
            said += [SayShortRuns(), SayStillAverages()]
        return said

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The loss and metrics of `evaluation_weights`; the arguments are those of Keras."""
        given = by_name(keras.Model.evaluate, self, args, kwargs)
        if not self.is_validation_of_fit(given):  # or `fit` has said it
            self._say_weights("Evaluation", given)
        return super().evaluate(**given)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
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

    def get_config(self) -> dict[str, Any]:
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
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        for key in ("network", "ema"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(
                    config[key], custom_objects=custom_objects
                )
        return cls(**config)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the model with its averages; the arguments are those of Keras.

        Raises:
            ValueError: the path ends in the older .h5, which Keras could not load again, or this is
                in a `weight_scope`.
        """
        refuse_in_scope("save")
        path = by_name(keras.Model.save, self, args, kwargs).get("filepath")
        if str(path).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"{path} is of Keras' older format, which cannot hold averages: give a name ending "
                "in .keras, or save_weights one ending in .weights.h5."
            )
        self.check_finite()
        super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        refuse_in_scope("save_weights")
        self.check_finite()
        super().save_weights(*args, **kwargs)

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Exports the network with `evaluation_weights`; the arguments are those of Keras.

        No other weight set is in the file.

        Raises:
            ValueError: The network was never called, or the weights are not finite.
        """
        signature = input_signature or input_signature_of(self.network)
        network = self.export_network()
        self._say_weights("Export", {"verbose": verbose is not False})
        network.export(filepath, format, verbose, signature, **kwargs)

    # Training.

    def make_train_function(self, force: bool = False) -> Any:
        refuse_in_scope("Training")
        refuse_own_average(self.optimizer, "give the model ema={}")
        if self.ema is not None and any(hasattr(each, "ema") for each in chain(self.optimizer)):
            raise ValueError(
                "The model keeps averages, and its optimizer too: leave out the EMAOptimizer, or "
                "the model's ema."
            )
        if not self.network.weights:
            raise ValueError(
                "The network has no weights to average yet: call it on a batch before training."
            )
        if not self.trainable_variables:
            raise ValueError(
                "All weights of the network are frozen, so that nothing would be trained: set "
                "network.trainable = True, or that of a layer."
            )
        self._follow_assigned()
        self._prepare_averages()
        with self.distribute_strategy.scope():
            build_before_trace(self.optimizer, self.trainable_variables)
        self._left.forget()
        return super().make_train_function(force)

    def train_step(self, data: Any) -> Any:
        statistics = MovingStatistics(self.network)
        loss, y_pred, gradients = self._gradients(self._loss_of_batch, data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_tracker.update_state(
            unscale_loss_for_distribution(loss), sample_weight=rows_in(x)
        )
        self._apply_step(gradients, loss, statistics)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _loss_of_batch(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=True)
        loss = self.loss_of(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
        return loss, y_pred


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
            "use: compile that model itself with EMAOptimizer(optimizer, ema)."
        )


def _policy_of(network):
    """That of layers in mixed float16, for which Keras scales the loss; None where there are none.

    The policy that is set now may be another than the one that the network was made under.
    """
    policies = (layer.dtype_policy for layer in layers_of(network))
    return next((each for each in policies if each.name == "mixed_float16"), None)


def _as_list(callbacks):
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
