"""What checking every batch costs: training steps with and without the checks, taken in turns.

    python benchmarks/input_checks.py              # the digits; about three minutes

Run it on an idle machine. Two models of the same network are trained in turns, a step each, on
float images, whose every batch is checked for its range, with labels, whose every batch is checked
too; one of them checks neither its batches nor whether its gradients are finite. The order changes
from turn to turn, and the ratio of the medians is reported. The checks of one batch are also run by
themselves, which is steadier on a machine whose speed swings.
"""

import argparse
import logging
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras.app import console  # noqa: E402

console.load_tensorflow()
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from ddpm_keras.data import load  # noqa: E402
from ddpm_keras.ddpm import DDPM  # noqa: E402
from ddpm_keras.ema.steps import global_norm  # noqa: E402
from ddpm_keras.networks import UNet  # noqa: E402

LIMIT = 0.005
BATCH_SIZE = 64


class Unchecked(DDPM):
    """A `DDPM` that looks neither at its batches nor for numbers that are not finite."""

    def checked(self, step):
        return step

    def _apply_step(self, gradients, loss, statistics):
        before = tf.identity(self.optimizer.iterations)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.ema.update(
            self.network.weights, tf.convert_to_tensor(self.optimizer.iterations) > before
        )
        self.train_counter.assign_add(1)
        return global_norm(gradients)


def make_model(kind):
    """A compiled model of the network that `train.py` has for the digits, with ten classes."""
    keras.utils.set_random_seed(0)
    network = UNet((8, 8, 1), 32, (1, 2), 1, (4,), dropout=0.0, num_classes=10)
    model = kind(network, ema=(0.99, 0.999))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    return model


def seconds(model, batches):
    start = time.perf_counter()
    float(model.train_function(batches)["loss"])
    return time.perf_counter() - start


def checks_alone(model, images, calls=2000):
    """(operations, seconds) of the assertions of one batch, run by themselves.

    The seconds are the median of a call less that of a function of the same batch that does
    nothing. In a step the checks can run beside other operations, so this is the most they cost.
    """

    def check(*batch):
        model.inputs_taken.assertions(*batch)

    functions = [
        tf.function(each, autograph=False).get_concrete_function(*images.element_spec)
        for each in (check, lambda *batch: None)
    ]
    batch = next(iter(images))
    taken = [[], []]
    for _ in range(calls):
        for times, function in zip(taken, functions, strict=True):
            start = time.perf_counter()
            function(*batch)
            times.append(time.perf_counter() - start)
    operations = len(functions[0].graph.get_operations()) - len(batch)
    return operations, statistics.median(taken[0]) - statistics.median(taken[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1000, help="steps of each model (1000)")
    turns = parser.parse_args().turns
    if turns < 2:
        parser.error(f"--turns must be at least 2, not {turns}.")
    digits = load("digits")
    floats = digits.train / np.float32(127.5) - 1
    images = tf.data.Dataset.from_tensor_slices((floats, digits.train_labels))
    images = images.repeat().batch(BATCH_SIZE, drop_remainder=True).prefetch(2)
    logging.getLogger("ddpm_keras").setLevel("ERROR")  # such runs are short for an average
    models = [make_model(DDPM), make_model(Unchecked)]
    for model in models:
        model.fit(images, steps_per_epoch=5, verbose=0, shuffle=False)  # traces
    batches, taken = iter(images), {DDPM: [], Unchecked: []}
    for turn in range(turns):
        for model in models if turn % 2 else models[::-1]:
            taken[type(model)].append(seconds(model, batches))
    with_checks, without = (np.array(taken[kind]) for kind in (DDPM, Unchecked))
    step = statistics.median(without)
    operations, alone = checks_alone(models[0], images)
    low, high = np.percentile(medians_ratio(with_checks, without), (2.5, 97.5)) - 1
    print(
        f"checks of a batch by themselves: {operations} operations, {1e6 * alone:.0f} us, "
        f"{alone / step:.2%} of a step of {1000 * step:.2f} ms "
        f"({'within' if alone <= LIMIT * step else 'NOT within'} {LIMIT:.1%})\n"
        f"steps with all checks take {statistics.median(with_checks) / step - 1:+.2%} (95%: "
        f"{low:+.2%} to {high:+.2%}; {turns} turns)"
    )


def medians_ratio(numerator, denominator, draws=2000):
    """The ratio of the medians of turns drawn again with replacement, (draws,)."""
    rows = np.random.default_rng(0).integers(len(numerator), size=(draws, len(numerator)))
    return np.median(numerator[rows], axis=1) / np.median(denominator[rows], axis=1)


if __name__ == "__main__":
    main()
