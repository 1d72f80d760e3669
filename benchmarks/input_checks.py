"""What checking every batch costs: training steps with and without the checks, taken in turns.

    python benchmarks/input_checks.py              # the digits; about three minutes

Run it on an idle machine. Two models of the same network are fitted in turns on float images, whose
every batch is checked for its range, with labels, whose every batch is checked too; in one of them
Keras' own function of the step stands in for the checked one. The order within a turn changes from
turn to turn, and the medians of the ratio of each turn are reported. The operations that the checks
add to the graph are counted.
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
from ddpm_keras.networks import UNet  # noqa: E402

LIMIT = 0.005
BATCH_SIZE, STEPS = 64, 25  # of a turn


class Unchecked(DDPM):
    """A `DDPM` whose steps are those of Keras."""

    def checked(self, step):
        return step


def make_model(kind):
    """A compiled model of the network that `train.py` has for the digits, with ten classes."""
    keras.utils.set_random_seed(0)
    network = UNet((8, 8, 1), 32, (1, 2), 1, (4,), dropout=0.0, num_classes=10)
    model = kind(network, ema=(0.99, 0.999))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    return model


def seconds(model, images):
    start = time.perf_counter()
    model.fit(images, steps_per_epoch=STEPS, verbose=0, shuffle=False)
    return (time.perf_counter() - start) / STEPS


def operations(model, images):
    """The number of operations of the assertions of one batch."""

    def check(*batch):
        model.inputs_taken.assertions(*batch)

    graph = tf.function(check, autograph=False).get_concrete_function(*images.element_spec).graph
    return len(graph.get_operations()) - len(images.element_spec)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help="turns of both models (40)")
    turns = parser.parse_args().turns
    if turns < 2:
        parser.error(f"--turns must be at least 2, not {turns}.")
    digits = load("digits")
    floats = digits.train / np.float32(127.5) - 1
    images = tf.data.Dataset.from_tensor_slices((floats, digits.train_labels))
    images = images.repeat().batch(BATCH_SIZE).prefetch(2)
    logging.getLogger("ddpm_keras").setLevel("ERROR")  # such runs are short for an average
    models = [make_model(DDPM), make_model(Unchecked)]
    for model in models:
        seconds(model, images)  # traces
    ratios, plain = [], []
    for turn in range(turns):
        order = models if turn % 2 else models[::-1]
        taken = {type(model): seconds(model, images) for model in order}
        ratios.append(taken[DDPM] / taken[Unchecked] - 1)
        plain.append(taken[Unchecked])
    median = statistics.median(ratios)
    error = 1.2533 * statistics.stdev(ratios) / len(ratios) ** 0.5  # of a median
    print(
        f"{operations(models[0], images)} operations more; steps of "
        f"{1000 * statistics.median(plain):.2f} ms; checking adds {median:.2%} "
        f"(standard error {error:.2%}, {turns} turns); "
        f"{'within' if median <= LIMIT + error else 'NOT within'} {LIMIT:.1%}."
    )


if __name__ == "__main__":
    main()
