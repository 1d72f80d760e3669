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
from .checkpoints import metric_values, set_metrics


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
    """Saves a checkpoint of the run at its beginning and after the last step of each epoch.

    The end of each step is a place where an interrupt may end the training: put this after the
    callbacks that note what the step was. What an epoch ends with may take long: a signal ends it,
    and it is done again when training goes on, unless there are several processes.

    Training stands still while the state is copied, and goes on while it is written. Where it
    cannot be written, the next checkpoint or the end of training says so.

    Args:
        run: a `Run`.
        keep: checkpoints kept, at least 1.
        crew: the `workers.Crew` of the processes that train together, or None.
        log: the `HistoryLog` of the run, or None.
    """

    def __init__(self, run, keep=2, crew=None, log=None):
        super().__init__()
        self.run = run
        self.keep = keep
        self.together = crew.any if crew else bool
        self.is_alone = crew is None or crew.count == 1
        self.log = log
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.writing, self.saved = [], None

    def on_train_begin(self, logs=None):
        if not steps_done(self.model) and not self.run.has_checkpoint(0):
            self.flush()  # nothing is recorded that there is no checkpoint to go on from

    def on_train_batch_end(self, batch, logs=None):
        is_last = batch + 1 == self.params["steps"]
        if is_last:
            self.save(unfinished=dict((self.log and self.log.pending) or {}))
        interrupt.stop_here(self.together, until_next=is_last and self.is_alone)

    def on_epoch_end(self, epoch, logs=None):
        if self._is_saved():
            noted = self.model.steps_made, self.run.noted(self.model)
            self.writing.append(self.writer.submit(self.run.note_checkpoint, *noted))
        else:
            self.save()
        interrupt.stop_here(self.together)

    def on_train_end(self, logs=None):
        self.wait()
        if self._is_saved():  # what others have written at the end
            self.run.note_checkpoint(self.model.steps_made, self.run.noted(self.model))

    def save(self, unfinished=None):
        """Copies the state, and begins to write it.

        Args:
            unfinished: of `run_record.Checkpoint`.
        """
        with interrupt.held():
            self.wait()  # one copy in memory at a time
            self.model.check_finite()
            self.saved = int(self.model.train_counter.numpy())
            noted = self.run.noted(self.model, unfinished)
            state = weights_file(self.model), self.model.steps_made, noted
            self.writing.append(self.writer.submit(self.run.write_checkpoint, *state, self.keep))

    def _is_saved(self):
        return self.saved == int(self.model.train_counter.numpy())

    def flush(self):
        """Saves what is not saved yet, and waits; used when training is interrupted."""
        if not self._is_saved():
            self.save()
        self.wait()

    def wait(self):
        """Returns when the last checkpoint is written.

        Raises:
            OSError: it could not be.
        """
        with interrupt.held():
            writing, self.writing = self.writing, []
            for each in writing:
                each.result()


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
    is written when training has reached or passed a multiple of `every_steps`, and at the end of an
    epoch; an interval in which no step was made has none. What metrics hold when training begins is
    gone on from.
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

    def go_on_with(self, row):
        """Takes back the last row of an epoch whose end is still to add to it."""
        self.run.cut_history(row["step"] - 1)
        self.pending, self.seconds = row, row["seconds"]

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1
        set_metrics(self.model, self.unfinished)
        self.unfinished = {}
        self._start_clock()

    def on_train_batch_begin(self, batch, logs=None):
        self.flush()

    def on_train_batch_end(self, batch, logs=None):
        self.step = self.model.steps_made
        is_last = batch + 1 == self.params.get("steps") and self.step > self.noted
        if is_last or is_due(self.noted, self.step, self.every_steps):
            self._note(logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.pending is None and self.step > self.noted:
            self._note(logs)
        if self.pending is not None:
            known = {metric.name for metric in self.model.metrics}
            self.pending |= {k: _short(v) for k, v in logs.items() if k not in known}
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
        row = {
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
            row[names.column("beta", weights)] = ema.beta(name)
            row[names.column("window", weights)] = ema.effective_window(name)
            row[names.column("initial_share", weights)] = ema.initial_share(name)
        self.pending = {key: _short(value) for key, value in row.items()}
        self.noted = self.step
        self.model.reset_metrics()

    def _start_clock(self):
        self.clock, self.batches = time.perf_counter(), self._batches()

    def _batches(self):
        return int(self.model.train_counter.numpy())

    def flush(self):
        """Writes the row that is held back, if there is one."""
        row, self.pending = self.pending, None  # at once: a signal may come, and flush again
        if row is not None:
            self.run.append_history(row)


def _short(value):
    """Seven digits: what a float32 holds."""
    return value if isinstance(value, int) else float(f"{float(value):.7g}")
