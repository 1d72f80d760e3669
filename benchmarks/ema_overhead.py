"""What moving averages cost: training steps with 0, 1 and 4 of them, taken in turns.

    python benchmarks/ema_overhead.py                       # both networks; about 20 minutes
    python benchmarks/ema_overhead.py --networks digits     # about a minute

Run it on an idle machine. Three models of the same network take steps in turns, so that whatever
else changes with time hits all of them; the medians of each are compared. The same update is also
timed by itself, since its share of a long step is smaller than the scatter of such steps. For
memory, the resident size of the process is read before and after the averages are created and
moved.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from ddpm_keras import DDPM, EMA, UNet

COUNTS = (0, 1, 4)
DECAYS = (0.9, 0.99, 0.999, 0.9999)
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
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure_update(model):
    """Seconds of one update of four averages by itself, and the memory they take in megabytes."""
    ema = EMA(DECAYS)
    before = resident_megabytes()
    ema.build(model.network.weights)

    @tf.function
    def update():
        ema.update(model.network.weights)

    update()
    memory = resident_megabytes() - before
    return statistics.median(seconds(update) for _ in range(20)), memory


def run(name):
    arguments, batch_size, repeats, turns, limit = NETWORKS[name]
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
    update, memory = measure_update(models[0][1])
    print(f"\n{name}: {parameters:,} parameters, batch {batch_size}, {turns} turns of {repeats}")
    for count, median in medians.items():
        ratio = median / medians[0]
        print(f"  {count} averages: median {median * 1e3:10.2f} ms a step, ratio {ratio:.4f}")
    share = update / medians[0]
    print(
        f"  the update of 4 by itself: {update * 1e3:.2f} ms, {share:.2%} of a step ({limit:.0%})"
    )
    expected = len(DECAYS) * parameters * 4 / 2**20
    print(f"  memory of 4 averages: {memory:.1f} MiB, at 4 bytes a parameter {expected:.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    for name in parser.parse_args().networks:
        run(name)


if __name__ == "__main__":
    main()
