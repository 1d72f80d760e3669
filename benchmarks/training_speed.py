"""Training steps beside diffusers' on PyTorch: time, and share of the machine's peak.

    make peers && python benchmarks/training_speed.py       # about 5 minutes on two CPU cores
    python benchmarks/training_speed.py --networks digits --rounds 5
    python benchmarks/training_speed.py --profile middle bfloat16    # where a step's time goes

Run it on an idle machine. Both train the same network (a `UNet2DModel` of the same configuration)
on the same batch with Adam, gradient clipping and one moving average of the weights; each in every
mode it has. TensorFlow and PyTorch in one process compete for threads, so each has a process of its
own, which waits while the other makes its steps; turns follow one another, so that whatever else
changes with time hits all. Medians of the best mode of each side are compared.
"""

import argparse
import collections
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from metrics import load_torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

GROUPS = 8  # of all normalisations: a `UNet2DModel` has one number for all
NETWORKS = {
    # name: (arguments of UNet, batch, least ratio of diffusers' time to ours)
    "middle": (dict(image_shape=(32, 32, 3), channel_multipliers=(1, 2, 2)), 32, 1.5),
    "digits": (
        dict(image_shape=(8, 8, 1), channel_multipliers=(1, 2), attention_resolutions=(4,)),
        *(128, 1.4),
    ),
    "published": (
        dict(image_shape=(32, 32, 3), channel_multipliers=(1, 2, 2, 2), base_channels=128),
        *(8, 1.3),
    ),
}
COMMON = dict(base_channels=32, num_res_blocks=2, attention_resolutions=(16,), dropout=0.1)
PRECISIONS = "float32", "bfloat16"
MODES = {
    "ddpm_keras": PRECISIONS,
    "diffusers": tuple(
        " ".join(mode) for mode in itertools.product(("NCHW", "channels_last"), PRECISIONS)
    ),
}


def arguments_of(network):
    return COMMON | {"groups": GROUPS} | NETWORKS[network][0]


def images_of(network):
    import numpy as np

    shape = (NETWORKS[network][1], *NETWORKS[network][0]["image_shape"])
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# What is timed: each side gives a function that makes a step and waits for it.


def import_ddpm_keras():
    os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it
    from ddpm_keras.app import console

    console.load_tensorflow()
    import ddpm_keras.ddpm  # noqa: F401


def keras_step(network, mode):
    import keras
    import tensorflow as tf

    from ddpm_keras.ddpm import DDPM
    from ddpm_keras.networks import UNet

    keras.utils.set_random_seed(0)
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[mode]
    model = DDPM(UNet(**arguments_of(network), dtype=policy), ema=0.999)
    model.compile(keras.optimizers.Adam(2e-4, global_clipnorm=1.0))
    model.optimizer.build(model.trainable_variables)
    images = tf.constant(images_of(network))
    step = tf.function(lambda: model.train_step(images)["loss"], autograph=False)
    return lambda: float(step())


def import_diffusers():
    torch = load_torch()
    import diffusers

    torch.set_num_threads(os.cpu_count())
    return diffusers.UNet2DModel  # which is imported when it is asked for


def diffusers_config(network):
    """The `UNet2DModel` of the same shape."""
    given = arguments_of(network)
    height, channels = given["image_shape"][0], given["image_shape"][2]
    multipliers = given["channel_multipliers"]
    attention = [height // 2**i in given["attention_resolutions"] for i in range(len(multipliers))]
    return dict(
        sample_size=height,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=[given["base_channels"] * each for each in multipliers],
        down_block_types=["AttnDownBlock2D" if each else "DownBlock2D" for each in attention],
        up_block_types=["AttnUpBlock2D" if each else "UpBlock2D" for each in attention[::-1]],
        layers_per_block=given["num_res_blocks"],
        norm_num_groups=given["groups"],
        dropout=given["dropout"],
        norm_eps=1e-6,
        downsample_padding=0,
        attention_head_dim=None,
        freq_shift=1,
        flip_sin_to_cos=False,
    )


def torch_step(network, mode):
    import diffusers
    import torch

    torch.manual_seed(0)
    layout, precision = mode.split()
    layout = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
    model = diffusers.UNet2DModel(**diffusers_config(network)).train().to(memory_format=layout)
    parameters = list(model.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, 2e-4, fused=True)
    cumprod = torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, 1000), 0)
    images = torch.tensor(images_of(network)).permute(0, 3, 1, 2)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def step():
        x = (images.float() / 127.5 - 1.0).contiguous(memory_format=layout)
        t = torch.randint(0, 1000, (len(x),))
        epsilon = torch.randn_like(x)
        signal = cumprod[t][:, None, None, None]
        with mixed:
            found = model(signal.sqrt() * x + (1 - signal).sqrt() * epsilon, t).sample
        loss = torch.nn.functional.mse_loss(found.float(), epsilon)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1e-3)
        return float(loss.detach())

    return step


IMPORTS = {"ddpm_keras": import_ddpm_keras, "diffusers": import_diffusers}
STEPS = {"ddpm_keras": keras_step, "diffusers": torch_step}


