"""Where the seconds go until the first step of a training is finished.

    python benchmarks/first_step.py                # the command, then the library
    python benchmarks/first_step.py --of library   # `fit` of a digits-like model alone

Each runs in a process of its own, from its start. What is in docs/benchmarks/first_step.txt
was printed by this on idle cores.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "FIRST_STEP_BEGIN"  # when the process was started


class Clock:
    """Marks of time with what came before each of them."""

    def __init__(self):
        self.marks = [("", float(os.environ[BEGIN]))]

    def mark(self, what):
        self.marks.append((what, time.time()))

    def after(self, owner, name, what):
        """Marks the time when a function of a module or class has returned."""
        function = getattr(owner, name)

        def marked(*args, **kwargs):
            result = function(*args, **kwargs)
            self.mark(what)
            return result

        setattr(owner, name, marked)

    def before(self, owner, name, what):
        """Marks the time when a function of a module or class is called."""
        function = getattr(owner, name)

        def marked(*args, **kwargs):
            self.mark(what)
            return function(*args, **kwargs)

        setattr(owner, name, marked)

    def watch_training(self):
        """Marks the first trace and the first step, after which the process ends."""
        import keras

        from ddpm_keras import DDPM

        self.before(DDPM, "train_step", "fit: checks, data, until the trace")
        self.after(DDPM, "train_step", "trace of the step")
        clock = self

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                clock.mark("graph made ready, first step")
                clock.show()
                os._exit(0)

        return Watch()

    def show(self):
        begin, end = self.marks[0][1], self.marks[-1][1]
        lines = ["| | seconds |", "| --- | --- |"]
        for (_, before), (what, after) in zip(self.marks, self.marks[1:], strict=False):
            lines.append(f"| {what} | {after - before:.2f} |")
        lines.append(f"| in all | {end - begin:.2f} |")
        print(*lines, sep="\n", file=sys.__stdout__, flush=True)


def command(arguments):
    """`python train.py`, in a run directory that is forgotten."""
    clock = Clock()
    sys.path.insert(0, str(ROOT))
    import train
    from ddpm_keras.app import console

    clock.before(console, "load_tensorflow", "Python, options")

    def loaded():
        from ddpm_keras.app import training

        clock.mark("import of Keras and of this package")
        for name, what in (
            ("load_data", "images"),
            ("build_model", "network, optimizer, averages"),
            ("observers", "callbacks"),
            ("announce", "config.json, what is said"),
        ):
            clock.after(training, name, what)
        watch = clock.watch_training()
        observers = training.observers
        training.observers = lambda *given: [*observers(*given), watch]

    load = console.load_tensorflow

    def load_and_mark():
        load()
        clock.mark("import of TensorFlow")
        loaded()

    console.load_tensorflow = load_and_mark
    quiet = contextlib.redirect_stdout(io.StringIO())  # what the command says names the folder
    with tempfile.TemporaryDirectory() as folder, quiet:
        train.main(["--run-dir", f"{folder}/run", *arguments])


def library(_):
    """A script that fits a digits-like model of 1.0 million parameters."""
    clock = Clock()
    import tensorflow  # noqa: F401

    clock.mark("import of TensorFlow")
    sys.path.insert(0, str(ROOT))
    import keras
    import numpy as np

    from ddpm_keras import DDPM, UNet

    clock.mark("import of Keras and of this package")
    network = UNet((8, 8, 1), 32, (1, 2), 2, attention_resolutions=(4,), dropout=0.1)
    model = DDPM(network, ema=(0.99, 0.999))
    model.compile(keras.optimizers.Adam(2e-4, global_clipnorm=1.0))
    clock.mark("network, averages")
    images = np.random.default_rng(0).integers(0, 256, (1437, 8, 8, 1), np.uint8)
    model.fit(images, batch_size=128, verbose=0, callbacks=[clock.watch_training()])


JOBS = {"command": command, "library": library}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=JOBS, nargs="+", default=list(JOBS))
    parser.add_argument("--inside", choices=JOBS, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.inside:
        JOBS[options.inside](rest)
    for job in () if options.inside else options.of:
        print(f"\n{JOBS[job].__doc__}\n", flush=True)
        given = os.environ | {BEGIN: str(time.time()), "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, __file__, "--inside", job, *rest], env=given, check=True)


if __name__ == "__main__":
    main()
