"""Kills trainings, resumes them, and compares what they leave with a training left alone.

    python tests/soak/kills.py                # 40 kills, at each kind of write and at any moment
    python tests/soak/kills.py --kills 4      # a few

A kill at a write comes from within: a hook of Python's own counts what the process does to files of
a kind, and ends it before the n-th. One at a moment comes from without: SIGKILL, or the signals
that ask for an end, once or twice. Each training is killed several times. Exits with 1 if the files
of one differ from those of the training left alone, by a bit, or if anything else is left over.
"""

import argparse
import collections
import dataclasses
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import runs  # noqa: E402

KINDS = (  # what a path holds that is of a kind, in the order of the first writes
    "config.json", "snapshot-", "step-", "tensorboard", "history.csv", "epoch-", "trajectory.npz",
    "model.keras", "network-ema.keras", "README.md", ".lock",
)  # fmt: skip
POLITE = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
A_RUN = 5  # kills of one training


@dataclasses.dataclass(frozen=True)
class AtWrite:
    """The n-th time that a file of a kind is opened to be written, renamed, removed or made."""

    kind: str
    count: int
    signal: int = signal.SIGKILL

    def arm(self):
        seen = collections.Counter()

        def hook(event, arguments):
            if event in ("os.rename", "os.remove", "os.mkdir") or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
            ):
                paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, (str, bytes))]
                if any(self.kind in path for path in paths):
                    seen[self.kind] += 1
                    if seen[self.kind] == self.count:
                        os.kill(os.getpid(), self.signal)

        sys.addaudithook(hook)

    def end(self, process):
        pass


@dataclasses.dataclass(frozen=True)
class AtMoment:
    """So many seconds after its start, by a signal that may come twice."""

    seconds: float
    signal: int
    twice: bool = False

    def arm(self):
        pass

    def end(self, process):
        time.sleep(self.seconds)
        os.kill(process, self.signal)
        if self.twice:
            time.sleep(0.05)
            os.kill(process, self.signal)


def moments(kills, seconds, choice):
    """So many moments to end a training of so many seconds at, most of them at a kind of write."""
    signals = [signal.SIGKILL, *POLITE]
    kinds = choice.sample(KINDS, len(KINDS))
    found = []
    for i in range(kills):
        kind, count = kinds[i % len(kinds)], choice.choice((1, 2, 3, 5))
        if i % 4 == 1:
            found.append(AtWrite("history.csv", choice.randrange(1, 6), signals[1 + i // 4 % 3]))
        elif i % 4 == 3:
            moment = choice.uniform(0, seconds), signals[i // 4 % 4], choice.random() < 0.5
            found.append(AtMoment(*moment))
        else:
            found.append(AtWrite(kind, count))
    return found


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args(arguments)
    runs.prepare()
    with tempfile.TemporaryDirectory() as folder:
        return soak(Path(folder), options)


def soak(folder, options):
    choice, killed, failures, number = random.Random(options.seed), collections.Counter(), 0, 0
    begin = time.monotonic()
    status = runs.wait(start(folder / "whole", options.replicas))
    seconds = time.monotonic() - begin
    if status:
        sys.exit(runs.output(folder / "whole"))
    while killed.total() < options.kills:
        number += 1
        planned = moments(min(A_RUN, options.kills - killed.total()), seconds, choice)
        found = tortured(folder / f"run-{number}", planned, options.replicas, killed)
        found += runs.differences(folder / "whole" / "run", folder / f"run-{number}" / "run")
        print(
            f"training {number}: {killed.total()} kills; {'; '.join(found) or 'the same'}",
            flush=True,
        )
        failures += bool(found)
    print(f"{killed.total()} kills in {number} trainings, {failures} of which differ.")
    print(", ".join(f"{name} {times}" for name, times in sorted(killed.items())))
    return bool(failures)


def start(folder, replicas, moment=None):
    """Starts a training, or goes on with it where it has begun."""
    begun = (folder / "run" / "config.json").exists()
    arguments = runs.RESUMED if begun else runs.FRESH + ["--strategy", "mirrored"] * (replicas > 1)

    def before():
        if replicas > 1:
            split_processor(replicas)
        if moment:
            moment.arm()

    return runs.start(folder, arguments, before)


def split_processor(replicas):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * replicas
    tf.config.set_logical_device_configuration(cpu, logical)


def tortured(folder, planned, replicas, killed):
    """Ends a training at these moments, then lets it finish; what went wrong, as lines."""
    found = []
    for moment in planned:
        process = start(folder, replicas, moment)
        moment.end(process)
        status = runs.wait(process)
        # A signal ends a process by itself that has not taken it over yet.
        if status in (-moment.signal, POLITE.get(moment.signal)):
            place = getattr(moment, "kind", "any moment")
            killed[f"{signal.Signals(moment.signal).name} at {place}"] += 1
        elif status:
            found.append(f"{moment} ended with {status}: {runs.output(folder)[-300:]}")
    status = runs.wait(start(folder, replicas))
    return found + [f"the end has status {status}: {runs.output(folder)[-300:]}"] * bool(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
