"""How soon a training is saved and over when it is told to end, as machines are taken back.

    python benchmarks/preemption.py        # the network for CIFAR-10, 35.7M parameters; minutes

It trains as a user does, on batches of two images, so that a step takes seconds on a processor. A
SIGTERM comes in the middle of a step within an epoch, and in the last step of one, whose end would
take minutes. Both times are counted from the signal: until the checkpoint is on the disk, and until
the process is gone. They take in the rest of the step.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NETWORK = "--base-channels 128 --channel-multipliers 1 2 2 2 --num-res-blocks 2 --dropout 0.1"
OPTIONS = (
    f"{NETWORK} --attention-resolutions 16 --ema 0.99 0.999 0.9995 0.9999 --ema-schedule constant "
    "--batch-size 2 --epoch-steps 4 --steps 1000 --log-every-steps 1 --precision float32 "
    "--snapshots 0 --quality-every-epochs 0 --no-evaluate --dataset images.npy --run-dir run"
).split()


def rows(run):
    """How many steps history.csv tells of."""
    path = run / "history.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def wait_for(condition, process):
    while not condition():
        if process.poll() is not None:
            sys.exit(f"The training has ended with status {process.returncode}.")
        time.sleep(0.01)
    return time.monotonic()


def told_to_end(folder, after):
    """(seconds until all is saved, seconds until the process is gone), told in a step.

    Args:
        folder: where the run is, or begins.
        after: how many rows of the history there are before that step.
    """
    run = folder / "run"
    arguments = ["--resume", "--run-dir", "run"] if run.exists() else OPTIONS
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(folder / "output.txt", "w") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=folder, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            wait_for(lambda: rows(run) >= after, process)
            before = newest(run)
            time.sleep(0.5)
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            saved = wait_for(lambda: newest(run) > before, process) - begin
            assert process.wait(600) == 143, (folder / "output.txt").read_text()
            return saved, time.monotonic() - begin
        finally:
            process.kill()


def newest(run):
    """The step of the newest checkpoint that has its record."""
    records = sorted((run / "checkpoints").glob("*.json"))
    return json.loads(records[-1].read_text())["step"] if records else -1


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
        np.save(folder / "images.npy", images)
        for what, after in (("within an epoch", 1), ("in the last step of one", 3)):
            saved, gone = told_to_end(folder, after)
            print(f"{what}: saved after {saved:.1f} s, gone after {gone:.1f} s", flush=True)


if __name__ == "__main__":
    main()
