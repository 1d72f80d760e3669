"""How many small faults the tests find: puts them into the code one at a time, by mutmut.

    python tests/mutants.py --minutes 60        test faults for an hour, and count
    python tests/mutants.py noise samplers      of these modules only
    python tests/mutants.py --minutes 0         count what was tested before

A sample is taken, the same at every call. Verdicts are kept in mutants/, so the next
call goes on where this one stopped; a function that was changed since is tested anew, and
--survivors tests what survived once more. The tests that touch a fault's function are run, in a
process forked after the imports, so a fault takes a second or two. [tool.mutmut] in pyproject.toml
lists the modules and the tests.
"""

import argparse
import collections
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

FOUND = ("killed", "timeout")
# One thread each: the processes are forked, and share the cores.
THREADS = {f"TF_NUM_{kind}_THREADS": "1" for kind in ("INTRAOP", "INTEROP")}


def main():
    options = parser().parse_args()
    end = time.monotonic() + 60 * options.minutes
    if not verdicts():  # no faults have been made yet; that of a function that is there makes them
        mutmut(["ddpm_keras.noise.x_linear__mutmut_1"], end, options)
    names = [name for name, verdict in verdicts().items() if is_wanted(name, verdict, options)]
    mutmut(names, end, options)
    print(table(verdicts()))


def parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="such as noise or ema.decays (default: all)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long (60)")
    parser.add_argument("--one-in", type=int, default=5, help="size of the sample: 1 is all (5)")
    parser.add_argument("--processes", type=int, default=1, help="faults tested at a time (1)")
    parser.add_argument("--survivors", action="store_true", help="test those that survived again")
    return parser


def is_wanted(name, verdict, options):
    """Whether a fault is to be tested now; the sample goes by the names alone."""
    prefixes = tuple(f"ddpm_keras.{module}." for module in options.modules)
    if prefixes and not name.startswith(prefixes):
        return False
    if verdict == "not checked":
        return zlib.crc32(name.encode()) % options.one_in == 0
    return options.survivors and verdict not in FOUND


def mutmut(names, end, options):
    """Tests the faults of these names, until the time `end` at most."""
    if not names or time.monotonic() > end:
        return
    command = [Path(sys.executable).with_name("mutmut"), "run"]
    command += [f"--max-children={options.processes}", *names]
    process = subprocess.Popen(command, env=os.environ | THREADS)
    try:
        process.wait(end - time.monotonic())
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it saves what it knows
        process.wait()


def verdicts():
    """dict of the name of each fault -> what became of it."""
    command = [Path(sys.executable).with_name("mutmut"), "results", "--all", "true"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.strip().split(": ") for line in lines)


def table(verdicts):
    """A row for each module, and the names of what survived."""
    counts = collections.defaultdict(collections.Counter)
    for name, verdict in verdicts.items():
        module = name.partition(".x")[0]
        if verdict != "not checked":
            counts[module]["tested"] += 1
            counts[module]["found"] += verdict in FOUND
        counts[module]["made"] += 1
    counts["all"] = sum(counts.values(), collections.Counter())
    lines = [
        "| module | faults | tested | found | share |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for module, n in counts.items():
        share = f"{n['found'] / n['tested']:.0%}" if n["tested"] else "-"
        lines.append(f"| {module} | {n['made']} | {n['tested']} | {n['found']} | {share} |")
    left = [f"{k}: {v}" for k, v in verdicts.items() if v not in (*FOUND, "not checked")]
    return "\n".join([*lines, "", *left])


if __name__ == "__main__":
    main()
