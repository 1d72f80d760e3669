"""Callbacks that write a run directory and tell how a run goes."""

import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from .. import callbacks, names
from ..callbacks.clock import is_due
from ..ema.steps import batches_per_step
from ..errors import UsageError
from ..keras_internals import weights_file
from . import interrupt, progress
from .run_directory import metric_values, set_metrics


class StillThere(keras.callbacks.Callback):
    """Ends a training whose run directory was removed, before others make it anew.

    Args:
        run: a `Run`.
    """

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_train_begin(self, logs=None):
        known = self.run.config_file.exists()
        self.sign = self.run.config_file if known else self.run.path

    def on_train_batch_end(self, batch, logs=None):
        self._check()

    def on_epoch_end(self, epoch, logs=None):
        self._check()

    def _check(self):
        if not self.sign.exists():
            raise UsageError(
                f"{self.sign} was removed while it was needed; begin a new run, or put it back."
            )


class Snapshots(callbacks.PowerFunctionSnapshots):
    """Snapshots of a run that may be several calls of `fit`: only at the end of all is it over.

    Args:
        run: a `Run`.
        widths: relative widths of the averages.
        every_steps: optimizer steps from one snapshot to the next.
        steps: optimizer steps of the whole run.
    """

    def __init__(self, run, widths, every_steps, steps):
        super().__init__(run.snapshots, widths, every_steps)
        self.steps = steps

    def on_train_end(self, logs=None):
        if steps_done(self.model) >= self.steps:
            super().on_train_end(logs)


class Checkpoints(keras.callbacks.Callback):
    """Saves a checkpoint of the run at its beginning and at the end of each epoch.

    Between these, the end of each step is a place where an interrupt may end the training: put this
    after the callbacks that note what the step was.

    Training stands still while the state is copied, and goes on while it is written. Where it
    cannot be written, the next checkpoint or the end of training says so.

    Args:
        run: a `Run`.
        keep: checkpoints kept, at least 1.
        together: as of `interrupt.stop_here`.
    """

    def __init__(self, run, keep=2, together=bool):
        super().__init__()
        self.run = run
        self.keep = keep
        self.together = together
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.writing = self.saved = None

    def on_train_begin(self, logs=None):
        if not steps_done(self.model):
            self.flush()  # nothing is recorded that there is no checkpoint to go on from

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 != self.params["steps"]:  # the last one belongs to the end of the epoch
            interrupt.stop_here(self.together)

    def on_epoch_end(self, epoch, logs=None):
        self.save()
        interrupt.stop_here(self.together)

    def on_train_end(self, logs=None):
        self.wait()

    def save(self):
        """Copies the state, and begins to write it."""
        with interrupt.held():
            self.wait()  # one copy in memory at a time
            self.model.check_finite()
            self.saved = int(self.model.train_counter.numpy())
            noted = self.run.noted(self.model)
            state = weights_file(self.model), self.model.steps_made, noted
            self.writing = self.writer.submit(self.run.write_checkpoint, *state, self.keep)

    def flush(self):
        """Saves what is not saved yet, and waits; used when training is interrupted."""
        if self.saved != int(self.model.train_counter.numpy()):
            self.save()
        self.wait()

    def wait(self):
        """Returns when the last checkpoint is written.

        Raises:
            OSError: it could not be.
        """
        with interrupt.held():
            writing, self.writing = self.writing, None
            if writing is not None:
                writing.result()


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
        if self.bar is None:  # one bar for several calls of fit
            scale = self.batch_size * batches_per_step(self.model.optimizer)
            self.bar = progress.bar("training", self.steps, scale=scale, initial=self._done())

    def on_train_batch_end(self, batch, logs=None):
        self.bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)
        self.bar.update(self._done() - self.bar.n)

    def on_train_end(self, logs=None):
        if self.bar.n >= self.steps:
            self.bar.close()

    def _done(self):
        return steps_done(self.model)


def steps_done(model):
    """Steps that the batches so far were for; those that were not made count, too."""
    return int(model.train_counter.numpy()) // batches_per_step(model.optimizer)


class HistoryLog(keras.callbacks.Callback):
    """Writes rows to history.csv; the last row of an epoch takes in its logs.

    The training metrics in a row are means over the interval: they are reset after each row. A row
    is written when training has reached or passed a multiple of `every_steps`; an interval in
    which no step was made has none. What metrics hold when training begins is gone on from.
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
        self.step = self.noted = self.model.steps_made
        kept = self.run.cut_history(self.step)  # rows after the checkpoint will be made again
        self.seconds = kept[-1].get("seconds", 0.0) if kept else 0.0
        self.epoch = 0
        self.unfinished = metric_values(self.model)  # which Keras is about to reset
        self._start_clock()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1
        set_metrics(self.model, self.unfinished)
        self.unfinished = {}
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
        self.model.reset_metrics()  # of an interval without a step

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
