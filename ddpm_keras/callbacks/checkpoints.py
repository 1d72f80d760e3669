"""Checkpoints of a run, and stopping before a diverged state replaces a good one."""

import math

import keras


class Checkpoints(keras.callbacks.Callback):
    """Saves a checkpoint of the run at the end of each epoch.

    Args:
        run: a `Run`.
        keep: checkpoints kept, at least 1.
    """

    def __init__(self, run, keep=2):
        super().__init__()
        self.run = run
        self.keep = keep

    def on_epoch_end(self, epoch, logs=None):
        self.save()

    def save(self):
        """Saves now; used when training is interrupted, too."""
        self.run.save_checkpoint(self.model, int(self.model.train_counter.numpy()), self.keep)


class Diverged(ArithmeticError):
    """The loss is not a number any more."""


class StopOnDivergence(keras.callbacks.Callback):
    """Raises `Diverged` when the loss is NaN or infinite, before that state is saved."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            step = int(self.model.train_counter.numpy())
            raise Diverged(f"the loss is {logs['loss']} at step {step}")
