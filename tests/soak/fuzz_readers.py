"""Every reader of files of others, and good files that a fuzzer begins with; see fuzz.py."""

import dataclasses
import functools
import importlib
import io
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(1, str(ROOT / "tests" / "soak"))

DEMO = ROOT / "docs" / "demo"
STORED = ROOT / "tests" / "stored"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        file: the name of the file that it looks for.
        read: calls it with the path of that file.
        seeds: good files, bytes or paths.
        imports: modules of which it needs to know what they reach, and what they cost.
        wrap: what is made of the fuzzer's bytes before they are written.
        beside: writes what else has to be in the folder of that file.
    """

    file: str
    read: Callable
    seeds: Callable
    imports: tuple
    wrap: Callable = bytes
    beside: Callable = bool  # nothing

    def good(self):
        """The good files, each bytes."""
        return [each if isinstance(each, bytes) else each.read_bytes() for each in self.seeds()]

    def check(self, folder, data):
        """Reads what a fuzzer made, in a folder of its own.

        Raises:
            Exception: it was neither read nor refused in one short line.
        """
        path = folder / self.file
        path.write_bytes(self.wrap(data))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is left out
                self.read(path)
        except (ValueError, OSError) as error:
            lines = str(error).strip().splitlines()
            assert len(lines) == 1 and len(lines[0]) < 1500, f"not one short line: {error}"


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


def _history():
    from ddpm_keras.app import history

    rows = [{"step": 20 * n, "loss": 1 / n, "val_loss_raw": 2 / n} for n in range(1, 6)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        history.write(path, rows)
        return [path.read_bytes()]


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


def _snapshots(path):
    from ddpm_keras.ema import snapshots

    return [snapshots.read_arrays(each, "0_") for each in snapshots.list_snapshots(path.parent)]


def _classifier(path):
    import keras

    from ddpm_keras.quality.extractors.classifier import ClassifierFeatures

    keras.backend.clear_session()
    return ClassifierFeatures.load(path)


@functools.cache
def _small_network():
    import keras

    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, name="a")]
    return keras.Sequential(layers)


def _fid_weights(path):
    from ddpm_keras.quality.extractors import fid_inception

    return fid_inception._load(_small_network(), fid_inception._read(path), path)


def _averages(path):
    from ddpm_keras.ema.stored import StoredAverages
    from ddpm_keras.reading import npz

    stored = StoredAverages.read(npz.read(path))
    return stored and [stored.average(rule) for rule in range(len(stored.rules))]


def _events(path):
    from ddpm_keras.callbacks import events

    events.cut(path.parent, 2)
    for left in path.parent.glob("events.*"):
        left.unlink()


def _tfds(path):
    from ddpm_keras.data import load

    return load(path.parent, image_size=8)


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

    images = np.arange(9 * 8 * 8).astype(np.uint8).reshape(9, 8, 8)
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


def _snapshot_files():
    import numpy as np

    from ddpm_keras.ema.snapshots import FORMAT

    for widths in ([], [0.05, 0.1]):
        record = {"format": FORMAT, "step": 10, "widths": widths, "dtype": "float32"}
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        yield _saved(np.savez, record=text, **{"0_0": np.ones(4, "f4"), "copy_1": np.ones(2)})


def _classifier_file():
    from ddpm_keras.quality.extractors import classifier

    config = {"dataset": "x", "target": "labels", "image_shape": [4, 4, 1], "dim": 2}
    config |= {"num_outputs": 2, "seed": 0, "scale": 1.0}
    weights = classifier._build((4, 4, 1), 2, 2, 0).get_weights()
    with tempfile.TemporaryDirectory() as folder:
        classifier.ClassifierFeatures(config, weights).save(Path(folder) / "a.npz")
        return [(Path(folder) / "a.npz").read_bytes()]


def _fid_files():
    import numpy as np

    arrays = {f"a.bn.{name}": np.ones(2) for name in ("weight", "bias", "running_mean")}
    arrays |= {"a.bn.running_var": np.ones(2), "a.conv.weight": np.ones((2, 3, 1, 1))}
    return [_saved(np.savez, **arrays)]


def _averages_file():
    import numpy as np

    from ddpm_keras.ema import ConstantDecay, PowerFunctionDecay
    from ddpm_keras.ema.stored import StoredAverages

    rules, store = [ConstantDecay(0.9), PowerFunctionDecay(0.1)], {}
    of_rule = [np.ones(6, "f4")]  # a matrix and a vector, end to end
    places, shapes = [[0, 1]], [[[2, 2], [2]]]
    averages = 2 * [of_rule]
    StoredAverages(["a", "b"], rules, 3, [0, 0], places, shapes, averages, {}, 2).write(store)
    return [_saved(np.savez, **store)]


def _event_files():
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb

    from ddpm_keras.callbacks import events

    with tempfile.TemporaryDirectory() as folder:
        for step in (1, 2, 3):
            events.append(folder, step, [scalar_pb("loss", step)])
        return [path.read_bytes() for path in Path(folder).iterdir()]


def _examples():
    from hostile_files import pictures

    return [pictures.example(_saved(_picture("L").save, "PNG")), b""]


def _picture(mode):
    from PIL import Image

    return Image.new(mode, (8, 8))


def _in_records(data):
    from hostile_files import pictures

    return 4 * pictures.framed(bytes(data))


def _describe(folder):
    from hostile_files import pictures

    pictures.describe(folder)


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
"flip_sin_to_cos": false, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-06,
"attention_head_dim": null,
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
    "statistics": Reader(
        "a.npz", _statistics, lambda: _npz()[2:], ("quality.statistics", "reading.npz")
    ),
    "safetensors": Reader("a.safetensors", _weights, _safetensors, ("interop.weight_files",)),
    "idx": Reader("train-images-idx3-ubyte", _folder, _idx, ("data.idx", "data.folder")),
    "image": Reader("a.png", _image, _images, ("data.decode", "quality.folder")),
    "json": Reader("a.json", _json, lambda: [DIFFUSERS, SCHEDULER], ("reading.json_text",)),
    "diffusers": Reader("config.json", _configuration, lambda: [DIFFUSERS], ("interop",)),
    "scheduler": Reader("scheduler_config.json", _scheduler, lambda: [SCHEDULER], ("interop",)),
    "yaml": Reader("a.yaml", _options_file, lambda: [YAML], ("app.config_file", "app.parser")),
    "config": Reader(
        "config.json", _run("options"), lambda: [DEMO / "config.json"], ("app.run_directory",)
    ),
    "evaluation": Reader(
        "evaluation.json",
        _run("read_evaluations"),
        lambda: [DEMO / "evaluation.json"],
        ("app.run_directory", "quality.record"),
    ),
    "history": Reader(
        "history.csv",
        _run("read_history"),
        _history,
        ("app.run_directory",),
    ),
    "trajectory": Reader("trajectory.npz", _run("read_trajectory"), _npz, ("app.run_directory",)),
    "weights": Reader(
        "a.weights.h5",
        _call("reading.keras_file", "check_weights"),
        lambda: [STORED / "model.weights.h5"],
        ("reading.hdf5", "reading.keras_file"),
    ),
    "snapshot": Reader(
        "snapshot-00000010.npz", _snapshots, _snapshot_files, ("ema.snapshots", "reading.npz")
    ),
    "classifier": Reader(
        "a.npz", _classifier, _classifier_file, ("quality.extractors.classifier",)
    ),
    "fid": Reader("a.npz", _fid_weights, _fid_files, ("quality.extractors.fid_inception",)),
    "averages": Reader("a.npz", _averages, _averages_file, ("ema.stored", "reading.npz")),
    "events": Reader(
        "events.out.tfevents.1.ddpm-keras", _events, _event_files, ("callbacks.events",)
    ),
    "tfds": Reader(
        "tiny-train.tfrecord-00000-of-00001",
        _tfds,
        _examples,
        ("data.tfds", "data.tfds_checks", "data.decode"),
        _in_records,
        _describe,
    ),
    "keras": Reader("a.keras", _model, _keras_configs, ("reading.keras_file",), _in_keras),
}
