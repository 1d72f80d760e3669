"""What recording costs: epochs of training with and without it, taken in turns.

    python benchmarks/recording_cost.py                # the digits; about 8 minutes

Run it on an idle machine. One training of `train.py`'s defaults goes on throughout; in every second
epoch nothing is recorded. Recorded are losses, gradient norm, decays, distances of the averages,
the sketch of the path and the validation loss of every weight set, to history.csv, trajectory.npz
and TensorBoard. Each pair of neighbouring epochs gives a ratio; the median is compared.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ddpm_keras import command, config  # noqa: E402

LIMIT = 0.02


class EveryOtherEpoch(keras.callbacks.Callback):
    """Passes the events of every second epoch on to other callbacks, and times all epochs.

    Attributes:
        seconds: of each epoch, its end included; those with odd places were recorded.
    """

    def __init__(self, others):
        super().__init__()
        self.others = others
        self.seconds = []

    def tell(self, event, *arguments):
        for each in self.others:
            getattr(each, event)(*arguments)

    def on_train_begin(self, logs=None):
        for each in self.others:
            each.set_model(self.model)
        self.tell("on_train_begin", logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.recording = epoch % 2 == 1
        self.start = time.perf_counter()
        if self.recording:
            self.tell("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        if self.recording:
            self.tell("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if self.recording:
            self.tell("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.recording:
            self.tell("on_epoch_end", epoch, logs)
        self.seconds.append(time.perf_counter() - self.start)
        name = "recorded" if self.recording else "plain"
        print(f"epoch {epoch + 1}: {self.seconds[-1]:.2f} s, {name}", file=sys.stderr)

    def on_train_end(self, logs=None):
        self.tell("on_train_end", logs)


def measure(pairs):
    """(recorded - plain) / plain of each pair of epochs, after a first pair that traces."""
    from ddpm_keras import data, training
    from ddpm_keras.run import Run

    options = config.TrainOptions()
    images = training.load_data(options)
    model = training.build_model(options, images)
    with tempfile.TemporaryDirectory() as folder:
        alternate = EveryOtherEpoch(training.recorders(Run(Path(folder)), options, images))
        model.fit(
            data.training_stream(images.train, batch_size=options.batch_size, seed=options.seed),
            epochs=2 * (pairs + 1),
            steps_per_epoch=options.epoch_steps,
            callbacks=[alternate],
            shuffle=False,
            verbose=0,
        )
    plain, recorded = alternate.seconds[2::2], alternate.seconds[3::2]
    return plain, [b / a - 1.0 for a, b in zip(plain, recorded, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6, help="pairs of epochs (6)")
    options = parser.parse_args()
    command.load_tensorflow()
    plain, costs = measure(options.pairs)
    median = statistics.median(costs)
    print(
        f"Median epoch of {statistics.median(plain):.1f} s; recording adds {median:.2%} "
        f"(pairs: {', '.join(f'{cost:.2%}' for cost in costs)}); "
        f"{'within' if median <= LIMIT else 'NOT within'} {LIMIT:.0%}."
    )


if __name__ == "__main__":
    main()
