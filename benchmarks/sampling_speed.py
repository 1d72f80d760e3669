"""One evaluation of the network in sampling, beside diffusers' `UNet2DModel` and `DDIMScheduler`.

    make peers && python benchmarks/sampling_speed.py       # about 5 minutes on two CPU cores
    python benchmarks/sampling_speed.py --networks digits --rounds 5

Run it on an idle machine. Both draw 16 images by DDIM, with the same network, in every mode that
they have; diffusers in inference mode, in the loop of its own pipelines. TensorFlow and PyTorch in
one process compete for threads, so each has a process of its own, and they take turns. Medians of
the best mode of each side are compared.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
import time

import training_speed  # beside this file

BATCH, LEAST = 16, 1.5
NETWORKS = {"digits": 50, "middle": 20}  # of training_speed.py; steps of the sampler
MODES = training_speed.MODES


# Each side gives a function that draws a batch once.


def keras_drawer(network, mode):
    training_speed.import_ddpm_keras()
    import keras

    from ddpm_keras import samplers
    from ddpm_keras.ddpm import DDPM
    from ddpm_keras.networks import UNet

    keras.utils.set_random_seed(0)
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[mode]
    model = DDPM(UNet(**training_speed.arguments_of(network), dtype=policy), ema=None)
    sampler = samplers.DDIM(NETWORKS[network])
    return lambda: model.sample(BATCH, sampler=sampler, batch_size=BATCH)


def diffusers_drawer(network, mode):
    unet = training_speed.import_diffusers()
    import torch
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    layout, precision = mode.split()
    layout = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
    config = training_speed.diffusers_config(network)
    model = unet(**config).eval().to(memory_format=layout)
    shape = (BATCH, config["in_channels"], config["sample_size"], config["sample_size"])
    scheduler = DDIMScheduler(1000, timestep_spacing="trailing")
    scheduler.set_timesteps(NETWORKS[network])
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def draw():
        x = torch.randn(shape).contiguous(memory_format=layout)
        with torch.inference_mode(), mixed:
            for t in scheduler.timesteps:
                x = scheduler.step(model(x, t).sample, t, x).prev_sample
        return x.float().numpy()

    return draw


DRAWERS = {"ddpm_keras": keras_drawer, "diffusers": diffusers_drawer}


def work(side):
    """Answers each line of the input, network and mode as JSON, by the seconds of one batch."""
    answer, sys.stdout = sys.stdout, sys.stderr
    drawers = {}
    for line in sys.stdin:
        way = tuple(json.loads(line))
        if way not in drawers:
            drawers[way] = DRAWERS[side](*way)
            drawers[way]()  # traces, compiles
        start = time.perf_counter()
        drawers[way]()
        print(time.perf_counter() - start, file=answer, flush=True)


def compare(network, rounds, ask):
    """dict of (side, mode) -> milliseconds of an evaluation, each time."""
    ways = [(side, mode) for side, modes in MODES.items() for mode in modes]
    times, steps = collections.defaultdict(list), NETWORKS[network]
    for number in range(rounds):
        for side, mode in ways if number % 2 else ways[::-1]:
            times[side, mode].append(ask(side, network, mode) * 1e3 / steps)
    return times


def report(network, times):
    """Lines of Markdown."""
    yield f"`{network}`, batch {BATCH}, DDIM with {NETWORKS[network]} steps\n"
    yield "| | median, ms an evaluation | least to most |\n| --- | --- | --- |"
    medians = {way: statistics.median(each) for way, each in times.items()}
    for (side, mode), each in times.items():
        spread = f"{min(each):.2f} to {max(each):.2f}"
        yield f"| {side}, {mode} | {medians[side, mode]:.2f} | {spread} |"
    best = {s: min((m for m in MODES[s]), key=lambda m: medians[s, m]) for s in MODES}
    ratio = medians["diffusers", best["diffusers"]] / medians["ddpm_keras", best["ddpm_keras"]]
    yield (
        f"\ndiffusers, {best['diffusers']}, takes {ratio:.2f} times as long as ddpm_keras, "
        f"{best['ddpm_keras']}; at least {LEAST}: {'reached' if ratio >= LEAST else 'NOT reached'}."
        "\n"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9, help="of turns (default: 9)")
    parser.add_argument("--worker", choices=DRAWERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    pipe = subprocess.PIPE
    processes = {
        side: subprocess.Popen(
            [sys.executable, __file__, "--worker", side], stdin=pipe, stdout=pipe, text=True
        )
        for side in DRAWERS
    }

    def ask(side, *way):
        print(json.dumps(way), file=processes[side].stdin, flush=True)
        return float(processes[side].stdout.readline())

    for network in options.networks:
        print(*report(network, compare(network, options.rounds, ask)), sep="\n", flush=True)
    for process in processes.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
