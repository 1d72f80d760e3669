"""Runs the benchmarks and writes what they print, with the machine named, to benchmarks/RESULTS.md.

    make bench                                              # all; about an hour on two CPU cores
    python benchmarks/publish.py training_speed_middle      # one; what is said of others stays

Run it on an idle machine.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE / "RESULTS.md"
BENCHMARKS = {
    # title: script, its arguments
    **{
        f"{script}_{network}": (script, "--networks", network, *rounds)
        for script, rounds in (("training_speed", ("--rounds", "4")), ("training_memory", ()))
        for network in ("middle", "digits", "published")
    },
    **{f"sampling_speed_{n}": ("sampling_speed", "--networks", n) for n in ("digits", "middle")},
    "first_step": ("first_step",),
    **{
        f"growth_{what}": ("growth", "--only", what)
        for what in ("batch", "width", "side", "averages", "recompute")
    },
    "ema_overhead_digits": ("ema_overhead", "--networks", "digits"),
    "ema_overhead_cifar10": ("ema_overhead", "--networks", "cifar10", "--turns", "1"),
    "recording_cost": ("recording_cost", "--epochs", "8"),
}
PACKAGES = "tensorflow", "keras", "torch", "diffusers"


def machine():
    """One line: processor, cores, Python and packages."""
    with open("/proc/cpuinfo") as described:
        processor = re.search(r"model name\s*: (.*)", described.read())[1]
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores of {processor}, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}."
    )


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def sections(page):
    """dict of name -> what the page says under it."""
    parts = re.split(r"^## (\w+)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def run(name):
    """What a benchmark says: its command, the machine and what it prints."""
    script, *arguments = BENCHMARKS[name]
    command = " ".join(["python", f"benchmarks/{script}.py", *arguments])
    script = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    printed = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    table = printed if "\n| " in printed else f"```\n{printed}\n```"
    return f"\n`{command}`, {machine()}\n\n{table}\n\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"There is no {', '.join(unknown)}: choose of {', '.join(BENCHMARKS)}.")
    found = sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    for name in options.names or BENCHMARKS:
        found[name] = run(name)
        text = "".join(f"## {each}\n{found[each]}" for each in BENCHMARKS if each in found)
        PAGE.write_text(f"# What the benchmarks measured\n\n{text}".rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
