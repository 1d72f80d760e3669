"""Scalars for TensorBoard, grouped so that raw weights and averages share a chart."""

from pathlib import Path

import keras
import tensorflow as tf


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch, one TensorBoard run for each weight set.

    `val_loss_raw` and `val_loss_ema_0.999` become the tag `val_loss` of the runs `raw` and
    `ema_0.999`, so that TensorBoard overlays them; what belongs to no weight set goes to `train`.

    Args:
        log_dir: the directory to give to `tensorboard --logdir`.
    """

    def __init__(self, log_dir):
        super().__init__()
        self.log_dir = Path(log_dir)
        self.writers = {}

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.model.train_counter.numpy())
        for key, value in (logs or {}).items():
            run, tag = self._place(key)
            if run not in self.writers:
                self.writers[run] = tf.summary.create_file_writer(str(self.log_dir / run))
            with self.writers[run].as_default(step=step):
                tf.summary.scalar(tag, value)
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()
        self.writers = {}

    def _place(self, key):
        """(run, tag) of a log entry."""
        for name in self.model.weight_sets:
            if key.endswith(f"_{name}"):
                return name, key.removesuffix(f"_{name}")
        return "train", key
