"""Kills one of two workers at random moments, and compares what is left with what never stopped.

    python tests/soak/kill_workers.py                    # 10 kills, about 10 minutes
    python tests/soak/kill_workers.py --kills 1          # about a minute

A training of two processes is killed (SIGKILL, in the chief or in the other) at a random moment, a
signal to stop (SIGTERM) every third time. The other process has to end by itself with one line.
Then both go on. In the end every file must be that of a training that was never stopped, but for
times and names, and nothing else be left.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import runs  # noqa: E402
from local_workers import configurations  # noqa: E402

STEPS, EPOCH, EVERY = 120, 10, 5
SMALL = (
    "--channel-multipliers 1 --base-channels 4 --attention-resolutions --timesteps 20 "
    f"--batch-size 16 --steps {STEPS} --log-every-steps {EVERY} --epoch-steps {EPOCH} "
    "--ema 0.5 0.9 --validation-images 8 --quality-every-epochs 0 --snapshots 6 --no-evaluate"
).split()
LONGEST = 90  # seconds in which a process must notice that the other is gone


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(Path(folder), options.kills, random.Random(options.seed)))


def soak(folder, kills, chance):
    """One line on what was survived.

    Args:
        folder: an empty one.
        kills: how many.
        chance: a `random.Random`.
    """
    whole = folder / "whole"
    length, times = finish(whole), []
    for number in itertools.count():
        stopped = folder / f"stopped-{number}"
        while len(times) < kills:
            took = kill(stopped, length, len(times), chance)
            if took is None:
                break
            times.append(took)
        finish(stopped)
        differences = runs.differences(whole / "run", stopped / "run")
        assert not differences, differences
        if len(times) == kills:
            break
    return (
        f"{kills} kills in {number + 1} trainings; the other process ended within "
        f"{max(times, default=0):.1f} s; all is as never stopped"
    )


def finish(folder):
    """Trains to the end; seconds from the first step to the end."""
    processes = start(folder)
    begin = wait_for_first_step(folder, processes)
    for process, text in zip(processes, map(output, processes), strict=True):
        assert process.returncode == 0, text
    return time.monotonic() - begin


def kill(folder, length, number, chance):
    """Ends a training at a random moment.

    Returns:
        The seconds until the process that was spared ends, too; None if all was over before.
    """
    processes = start(folder)
    wait_for_first_step(folder, processes)
    time.sleep(chance.uniform(0, 0.8 * length))
    if any(process.poll() is not None for process in processes):
        said = [output(process) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        return None
    over = (0,) if steps(folder) >= STEPS - EPOCH else ()  # what it ends with may come first
    killed = chance.randrange(2)
    how = signal.SIGTERM if number % 3 == 2 else signal.SIGKILL
    begin = time.monotonic()
    processes[killed].send_signal(how)
    text = output(processes[1 - killed])
    took, status = time.monotonic() - begin, processes[1 - killed].returncode
    output(processes[killed])
    who = "the other" if killed else "the chief"
    print(f"{how.name} of {who}: the one that is left ended with {status} after {took:.1f} s")
    assert "Traceback" not in text and took < LONGEST, text
    assert status in (130 if how == signal.SIGTERM else 75, *over), text
    assert status != 75 or len([x for x in text.splitlines() if "is gone" in x]) == 1, text
    return took


def start(folder):
    """Both processes of a training of folder/run, which goes on where there is something of it."""
    folder.mkdir(exist_ok=True)
    goes_on = (folder / "run" / "config.json").exists()
    arguments = ["--resume"] if goes_on else [*SMALL, "--strategy", "multiworker"]
    processes = []
    for configuration in configurations(2):
        environment = os.environ | {"TF_CONFIG": configuration, "CUDA_VISIBLE_DEVICES": ""}
        processes.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments, "--run-dir", "run"],
                cwd=folder,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    return processes


def wait_for_first_step(folder, processes):
    """Returns when the history has a new row, or a process has ended: the time."""
    before = size(folder)
    while size(folder) == before and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    return time.monotonic()


def size(folder):
    path = folder / "run" / "history.csv"
    return path.stat().st_size if path.exists() else 0


def steps(folder):
    """How many steps the history has."""
    return EVERY * ((folder / "run" / "history.csv").read_bytes().count(b"\n") - 1)


def output(process):
    """What a process prints until it ends by itself."""
    try:
        return process.communicate(timeout=240)[0]
    finally:
        process.kill()


if __name__ == "__main__":
    main()
