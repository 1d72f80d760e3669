"""Early stopping that restores averages along with the weights that they are of."""

from typing import Any

import keras

from ..ema.optimizer import averages_of, averaging_optimizers


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' `EarlyStopping`, which restores the averages of the best epoch with its weights.

    With `restore_best_weights=True` Keras' own gives a model the weights of its best epoch back.
    Averages that are no weights of the model, those of an `EMAOptimizer` or of an `EMA` that a
    `train_step` moves, would stay those of the last epoch. In an `EMAModel` they are weights.

    Args:
        *args, **kwargs: those of `keras.callbacks.EarlyStopping`.

    Example:

    ```python
    model.compile(EMAOptimizer("adam", (0.99, 0.999)), "mse")
    model.fit(x, y, epochs=100, callbacks=[
        callbacks.EvaluateAverages((x_test, y_test)),
        callbacks.EarlyStopping("val_loss_ema_0.999", mode="min", restore_best_weights=True),
    ])
    ```
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self.best_averages = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.best_weights is not None and self.best_epoch == epoch:
            self.best_averages = [(each, each.numpy()) for each in _beside(self.model)]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        for variable, value in self.best_averages:
            variable.assign(value)
        self.best_averages = []
        for optimizer in averaging_optimizers(self.model):
            optimizer.ema.leave()


def _beside(model):
    """The state of those averages that are no weights of the model."""
    own = {id(weight) for weight in model.weights}
    return [each for ema in averages_of(model) for each in ema.state if id(each) not in own]
