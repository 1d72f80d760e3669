"""Reads files that a fuzzer makes of good ones, guided by the code that they reach (atheris).

    python tests/soak/fuzz.py                 all readers, a minute in all
    python tests/soak/fuzz.py --minutes 30    for longer
    python tests/soak/fuzz.py torch yaml      these readers

Whatever a file holds, a reader may only return, or raise a `ValueError` or an `OSError` of one
line; within 5 seconds, and within 256 MiB above what the process has. The file that makes it do
otherwise is kept in build/fuzz; the next run begins with the files that the last one found.
"""

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(1, str(ROOT / "tests" / "soak"))
os.environ["DDPM_KERAS_LAZY"] = "1"  # without TensorFlow, most readers answer in a millisecond

BUILD = ROOT / "build" / "fuzz"
STUDY = ROOT / "docs" / "study" / "digits-0"
STORED = ROOT / "tests" / "stored"
MOST_MEMORY, MOST_SECONDS = 256, 5  # MiB


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        file: the name of the file that it looks for.
        read: calls it with the path of that file.
        seeds: good files, bytes or paths.
        imports: modules of which it needs to know what they reach, and what they cost.
        wrap: what is made of the fuzzer's bytes before they are written.
    """

    file: str
    read: Callable
    seeds: Callable
    imports: tuple
    wrap: Callable = bytes


def _call(module, function):
    """A function that calls one of a module that is imported when it is needed."""
    return lambda path: getattr(importlib.import_module(f"ddpm_keras.{module}"), function)(path)


def _run(method):
    def read(path):
        from ddpm_keras.app.run_directory import Run

        found = getattr(Run(path.parent), method)
        return found() if callable(found) else found

    return read


def _folder(path):
    from ddpm_keras.data import load

    return load(path.parent, image_size=8, on_unreadable="refuse")


def _array_file(path):
    from ddpm_keras.data import load

    return load(path)


def _image(path):
    from ddpm_keras.quality.folder import ImageFolder

    return ImageFolder(path.parent)[:1]


def _statistics(path):
    from ddpm_keras.quality.statistics import FeatureStatistics

    return FeatureStatistics.load(path)


def _weights(path):
    from ddpm_keras.interop import weight_files

    return weight_files.read(path, 2**30)


def _json(path):
    from ddpm_keras.interop.folders import read_json

    return read_json(path)


def _options_file(path):
    from ddpm_keras.app import config_file
    from ddpm_keras.app.options import TrainOptions, stored_options

    return config_file.read(path, TrainOptions, stored_options)


def _model(path):
    from ddpm_keras.app import models

    return models.read_model(path, "give another")


def _configuration(path):
    from ddpm_keras.interop import unet_config
    from ddpm_keras.interop.folders import read_json

    return unet_config.unet_arguments(read_json(path))


def _scheduler(path):
    from ddpm_keras.interop import load_diffusers_schedule

    return load_diffusers_schedule(path.parent)


# Good files.


def _saved(save, *arguments, **settings):
    file = io.BytesIO()
    save(file, *arguments, **settings)
    return file.getvalue()


def _pickles():
    from hostile_files import pickles

    return [pickles.GOOD, *(data + b"." for data in pickles.PICKLES.values() if len(data) < 1000)]


def _torch_files():
    from hostile_files import pickles

    return [make(data) for data in _pickles() for make in (pickles.zipped, pickles.legacy)]


def _npy():
    import numpy as np

    images = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    return [_saved(np.save, each) for each in (images, images[..., None], images.astype("f4"))]


def _npz():
    import numpy as np

    images, labels = np.zeros((9, 8, 8), np.uint8), np.arange(9)
    return [
        _saved(np.savez, images=images, labels=labels),
        _saved(np.savez_compressed, x_train=images, y_train=labels, x_test=images, y_test=labels),
        _saved(np.savez, mu=np.zeros(4), sigma=np.eye(4), num_images=9),
        _saved(np.savez, step=labels),
    ]


def _safetensors():
    import numpy as np
    from safetensors.numpy import save

    return [save({"a": np.ones((2, 3), "f4"), "b": np.ones(4, "f2")}), save({})]


def _idx():
    import gzip

    from hostile_files import arrays

    plain = arrays.idx((9, 8, 8), bytes(576))
    return [plain, gzip.compress(plain)]


def _images():
    from PIL import Image

    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB")}
    modes |= {"GIF": ("P",), "BMP": ("RGB",), "TIFF": ("L", "I;16"), "WEBP": ("RGBA",)}
    return [
        _saved(Image.new(mode, (9, 8)).save, kind) for kind, each in modes.items() for mode in each
    ]


def _in_zip(name):
    def wrap(data):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), bytes(data))
        return file.getvalue()

    return wrap


def _in_torch(data):
    from hostile_files import pickles

    return pickles.zipped(bytes(data))


def _in_keras(data):
    from hostile_files import models

    return models.keras_file(bytes(data))


def _keras_configs():
    from hostile_files import models

    with zipfile.ZipFile(STORED / "model.keras") as archive:
        yield archive.read("config.json")
    for config in (models.sequential(models.layer("Dense", units=4)), models.ddpm()):
        yield json.dumps(config).encode()


YAML = b"steps: 500\nema: [0.99, 0.999]\ndataset: digits\nlearning-rate: 2e-4\nflip: true\n"
DIFFUSERS = b"""{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1,
"out_channels": 1, "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
"down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"]}"""
SCHEDULER = b"""{"_class_name": "DDPMScheduler", "num_train_timesteps": 10, "beta_start": 0.1,
"beta_end": 0.2, "beta_schedule": "linear", "prediction_type": "epsilon"}"""
TORCH = ("interop.torch_file", "interop.pickles", "reading.zips", "reading.bounds")
READERS = {
    "torch": Reader("a.bin", _call("interop.torch_file", "load_state_dict"), _torch_files, TORCH),
    "pickle": Reader(
        "a.bin", _call("interop.torch_file", "load_state_dict"), _pickles, TORCH, _in_torch
    ),
    "npy": Reader("a.npy", _array_file, _npy, ("data.arrays", "reading.npz")),
    "npz": Reader("a.npz", _array_file, _npz, ("data.arrays", "reading.npz", "reading.zips")),
    "array": Reader("a.npz", _array_file, _npy, ("data.arrays", "reading.npz"), _in_zip("x.npy")),
    "statistics": Reader("a.npz", _statistics, _npz, ("quality.statistics", "reading.npz")),
    "safetensors": Reader("a.safetensors", _weights, _safetensors, ("interop.weight_files",)),
    "idx": Reader("train-images-idx3-ubyte", _folder, _idx, ("data.idx", "data.folder")),
    "image": Reader("a.png", _image, _images, ("data.decode", "quality.folder")),
    "json": Reader("a.json", _json, lambda: [DIFFUSERS, SCHEDULER], ("reading.json_text",)),
    "diffusers": Reader("config.json", _configuration, lambda: [DIFFUSERS], ("interop",)),
    "scheduler": Reader("scheduler_config.json", _scheduler, lambda: [SCHEDULER], ("interop",)),
    "yaml": Reader("a.yaml", _options_file, lambda: [YAML], ("app.config_file", "app.parser")),
    "config": Reader(
        "config.json", _run("options"), lambda: [STUDY / "config.json"], ("app.run_directory",)
    ),
    "evaluation": Reader(
        "evaluation.json",
        _run("read_evaluations"),
        lambda: [STUDY / "evaluation.json"],
        ("app.run_directory", "quality.record"),
    ),
    "history": Reader(
        "history.csv",
        _run("read_history"),
        lambda: [STUDY / "history.csv"],
        ("app.run_directory",),
    ),
    "trajectory": Reader("trajectory.npz", _run("read_trajectory"), _npz, ("app.run_directory",)),
    "weights": Reader(
        "a.weights.h5",
        _call("reading.keras_file", "check_weights"),
        lambda: [STORED / "model.weights.h5"],
        ("reading.hdf5", "reading.keras_file"),
    ),
    "keras": Reader("a.keras", _model, _keras_configs, ("reading.keras_file",), _in_keras),
}


def fuzz(name, seconds):
    """Runs one reader in this process, which the fuzzer ends."""
    import atheris

    reader, corpus = READERS[name], BUILD / "corpus" / name
    with atheris.instrument_imports(include=["ddpm_keras"]):
        for module in reader.imports:
            with contextlib.suppress(ImportError):
                importlib.import_module(f"ddpm_keras.{module}")
    _write_seeds(reader, corpus)
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))

    def one_input(data):
        path = folder / reader.file
        path.write_bytes(reader.wrap(data))
        try:
            reader.read(path)
        except (ValueError, OSError) as error:
            lines = str(error).strip().splitlines()
            assert len(lines) == 1 and len(lines[0]) < 1500, f"not one short line: {error}"

    for seed in reader.seeds():  # what the first reading of a good file imports is no growth
        one_input(seed if isinstance(seed, bytes) else seed.read_bytes())
    flags = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", "-max_len=65536"]
    flags += [f"-rss_limit_mb={_megabytes() + MOST_MEMORY}", f"-artifact_prefix={BUILD}/{name}-"]
    flags += ["-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one_input, enable_python_coverage=True)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_seeds(reader, corpus):
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(reader.seeds()):
        data = seed if isinstance(seed, bytes) else seed.read_bytes()
        (corpus / f"seed-{index}").write_bytes(data)


def _megabytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all readers together")
    parser.add_argument("--seconds-alone", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    unknown = sorted(set(options.readers) - READERS.keys())
    if unknown:
        parser.error(f"there is no reader {unknown[0]}; they are {', '.join(READERS)}")
    if options.seconds_alone:
        fuzz(options.readers[0], options.seconds_alone)
        return 0
    names = options.readers or list(READERS)
    seconds = max(1, round(60 * options.minutes / len(names)))
    return 1 if any([_failed(name, seconds) for name in names]) else 0


def _failed(name, seconds):
    """Fuzzes one reader in a process of its own, and says how it went."""
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--seconds-alone", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    output = done.stdout + done.stderr
    runs = [line.split()[-1] for line in output.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else 'no'} files", "failed" if done.returncode else "right")
    if done.returncode:
        print(output[-3000:], flush=True)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
