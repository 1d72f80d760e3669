"""A Keras optimizer that keeps moving averages of what another one trains."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ..keras_internals import OptimizerAround, layers_of
from .averages import EMA
from .steps import (
    apply_if_finite,
    build_before_trace,
    chain,
    global_norm,
    in_every_replica,
    parts,
    refuse_own_average,
    scales_loss,
    steps_made,
)

_CURE = "give EMAOptimizer ema={}"
# Arguments that variables of an optimizer follow from.
_WHEN_MADE = ("gradient_accumulation_steps", "use_ema", "ema_momentum", "ema_overwrite_frequency")


def _of_inner(name):
    """A setting that those optimizers go by that move the weights."""

    def get(self: Any) -> Any:
        return next((getattr(part, name) for part in parts(self.inner_optimizer)), None)

    def put(self: Any, value: Any) -> None:
        if hasattr(self, "inner_optimizer"):  # Keras' own constructor sets each before
            for part in parts(self.inner_optimizer):
                setattr(part, name, value)

    return property(get, put)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMAOptimizer(OptimizerAround):
    """Wraps an optimizer, and moves averages of the weights that it trains after each true step.

    It goes wherever a Keras optimizer does: into `compile` of any model, whatever its `train_step`
    is, several of them into a model with several optimizers, inside of a `LossScaleOptimizer` or
    around one. `fit`, `evaluate` and `predict` use the raw weights, as without it. Its state and
    that of the averages are saved with the model; a file written with the wrapped optimizer alone
    can be loaded too.

    A batch whose gradients are only accumulated, or that a `LossScaleOptimizer` skips, makes no
    step. Nor does one whose gradients are not finite in any replica: weights, optimizer, averages
    and counter stay as they were before it, where the wrapped optimizer alone would spoil the
    weights for good. What the forward pass moved by then, such as the statistics of
    BatchNormalization, no optimizer can see (`EMAModel` takes it back).

    Averages whose weights are not all loaded with them (`skip_mismatch`) start anew before the next
    step, with a warning. So they do where weights were replaced after a `fit`: assigned by hand, or
    loaded from a file without a state of an optimizer (`.h5` of older versions). A loop of one's
    own, and a `fit` that was interrupted, which Keras tells no optimizer, is told where it ends by
    `ema.leave()`, or starts anew by `ema.reset()`. Before the first step
    averages follow the weights.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, or the name of one such as "adam". Its arguments
            (learning rate, clipping, accumulation) hold as they do without the wrapper.
        ema: An `EMA`, a float, or a sequence or dict of decays. The `EMA` of an optimizer that
            trained other layers of the same model goes on: frozen weights keep their averages,
            thawed ones get averages at their present values.
        name: Of the optimizer.

    Attributes:
        ema: The `EMA`. Its `variables(name)` are aligned with the variables the optimizer trains,
            and its `export(model, name)` gives a model to ship.
        inner_optimizer: The optimizer.

    Raises:
        ValueError: The optimizer keeps an average already, or the `EMA` would need weights that no
            optimizer sees.

    Example:

    ```python
    model.compile(EMAOptimizer(keras.optimizers.Adam(1e-3), (0.99, 0.999)), loss)
    model.fit(x, y, callbacks=[callbacks.EvaluateAverages((x_test, y_test))])
    model.optimizer.ema.export(model, "0.999", "network.keras")
    ```
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer | str, ema: Any, name: str | None = None
    ):
        optimizer = keras.optimizers.get(optimizer)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"optimizer must be a Keras optimizer; got {optimizer!r}.")
        if any(isinstance(each, EMAOptimizer) for each in chain(optimizer)):
            raise ValueError(
                "The optimizer inside is an EMAOptimizer too: make one, with the decays of both."
            )
        refuse_own_average(optimizer, _CURE)
        super().__init__(optimizer, name)
        self.ema = _checked(EMA.get(ema))

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "ema": keras.saving.serialize_keras_object(self.ema),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        made = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
            for key in ("optimizer", "ema")
        }
        return cls(**{**config, **made})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _WHEN_MADE and hasattr(self, "inner_optimizer"):
            raise ValueError(
                f"{name} is an argument of the optimizer inside, which has to be made with it: "
                f"EMAOptimizer(keras.optimizers.Adam(..., {name}={value!r}), ema)."
            )
        super().__setattr__(name, value)

    clipnorm, clipvalue = _of_inner("clipnorm"), _of_inner("clipvalue")
    global_clipnorm, weight_decay = _of_inner("global_clipnorm"), _of_inner("weight_decay")

    @property
    def variables(self) -> list[Any]:
        """The state: that of the optimizer, then the counters and averages."""
        return [*super().variables, *self.ema.state]

    @property
    def loss_scale_factor(self) -> Any:
        """What `scale_loss` multiplies a loss by."""
        return self.scale_loss(1.0)

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: Any) -> None:
        if not hasattr(self, "inner_optimizer"):
            return  # Keras' own constructor gives every optimizer one
        if scales_loss(self.inner_optimizer):
            raise ValueError(
                "The optimizer inside of this EMAOptimizer scales the loss already: leave out one "
                "LossScaleOptimizer (under mixed_float16, compile adds one unless it is given "
                "auto_scale_loss=False)."
            )
        self.inner_optimizer.loss_scale_factor = factor

    def build(self, variables: Sequence[Any]) -> None:
        variables = list(variables)
        if self.built or not variables:
            return
        if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
            raise ValueError(
                "Averages cannot be made inside of a replica: call build(variables) of the "
                "optimizer before training, in the scope of the strategy."
            )
        super().build(variables)
        refuse_own_average(self.inner_optimizer, _CURE)  # of parts that are known by now
        with keras.name_scope(self.name):
            self.ema.extend(variables)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """What Keras calls at the end of `fit`: the averages are of the weights as they are now."""
        super().finalize_variable_values(var_list)
        self.ema.leave()

    def apply(self, grads: Iterable, trainable_variables: Iterable | None = None) -> None:
        """One call of the optimizer, then one move of the averages if it made a true step.

        Args:
            grads: Gradients in the order of the variables; None is allowed.
            trainable_variables: What to train; by default what the optimizer was built for.
        """
        if trainable_variables is None and not self.built:
            raise ValueError("Give the variables with the gradients, or call build(variables).")
        gradients = list(grads)
        variables = list(
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        if len(gradients) != len(variables):
            raise ValueError(
                f"There are {len(gradients)} gradients for {len(variables)} variables: give one "
                "for each, None where there is none."
            )
        build_before_trace(self, variables)
        self.ema.start()
        norm = in_every_replica(global_norm(gradients))
        before = steps_made(self.inner_optimizer)
        apply_if_finite(self.inner_optimizer, gradients, variables, norm)
        self.ema.update(variables, steps_made(self.inner_optimizer) > before)


def _checked(ema):
    """An `EMA` that needs nothing but what an optimizer trains."""
    if ema is None:
        raise ValueError("ema is None: give decays such as 0.999, or use the optimizer alone.")
    if ema.snapshot_widths:
        raise ValueError(
            "snapshot_widths are for snapshots, which hold weights that no optimizer sees: use "
            "EMAModel for them."
        )
    if not ema.names:
        raise ValueError(
            "ema has no average: give decays such as 0.999, or use the optimizer alone."
        )
    if ema.average_statistics:
        raise ValueError(
            "average_statistics=True needs weights that no optimizer sees: use EMAModel for it."
        )
    return ema


def averages_of(model):
    """Every `EMA` of a model, however many: its own, and those of its optimizers."""
    every = [*_held(model, EMA), *(optimizer.ema for optimizer in averaging_optimizers(model))]
    return list({id(ema): ema for ema in every}.values())


def averaging_optimizers(model):
    """Every `EMAOptimizer` of a model, however it is wrapped."""
    wrapped = (each for held in _held(model, keras.optimizers.Optimizer) for each in chain(held))
    found = {id(each): each for each in wrapped if isinstance(each, EMAOptimizer)}
    return list(found.values())


def _held(model, kind):
    """What a model and its layers have of a kind, as attributes and in lists and dicts of them."""
    for layer in layers_of(model):
        yield from _of_kind(vars(layer), kind)


def _of_kind(value, kind):
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _of_kind(each, kind)
