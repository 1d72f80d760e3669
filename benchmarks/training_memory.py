"""Peak memory of training beside diffusers' on PyTorch, above what the imports take.

    make peers && python benchmarks/training_memory.py       # about 5 minutes on two CPU cores
    python benchmarks/training_memory.py --networks digits

Networks, batches and modes are those of training_speed.py, each in a process of its own.
"""

import argparse
import subprocess
import sys

from training_speed import IMPORTS, MODES, NETWORKS, PRECISIONS, STEPS, ways


def peak_memory(side, network, mode, steps=4):
    """Bytes that a process needs at most above what its imports take: for a new process."""
    IMPORTS[side]()
    before = resident("VmRSS")
    step = STEPS[side](network, mode)
    for _ in range(steps):
        step()
    return resident("VmHWM") - before


def resident(name):
    """Bytes of this process: "VmRSS" for those of now, "VmHWM" for the most there were."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def in_new_process(*way):
    command = [sys.executable, __file__, "--measure", *way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def report(network, held):
    """Lines of Markdown."""
    yield f"`{network}`, batch {NETWORKS[network][1]}"
    yield ""
    yield "| | peak memory, GB |"
    yield "| --- | --- |"
    for (side, mode), each in held.items():
        yield f"| {side}, {mode} | {each / 1e9:.2f} |"
    yield ""
    for precision in PRECISIONS:
        least = min(held["diffusers", mode] for mode in MODES["diffusers"] if precision in mode)
        share = least / held["ddpm_keras", precision]
        verdict = "reached" if share >= 1.0 else "NOT reached"
        yield f"diffusers needs {share:.2f} of ours in {precision}; at least 1: {verdict}."
        yield ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(peak_memory(*options.measure))
        return
    for network in options.networks:
        held = {(side, mode): in_new_process(side, network, mode) for side, mode in ways()}
        print("\n".join(report(network, held)), flush=True)


if __name__ == "__main__":
    main()
