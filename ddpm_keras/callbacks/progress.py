"""One line that keeps up with training: loss, images per second and time left."""

import keras

from ..app import progress
from ..ema.steps import batches_per_step


class Progress(keras.callbacks.Callback):
    """Shows progress over the whole run, not over an epoch.

    Args:
        steps: optimizer steps of the whole run.
        batch_size: images a batch of `fit`.
    """

    def __init__(self, steps, batch_size):
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size
        self.bar = None

    def on_train_begin(self, logs=None):
        self.batches = batches_per_step(self.model.optimizer)
        if self.bar is None:  # one bar for several calls of fit
            scale = self.batch_size * self.batches
            self.bar = progress.bar("training", self.steps, scale=scale, initial=self._done())

    def on_train_batch_end(self, batch, logs=None):
        self.bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)
        self.bar.update(self._done() - self.bar.n)

    def on_train_end(self, logs=None):
        if self.bar.n >= self.steps:
            self.bar.close()

    def _done(self):
        """Steps that the batches so far were for; those that were not made count, too."""
        return int(self.model.train_counter.numpy()) // self.batches
