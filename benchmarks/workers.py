"""What workers have to tell each other: the time of an all-reduce against bytes and workers.

    python benchmarks/workers.py            # 2 and 4 processes on this machine; about 2 minutes

Every worker is a process of this machine that talks to the others through its network interface of
the loopback. A ring all-reduce of B bytes by W workers takes, by the model of docs/scaling.md,

    2 (W - 1) latency + 2 (W - 1) / W * B / bandwidth.

Both numbers are fitted to what two workers take; the prediction for more is compared with what they
take.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from local_workers import configurations  # noqa: E402

BYTES = (4e3, 4e5, 4e6, 4e7)
TIMES = 9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    counts = parser.parse_args().workers
    taken = {count: measured(count) for count in counts}
    latency, bandwidth = fitted(counts[0], taken[counts[0]])
    print(f"latency {1e3 * latency:.2f} ms, bandwidth {bandwidth / 1e9:.2f} GB/s", flush=True)
    for count in counts:
        for size, seconds in zip(BYTES, taken[count], strict=True):
            model = predicted(count, size, latency, bandwidth)
            print(
                f"{count} workers, {size / 1e6:8.3f} MB: {1e3 * seconds:8.2f} ms measured, "
                f"{1e3 * model:8.2f} by the model, {seconds / model:.2f} times"
            )


def predicted(count, size, latency, bandwidth):
    """Seconds of a ring all-reduce by the model."""
    return 2 * (count - 1) * latency + 2 * (count - 1) / count * size / bandwidth


def fitted(count, seconds):
    """(latency, bandwidth) that are nearest to times, each weighted by its inverse."""
    columns = [[2 * (count - 1), 2 * (count - 1) / count * size] for size in BYTES]
    rows = np.array(columns) / np.array(seconds)[:, np.newaxis]
    latency, inverse = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
    return latency, 1 / inverse


def measured(count):
    """Median seconds of an all-reduce of each size by so many processes."""
    processes = []
    for configuration in configurations(count):
        environment = os.environ | {"TF_CONFIG": configuration, "CUDA_VISIBLE_DEVICES": ""}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        command = [sys.executable, __file__]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate()[0] for process in processes]
    return json.loads(outputs[0])


def work():
    """The part of one worker: prints the times of `measured`."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None])])
    def summed(numbers):
        def of_replica():
            own = tf.identity(numbers)  # on the device of the replica
            return tf.distribute.get_replica_context().all_reduce("SUM", own)

        return strategy.experimental_local_results(strategy.run(of_replica))[0][0]

    medians = []
    for size in BYTES:
        numbers, seconds = tf.ones([int(size) // 4]), []
        for _ in range(TIMES + 2):
            begin = time.perf_counter()
            summed(numbers).numpy()
            seconds.append(time.perf_counter() - begin)
        medians.append(statistics.median(seconds[2:]))
    print(json.dumps(medians))


if __name__ == "__main__":
    work() if "TF_CONFIG" in os.environ else main()
