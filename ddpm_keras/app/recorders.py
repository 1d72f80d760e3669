"""Callbacks that write a run directory and tell how a run goes."""

import time

import keras
import numpy as np

from .. import names
from ..callbacks.clock import is_due
from ..ema.steps import batches_per_step
from . import progress


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
        self.run.save_checkpoint(self.model, self.model.steps_made, self.keep)


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


class HistoryLog(keras.callbacks.Callback):
    """Writes rows to history.csv; the last row of an epoch takes in its logs.

    The training metrics in a row are means over the interval: they are reset after each row. A row
    is written when training has reached or passed a multiple of `every_steps`; an interval in
    which no step was made has none.
    Callbacks before this one in the list add their numbers to an epoch's last row through `logs`.

    Args:
        run: a `Run`.
        every_steps: optimizer steps a row, at least 1.
        batch_size: images a batch of `fit`, for the images per second.
    """

    def __init__(self, run, every_steps=10, batch_size=1):
        super().__init__()
        self.run = run
        self.every_steps = every_steps
        self.batch_size = batch_size
        self.pending = None

    def on_train_begin(self, logs=None):
        rows = self.run.read_history()
        self.step = self.noted = self.model.steps_made
        kept = [row for row in rows if row["step"] <= self.step]
        if len(kept) < len(rows):  # rows after the checkpoint that is being continued
            self.run.write_history(kept)
        self.seconds = kept[-1].get("seconds", 0.0) if kept else 0.0
        self.epoch = 0
        self._start_clock()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1
        self._start_clock()

    def on_train_batch_begin(self, batch, logs=None):
        self.flush()

    def on_train_batch_end(self, batch, logs=None):
        self.step = self.model.steps_made
        if is_due(self.noted, self.step, self.every_steps):
            self._note(logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.pending is None and self.step > self.noted:
            self._note(logs)
        if self.pending is not None:
            known = {metric.name for metric in self.model.metrics}
            self.pending |= {k: v for k, v in logs.items() if k not in known}
        self.flush()

    def on_train_end(self, logs=None):
        self.flush()

    def _note(self, logs):
        """Holds the row back until the next batch, so that an epoch's end can add to it."""
        batches = self._batches() - self.batches
        interval = time.perf_counter() - self.clock
        self._start_clock()
        self.seconds += interval
        self.pending = {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 3),
            **logs,
            "learning_rate": float(np.asarray(self.model.optimizer.learning_rate)),
            "images_per_second": batches * self.batch_size / interval,
        }
        ema = self.model.ema
        for name in ema.names if ema else ():
            weights = names.average(name)
            self.pending[names.column("beta", weights)] = ema.beta(name)
            self.pending[names.column("window", weights)] = ema.effective_window(name)
            self.pending[names.column("initial_share", weights)] = ema.initial_share(name)
        self.noted = self.step
        self.model.reset_metrics()

    def _start_clock(self):
        self.clock, self.batches = time.perf_counter(), self._batches()

    def _batches(self):
        return int(self.model.train_counter.numpy())

    def flush(self):
        """Writes the row that is held back, if there is one."""
        if self.pending is not None:
            self.run.append_history({k: _short(v) for k, v in self.pending.items()})
            self.pending = None


def _short(value):
    """Seven digits: what a float32 holds."""
    return value if isinstance(value, int) else float(f"{float(value):.7g}")
