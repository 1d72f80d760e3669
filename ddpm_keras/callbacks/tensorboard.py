"""Scalars for TensorBoard, grouped so that raw weights and averages share a chart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from .. import names
from ..aliases import PathLike
from ..quality import metrics


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch, one TensorBoard run for each weight set.

    `val_loss_raw` and `val_loss_ema_0.999` become the tag `val_loss` of the runs `raw` and
    `ema_0.999`, so that TensorBoard overlays them; what belongs to no weight set goes to `train`.
    The configuration goes to the directory itself, as a text card and as HParams, whose page then
    lists the numbers of every weight set below it.

    Args:
        log_dir: the directory to give to `tensorboard --logdir`.
        config: dict name -> value of what the run was told, or None for no card.
    """

    def __init__(self, log_dir: PathLike, config: Mapping[str, Any] | None = None):
        super().__init__()
        self.log_dir = Path(log_dir)
        self.config = {name: _plain(value) for name, value in (config or {}).items()}
        self.writers = {}
        self._described = not self.config

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._described:  # `fit` may be called several times in one run
            return
        rows = "".join(f"| {name} | {value} |\n" for name, value in self.config.items())
        with tf.summary.create_file_writer(str(self.log_dir)).as_default(step=0) as writer:
            hparams.hparams(self.config)
            tf.summary.text("configuration", f"| option | value |\n| --- | --- |\n{rows}")
            writer.close()
        self._described = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = self.model.steps_made
        for key, value in (logs or {}).items():
            run, tag = self._place(key)
            if run not in self.writers:
                self.writers[run] = tf.summary.create_file_writer(str(self.log_dir / run))
            with self.writers[run].as_default(step=step):
                tf.summary.scalar(tag, value, description=_description(tag))
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers = {}

    def _place(self, key):
        """(run, tag) of a log entry."""
        what, weights = names.parse_column(key) or (key, None)
        return (weights, what) if weights in self.model.weight_sets else ("train", key)


def _description(tag):
    """What the number of a metric is called, and which way it is better; None for another tag."""
    number = "frechet" if tag == "quality" else tag.removeprefix("quality_")
    found = metrics.shown_numbers().get(number) if tag.startswith("quality") else None
    return found and f"{found.title}, {'lower' if found.lower_is_better else 'higher'} is better"


def _plain(value):
    """A value as HParams takes it: a number, a string, or several in one string."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
