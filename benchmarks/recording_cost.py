"""What recording costs: stretches of training with and without it, taken in turns.

    python benchmarks/recording_cost.py                # the digits; about 5 minutes

Run it on an idle machine. One training of `train.py`'s defaults goes on throughout. Recorded are
losses, gradient norm, decays, distances of the averages and the sketch of the path at every log
interval, and the validation loss of every weight set at the end of an epoch, to history.csv,
trajectory.npz and TensorBoard. Two measures that should agree:

- in turns: every second log interval nothing is recorded; each other one is compared with the mean
  of its two neighbours, and to the median difference comes the time of the epochs' ends;
- inside: the time spent in the recording callbacks as a share of all other time. It scatters less,
  since it is not a difference of two long times.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras.app import console  # noqa: E402
from ddpm_keras.app.options import TrainOptions  # noqa: E402

console.load_tensorflow()
import keras  # noqa: E402

from ddpm_keras import data  # noqa: E402
from ddpm_keras.app import dataset, observing, training  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402

LIMIT = 0.02


class EveryOtherInterval(keras.callbacks.Callback):
    """Passes the steps of every second interval on to other callbacks, and takes the times.

    Args:
        others: the callbacks.
        every: steps of an interval.

    Attributes:
        intervals: seconds of each interval; those with odd places were recorded.
        inside: seconds that the callbacks took in each recorded interval.
        ends: seconds that they took at the end of each epoch.
    """

    def __init__(self, others, every):
        super().__init__()
        self.others = others
        self.every = every
        self.intervals, self.inside, self.ends = [], [], []
        self.steps = 0

    def tell(self, event, *arguments):
        start = time.perf_counter()
        for each in self.others:
            getattr(each, event)(*arguments)
        return time.perf_counter() - start

    def on_train_begin(self, logs=None):
        for each in self.others:
            each.set_model(self.model)
        self.tell("on_train_begin", logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.tell("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps % self.every == 0:
            self.recording = len(self.intervals) % 2 == 1
            self.start, self.paused, self.spent = time.perf_counter(), 0.0, 0.0
        if self.recording:
            self.spent += self.tell("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if self.recording:
            self.spent += self.tell("on_train_batch_end", batch, logs)
        self.steps += 1
        if self.steps % self.every == 0:
            self.intervals.append(time.perf_counter() - self.start - self.paused)
            if self.recording:
                self.inside.append(self.spent)

    def on_epoch_end(self, epoch, logs=None):
        spent = self.tell("on_epoch_end", epoch, logs)
        self.ends.append(spent)
        self.paused += spent  # an interval may go on in the next epoch
        print(f"epoch {epoch + 1} done", file=sys.stderr)

    def on_train_end(self, logs=None):
        self.tell("on_train_end", logs)


def measure(epochs):
    """Trains, and returns the finished `EveryOtherInterval` and the intervals of an epoch."""
    options = TrainOptions()
    images = dataset.load(options)
    model = training.build_model(options, images)
    with tempfile.TemporaryDirectory() as folder:
        recorders = observing.recorders(Run(Path(folder)), options, images)
        alternate = EveryOtherInterval(recorders, options.log_every_steps)
        model.fit(
            data.training_stream(images.train, batch_size=options.batch_size, seed=options.seed),
            epochs=epochs + 1,  # the first one traces
            steps_per_epoch=options.epoch_steps,
            callbacks=[alternate],
            shuffle=False,
            verbose=0,
        )
    return alternate, options.epoch_steps / options.log_every_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12, help="epochs of 250 steps (12)")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error(f"--epochs must be at least 2, not {options.epochs}.")
    times, per_epoch = measure(options.epochs)
    first = 2 * -(-int(per_epoch) // 2) + 2  # past the epoch that traces, at a plain interval
    times.intervals = times.intervals[first:]
    plain = statistics.median(times.intervals[::2])
    added = [
        (now - (before + after) / 2) / plain
        for before, now, after in zip(
            times.intervals[::2], times.intervals[1::2], times.intervals[2::2], strict=False
        )
    ]
    end = statistics.median(times.ends[1:])
    inside = statistics.median(times.inside[first // 2 :])
    in_turns = statistics.median(added) + end / per_epoch / plain
    error = statistics.stdev(added) / len(added) ** 0.5
    share = (inside + end / per_epoch) / plain
    print(
        f"Intervals of {plain:.3f} s, {inside:.4f} s more inside the callbacks where recorded; "
        f"{end:.3f} s at the end of each epoch of {per_epoch:g} intervals.\n"
        f"Recording adds {in_turns:.2%} in turns ({len(added)} times, standard error {error:.2%}), "
        f"{share:.2%} by the time inside; "
        f"{'within' if share <= LIMIT else 'NOT within'} {LIMIT:.0%}."
    )


if __name__ == "__main__":
    main()
