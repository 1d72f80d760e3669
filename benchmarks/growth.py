"""How time and memory of a training step grow: with batch, width, side, and number of averages.

    python benchmarks/growth.py               # about 10 minutes on two CPU cores
    python benchmarks/growth.py --only batch

Run it on an idle machine. Each size is trained in a process of its own, for the median time of its
steps and for its peak memory above what the imports take. The exponent of a growth is the slope of
a straight line through the logarithms of the values; beside it is that of the work, the operations
of the network's convolutions and matrix products, above which no time should grow. The number of
averages may be 0, so its growth is a ratio. The last table is the price of computing again what is
not kept for the gradients.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys

from training_memory import resident
from training_speed import import_ddpm_keras, seconds

BASE = dict(image_shape=(16, 16, 3), base_channels=32, channel_multipliers=(1, 2), num_res_blocks=1)
BASE |= dict(attention_resolutions=(), dropout=0.1)
MIDDLE = BASE | dict(
    image_shape=(32, 32, 3),
    channel_multipliers=(1, 2, 2),
    num_res_blocks=2,
    attention_resolutions=(16,),
)
SIZES = {
    "batch": [(n, dict(batch=n)) for n in (8, 32, 128, 256)],
    "width": [(n, dict(network=dict(base_channels=n))) for n in (32, 64, 128)],
    "side": [(n, dict(network=dict(image_shape=(n, n, 3)))) for n in (8, 16, 32, 64)],
    "averages": [(n, dict(averages=n)) for n in (0, 1, 4, 8)],
    "recompute": [(n, dict(network=MIDDLE | dict(recompute=bool(n)))) for n in (0, 1)],
}


def measure(network=None, batch=32, averages=1, steps=9):
    """Seconds of a step, bytes at the peak and operations of a forward pass: for a new process."""
    import_ddpm_keras()
    import keras
    import numpy as np
    import tensorflow as tf

    from ddpm_keras import DDPM, EMA, UNet

    before = resident("VmRSS")
    unet = UNet(**(BASE | (network or {})))
    decays = [1 - 0.1**n for n in range(1, averages + 1)]
    model = DDPM(unet, ema=EMA(decays) if decays else None)
    model.compile(keras.optimizers.Adam(2e-4, global_clipnorm=1.0))
    model.optimizer.build(model.trainable_variables)
    shape = (batch, *unet.image_shape)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    step = tf.function(lambda: model.train_step(images)["loss"], autograph=False)
    times = [seconds(step) for _ in range(steps + 3)][3:]
    return {
        "seconds": statistics.median(times),
        "bytes": resident("VmHWM") - before,
        "work": batch * operations(unet),
    }


def operations(unet):
    """Multiplications and additions of the convolutions and attentions for one image."""
    return sum(map(_operations, unet.layers))


def _operations(layer):
    if type(layer).__name__ == "ResidualBlock":
        convolutions = [layer.conv1, layer.conv2, layer.shortcut]
        places = math.prod(layer.output.shape[1:3])
        return sum(2 * places * math.prod(c.kernel.shape) for c in convolutions if c)
    if type(layer).__name__ == "AttentionBlock":
        _, height, width, channels = layer.output.shape
        places = height * width
        return 8 * places * channels**2 + 4 * places**2 * channels
    if type(layer).__name__ == "Conv2D":
        return 2 * math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    return 0


def exponent(sizes, values):
    """Slope of a straight line through the logarithms."""
    return statistics.linear_regression(*([math.log(v) for v in each] for each in (sizes, values)))[
        0
    ]


def in_new_process(arguments):
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(name, sizes, found):
    """Lines of Markdown."""
    yield f"| {name} | ms a step | peak memory, GB | GFLOP forward |"
    yield "| --- | --- | --- | --- |"
    for size, each in zip(sizes, found, strict=True):
        work = each["work"] / 1e9
        yield f"| {size} | {each['seconds'] * 1e3:.1f} | {each['bytes'] / 1e9:.3f} | {work:.2f} |"
    yield ""
    if name in ("averages", "recompute"):
        first, last = found[0], found[-1]
        time = last["seconds"] / first["seconds"]
        memory = last["bytes"] / first["bytes"]
        yield f"{sizes[-1]} against {sizes[0]}: {time:.3f} times the time, {memory:.3f} the memory."
    else:
        slopes = {k: exponent(sizes, [each[k] for each in found]) for k in found[0]}
        verdict = "above" if slopes["seconds"] > slopes["work"] + 0.05 else "not above"
        yield (
            f"Exponents: time {slopes['seconds']:.2f}, memory {slopes['bytes']:.2f}, "
            f"work {slopes['work']:.2f}: {verdict} its work."
        )
    yield ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
        return
    for name in options.only:
        sizes, arguments = zip(*SIZES[name], strict=True)
        print("\n".join(report(name, sizes, list(map(in_new_process, arguments)))), flush=True)


if __name__ == "__main__":
    main()
