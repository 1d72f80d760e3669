"""What moving averages cost: training steps with 0, 1 and 4 of them, taken in turns.

    python benchmarks/ema_overhead.py                       # both networks; about 15 minutes
    python benchmarks/ema_overhead.py --networks digits     # about two minutes

Run it on an idle machine. Three models of the same network take steps in turns, so that whatever
else changes with time hits all of them; the medians of each are compared. The same update is also
timed by itself, since its share of a long step is smaller than the scatter of such steps. Memory is
the growth of a process of its own, with four averages against one.
"""

import argparse
import ctypes
import gc
import multiprocessing
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

from ddpm_keras.ddpm import DDPM  # noqa: E402
from ddpm_keras.ema import EMA  # noqa: E402
from ddpm_keras.networks import UNet  # noqa: E402

COUNTS = (0, 1, 4)
DECAYS = (0.9, 0.99, 0.999, 0.9999)
UPDATES = 10  # that are timed together
NETWORKS = {
    # name: (arguments of UNet, batch size, steps in a turn, turns, limit for four averages)
    "digits": (
        dict(
            image_shape=(8, 8, 1),
            base_channels=32,
            channel_multipliers=(1, 2),
            num_res_blocks=1,
            attention_resolutions=(4,),
            dropout=0.0,
        ),
        *(128, 5, 20, 0.03),
    ),
    "cifar10": (dict(image_shape=(32, 32, 3)), *(128, 1, 5, 0.01)),
}


def make_step(arguments, batch_size, count):
    """A function that takes one training step, and its model."""
    keras.utils.set_random_seed(0)
    model = DDPM(UNet(**arguments), ema=EMA(DECAYS[:count]) if count else None)
    model.compile(keras.optimizers.Adam(2e-4, global_clipnorm=1.0))
    shape = (batch_size, *arguments["image_shape"])
    images = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    step = tf.function(lambda: model.train_step(images)["loss"])
    return step, model


def seconds(function, repeats=1):
    start = time.perf_counter()
    for _ in range(repeats):
        result = function()
    if result is not None:
        result.numpy()
    return (time.perf_counter() - start) / repeats


def resident_megabytes():
    """Resident size, after what is free has been given back to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def make_update(network, count=4):
    """A function that moves so many averages of a network `UPDATES` times, as steps do: in a graph.

    Called from outside, it would first be handed each weight.
    """
    ema = EMA(DECAYS[:count])
    ema.build(network.weights)

    def update(done):
        ema.update(network.weights)
        return (done + 1,)

    return tf.function(lambda: tf.while_loop(lambda done: done < UPDATES, update, (0,))[0])


def measure_memory(name):
    """Bytes a parameter of one more average, by the growth of this process with 1 and with 4.

    What both have in common, the traced graph and temporary arrays, cancels.
    """
    network = UNet(**NETWORKS[name][0])
    growth = {}
    for count in (1, 4, 1, 4):  # the first two load what TensorFlow needs
        before = resident_megabytes()
        update = make_update(network, count)
        for _ in range(3):
            update()
        growth[count] = resident_megabytes() - before
        del update
    return (growth[4] - growth[1]) * 2**20 / 3 / network.count_params()


def in_own_process(function, *arguments):
    """The result of a function in a process that gives memory back when it is freed.

    oneDNN's allocator keeps it, so that the size of a process would say little.
    """
    os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "262144"}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def run(name, turns=None):
    arguments, batch_size, repeats, usual, limit = NETWORKS[name]
    turns = turns or usual
    models = {count: make_step(arguments, batch_size, count) for count in COUNTS}
    for step, _ in models.values():
        seconds(step, 2)  # tracing, and the first touch of the memory
    times = {count: [] for count in COUNTS}
    for turn in range(turns):
        for place in range(len(COUNTS)):
            count = COUNTS[(turn + place) % len(COUNTS)]
            times[count].append(seconds(models[count][0], repeats))
    medians = {count: statistics.median(values) for count, values in times.items()}
    parameters = models[0][1].network.count_params()
    update = make_update(models[0][1].network)
    update()
    update = statistics.median(seconds(update) for _ in range(9)) / UPDATES
    memory = in_own_process(measure_memory, name)
    print(f"\n{name}: {parameters:,} parameters, batch {batch_size}, {turns} turns of {repeats}")
    for count, median in medians.items():
        ratio = median / medians[0]
        print(f"  {count} averages: median {median * 1e3:10.2f} ms a step, ratio {ratio:.4f}")
    share = update / medians[0]
    print(
        f"  the update of 4 by itself: {update * 1e3:.2f} ms, {share:.2%} of a step ({limit:.0%})"
    )
    print(f"  memory of one more average: {memory:.2f} bytes a parameter")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, help="of steps; by default 20, and 5 of cifar10")
    options = parser.parse_args()
    for name in options.networks:
        run(name, options.turns)


if __name__ == "__main__":
    main()
