"""How long training stands still for a checkpoint: written at once, and beside the training.

    python benchmarks/checkpoints.py        # the network for CIFAR-10, 35.7M parameters; a minute

Run it on an idle machine. The state is that of Ho et al. 2020 with Adam and four averages: seven
numbers a parameter, 1 GB. The two ways are taken in turns:

- at once: training waits until the file is written, read again for its checksum and recorded;
- beside: training waits until the state is copied; a thread does the rest.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras  # noqa: E402

from ddpm_keras import DDPM, UNet, files  # noqa: E402
from ddpm_keras.app.recorders import Checkpoints  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402

DECAYS = (0.99, 0.999, 0.9995, 0.9999)


def large_model():
    """The network for CIFAR-10 of Ho et al. 2020 with all that its training keeps."""
    network = UNet((32, 32, 3), 128, (1, 2, 2, 2), num_res_blocks=2, attention_resolutions=(16,))
    model = DDPM(network, ema=DECAYS)
    model.compile(keras.optimizers.Adam(2e-4))
    model.optimizer.build(model.trainable_variables)
    model.ema.update(model.network.weights)  # or averages would be made anew at each checkpoint
    return model


def at_once(model, run):
    """Seconds of a checkpoint that training waits for."""
    begin = time.perf_counter()
    with files.atomic_path(run.checkpoints / "state.weights.h5") as temporary:
        model.save_weights(temporary, overwrite=True)
    files.sha256(run.checkpoints / "state.weights.h5")
    return time.perf_counter() - begin


def beside(model, run):
    """(seconds that training waits, seconds until the checkpoint is there)."""
    saved = Checkpoints(run, keep=1)
    saved.set_model(model)
    begin = time.perf_counter()
    saved.save()
    waited = time.perf_counter() - begin
    saved.wait()
    return waited, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="of each, in turns")
    times = parser.parse_args().times
    model = large_model()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        taken = []
        for _ in range(times):
            taken.append((at_once(model, run), *beside(model, run)))
            print(*(f"{seconds:.2f} s" for seconds in taken[-1]), flush=True)
        size = (run.checkpoints / "state.weights.h5").stat().st_size
    whole, waited, written = map(statistics.median, zip(*taken, strict=True))
    print(
        f"{model.network.count_params():,} parameters, {size / 1e9:.2f} GB: at once training waits "
        f"{whole:.2f} s; beside it waits {waited:.2f} s, and the file is there after {written:.2f} "
        f"s (medians of {times})."
    )


if __name__ == "__main__":
    main()
