"""Loss and metrics of every average, on data of one's own."""

from typing import Any

import keras
import tensorflow as tf

from .. import names
from ..ema.groups import like, new_variable, strategy_of
from ..ema.optimizer import averages_of, averaging_optimizers
from ..ema.steps import say_short, steps_left
from ..ema.weight_sets import with_values
from ..inputs import ImageModel, containers
from ..keras_internals import test_function_of
from ..scalars import count
from .clock import is_due

_QUIET = {"verbose": 0, "return_dict": True}


class EvaluateAverages(keras.callbacks.Callback):
    """Adds loss and metrics of each average to the logs of each epoch: `val_loss_ema_0.999` ...

    For a model with an `EMAOptimizer` (of several, those averages of a name together), an
    `EMAModel`, and a model that holds an `EMA`. The model's own `test_step` is run, and leaves the
    training state as it is, to the bit: weights are replaced where they are read, not overwritten.

    Args:
        validation_data: (x, y), (x, y, sample_weight), or a `tf.data.Dataset` or `PyDataset` of
            batches: what `evaluate` of the model takes.
        batch_size: examples at a time, where x is an array; by default Keras' 32.
        steps: batches of a data set that has no end.
        every_epochs: epochs between evaluations, at least 1.

    Example:

    ```python
    model.compile(EMAOptimizer("adam", (0.99, 0.999)), "mse", metrics=["mae"])
    model.fit(x, y, callbacks=[
        callbacks.EvaluateAverages((x_test, y_test)),
        keras.callbacks.ModelCheckpoint(
            "best.keras", "val_loss_ema_0.999", mode="min", save_best_only=True
        ),
    ])
    ```
    """

    def __init__(
        self,
        validation_data: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        every_epochs: int = 1,
    ):
        super().__init__()
        if validation_data is None:
            raise ValueError("validation_data is None: give (x, y) or a data set, as to evaluate.")
        if hasattr(validation_data, "__next__"):
            raise ValueError(
                "validation_data is a generator, which can be read once: give arrays, or a data "
                "set that can be read again for each average."
            )
        self.data = keras.utils.unpack_x_y_sample_weight(validation_data)
        _check_data(self.data)
        containers.refuse_batch_size(self.data[0], batch_size)
        self.batch_size = None if batch_size is None else count(batch_size, "batch_size")
        self.steps = None if steps is None else count(steps, "steps")
        self.every_epochs = count(every_epochs, "every_epochs")
        self.places = {}  # id(weight) -> (weight, the variable that the test step reads instead)
        self.function = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not any(ema.names for ema in averages_of(self.model)):
            raise ValueError(
                "The model keeps no averages: compile it with EMAOptimizer(optimizer, 0.999), or "
                "give EMAModel(network, ema=0.999)."
            )
        if isinstance(self.model, ImageModel):  # refused now, not after an epoch
            containers.prepare(self.model.inputs_taken, *self.data)
        self.places, self.function = {}, None  # both may be others by now
        self.begun = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says what is too short for averages of an optimizer; an `EMAModel` says so itself."""
        if self.begun:
            return
        self.begun = True
        for optimizer in averaging_optimizers(self.model):
            steps = steps_left(self, epoch, optimizer)
            if steps is not None:
                say_short(optimizer.ema, steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not is_due(epoch, epoch + 1, self.every_epochs):
            return
        for name in dict.fromkeys(name for ema in averages_of(self.model) for name in ema.names):
            self._put(name)
            found = self._evaluate()
            if not found:
                raise ValueError("validation_data holds no batch: give one at least.")
            for what, value in found.items():
                logs[names.column(f"val_{what}", names.average(name))] = value

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Tells averages where the training ends: Keras tells the optimizer of `compile` alone."""
        for optimizer in averaging_optimizers(self.model):
            optimizer.ema.leave()

    def _put(self, name):
        """Writes an average where the test step reads it; weights that have none, as they are."""
        for ema in averages_of(self.model):
            values = ema.variables(name) if name in ema.names else ema.sources
            for i in ema.averaged_positions:
                weight = ema.sources[i]
                if id(weight) not in self.places:
                    self.places[id(weight)] = weight, _place_of(weight)
                self.places[id(weight)][1].assign(like(weight, values[i]))

    def _evaluate(self):
        """Dict metric -> value, of the weights that were put in place."""
        model = self.model
        changed = ("evaluation_weights", "test_function", "predict_function")
        own = {name: getattr(model, name) for name in changed if hasattr(model, name)}
        if "evaluation_weights" in own:
            model.evaluation_weights = names.RAW  # which the test step finds replaced
        model.test_function = self.function or test_function_of(model, self._test_step)
        x, y, sample_weight = self.data
        rows = {"batch_size": self.batch_size, "steps": self.steps}
        try:
            return model.evaluate(x, y, sample_weight=sample_weight, **rows, **_QUIET)
        finally:
            self.function = model.test_function
            for name, value in own.items():
                setattr(model, name, value)

    def _test_step(self, data):
        return with_values(self.model, self.places.values(), lambda: self.model.test_step(data))


def _check_data(data):
    """Refuses what is neither arrays, as many rows of each, nor a data set."""
    if containers.comes_in_batches(data[0]):
        return
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data[0])):
        raise ValueError(
            "validation_data is (x, y) or (x, y, sample_weight) of arrays, or a data set of "
            f"batches, as evaluate takes; got {data[0]!r:.60}."
        )
    shapes = [getattr(leaf, "shape", ()) for leaf in keras.tree.flatten(data)]
    rows = [shape[0] for shape in shapes if len(shape)]
    if len(set(rows)) > 1:
        raise ValueError(f"validation_data has arrays of {rows} rows: give as many of each.")
    if 0 in rows:
        raise ValueError("validation_data has no rows: give some.")


def _place_of(weight):
    with strategy_of(weight).scope():
        value = tf.zeros(weight.shape, weight.dtype)
        return new_variable(value, "evaluated_average", weight.dtype)