def flops(network):
    """Floating point operations of a step in convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    step = torch_step(network, "NCHW float32")
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak(precision, size=2048):
    """FLOP/s of a matrix product."""
    import tensorflow as tf

    x = tf.cast(tf.random.normal((size, size)), precision)
    product = tf.function(lambda: tf.matmul(x, x)[0, 0], autograph=False)
    product()
    return 2 * size**3 / min(seconds(product) for _ in range(10))


def ways():
    """Each (side, mode)."""
    return [(side, mode) for side, modes in MODES.items() for mode in modes]


def seconds(function):
    start = time.perf_counter()
    result = function()
    getattr(result, "numpy", float)()
    return time.perf_counter() - start


# A process for each side.


def work(side):
    """Answers each line of the input, a call as JSON, by a line with its result."""
    answer, sys.stdout = sys.stdout, sys.stderr
    IMPORTS[side]()
    steps = {}

    def prepare(network, mode):
        steps[network, mode] = STEPS[side](network, mode)
        return [seconds(steps[network, mode]) for _ in range(3)]

    def time_steps(network, mode, count):
        return [seconds(steps[network, mode]) for _ in range(count)]

    calls = dict(prepare=prepare, time_steps=time_steps, flops=flops, peak=peak)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(calls[name](*arguments)), file=answer, flush=True)


class Worker:
    """The process of one side: `worker(name, *arguments)` calls a function of `work` there."""

    def __init__(self, side):
        command = [sys.executable, __file__, "--worker", side]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __call__(self, *call):
        print(json.dumps(call), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def compare(network, rounds, workers):
    """dict of (side, mode) -> seconds of each step."""
    times = collections.defaultdict(list)
    for side, mode in ways():
        print(f"{network}: {side}, {mode} is prepared ...", file=sys.stderr)
        workers[side]("prepare", network, mode)
    for number in range(rounds):
        for side, mode in ways() if number % 2 else ways()[::-1]:
            times[side, mode] += workers[side]("time_steps", network, mode, 2)
    return times


# What is told.


def report(network, times, operations, peaks):
    """Lines of Markdown."""
    least = NETWORKS[network][2]
    best = {
        side: min(modes, key=lambda mode: statistics.median(times[side, mode]))
        for side, modes in MODES.items()
    }
    yield f"`{network}`, batch {NETWORKS[network][1]}, {operations / 1e9:.1f} GFLOP a step"
    yield ""
    yield "| | median, ms | 10th to 90th percentile | share of the peak |"
    yield "| --- | --- | --- | --- |"
    for (side, mode), each in times.items():
        median, deciles = statistics.median(each), statistics.quantiles(each, n=10)
        share = operations / median / peaks[mode.split()[-1]]
        yield (
            f"| {side}, {mode} | {median * 1e3:.1f} | {deciles[0] * 1e3:.1f} to "
            f"{deciles[-1] * 1e3:.1f} | {share:.0%} |"
        )
    ratio = statistics.median(times["diffusers", best["diffusers"]]) / statistics.median(
        times["ddpm_keras", best["ddpm_keras"]]
    )
    yield ""
    yield (
        f"diffusers, {best['diffusers']}, takes {ratio:.2f} times as long as ddpm_keras, "
        f"{best['ddpm_keras']}; at least {least}: {'reached' if ratio >= least else 'NOT reached'}."
    )
    yield ""


def profile(network, mode, lines=30):
    """Prints what a step's time goes to, by kind of operation."""
    import_ddpm_keras()
    import tensorflow as tf

    step = keras_step(network, mode)
    for _ in range(3):
        step()
    whole = statistics.median(seconds(step) for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            step()
        (path,) = Path(folder).rglob("*.xplane.pb")
        spent, count = operations_in(path.read_bytes())
    print(f"{whole * 1e3:.1f} ms a step; by operation (some run side by side):")
    for kind, picoseconds in spent.most_common(lines):
        print(f"{picoseconds / 1e9:8.2f} ms {count[kind]:6d} x {kind}")


def operations_in(profiled):
    """Time and number by kind of operation; what XLA compiled is one kind."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(profiled)
    spent, count = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for event in itertools.chain.from_iterable(line.events for line in plane.lines):
            name = plane.event_metadata[event.metadata_id].name
            kind = re.fullmatch(r"[^:]+:(\w+)", name)
            if kind or name.startswith("CpuExecutable"):
                kind = kind[1] if kind else "compiled by XLA"
                spent[kind] += event.duration_ps
                count[kind] += 1
    return spent, count


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=8, help="turns of two steps each (8)")
    parser.add_argument("--profile", nargs=2, metavar=("NETWORK", "PRECISION"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
    elif options.profile:
        profile(*options.profile)
    else:
        workers = {side: Worker(side) for side in MODES}
        peaks = {precision: workers["ddpm_keras"]("peak", precision) for precision in PRECISIONS}
        described = ", ".join(f"{peaks[each] / 1e9:.0f} in {each}" for each in PRECISIONS)
        print(f"Peak of a matrix product, GFLOP/s: {described}.\n")
        for network in options.networks:
            times = compare(network, options.rounds, workers)
            operations = workers["diffusers"]("flops", network)
            lines = report(network, times, operations, peaks)
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
