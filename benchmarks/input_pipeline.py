"""How long training waits for prepared images, how soon it starts, and what both grow with.

    python benchmarks/input_pipeline.py FOLDER              # makes its data sets in FOLDER: 10 GB
    python benchmarks/input_pipeline.py FOLDER --sizes 1000 10000

The digits, a folder of 50,000 JPEG files, a set of TensorFlow Datasets and arrays of 10^3 to 10^6
images of 32x32 are prepared once, and then trained on by a small network, each in a process of its
own. Of each are reported: the seconds from `data.load` to the first batch, TensorFlow being
imported; the share of the training's time in which it waits for a batch; and the greatest memory
of the process. Exponents are fitted over the arrays. Run it on an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from training_memory import resident  # noqa: E402

SIDE, BATCH_SIZE, WARM = 32, 64, 3
SIZES = (10**3, 10**4, 10**5, 10**6)
NUM_JPEGS, NUM_TFDS = 50_000, 10_000


def pictures(count, seed):
    """Random blots, uint8 (count, 32, 32, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return coarse.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)


def make_array(path, count):
    """An `.npy` file of so many images."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 3))
    for start in range(0, count, 1000):
        array[start : start + 1000] = pictures(min(1000, count - start), start)
    array.flush()


def make_jpegs(folder):
    """Ten folders of JPEG files."""
    from PIL import Image

    for label in range(10):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pictures(NUM_JPEGS // 10, label)):
            Image.fromarray(image).save(folder / f"class{label}" / f"{number:05d}.jpg")


def make_tfds(folder):
    """A data set of TensorFlow Datasets."""
    import tensorflow_datasets as tfds

    class Blots(tfds.core.GeneratorBasedBuilder):
        """Random blots."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(SIDE, SIDE, 3))
            features = tfds.features.FeaturesDict({"image": image})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, image in enumerate(pictures(NUM_TFDS, 0)):
                yield number, {"image": image}

    Blots(data_dir=folder).download_and_prepare()


def measure(name, cache, steps):
    """Loads, trains for some steps, and prints what was seen as a line of JSON."""
    import keras
    import tensorflow as tf

    from ddpm_keras import DDPM, UNet, data

    tf.zeros(1)  # which sets TensorFlow up
    before = peak()
    start = time.perf_counter()
    images = data.load(name, cache=cache)
    batches = iter(data.training_stream(images.train, batch_size=BATCH_SIZE, flip=True))
    next(batches)
    started, loaded = time.perf_counter() - start, peak()
    model = DDPM(UNet(images.image_shape, 32, (1, 2), 1, ()), ema=None, seed=0)
    model.compile(keras.optimizers.Adam(1e-3))
    waited, begun = 0.0, 0.0
    for step in range(WARM + steps):
        if step == WARM:
            begun, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        model.train_on_batch(batch)
    share = waited / (time.perf_counter() - begun)
    row = {"images": len(images.train) + len(images.held_out), "start": started, "waiting": share}
    print(json.dumps(row | {"peak": peak(), "load": loaded - before}))


def peak():
    """The greatest memory that this process had so far, in MB."""
    return resident("VmHWM") / 2**20


def measured(title, name, cache, steps):
    """What `measure` sees in a process of its own, after another one has prepared the set."""
    program = "import sys; from ddpm_keras import data; data.load(sys.argv[1], cache=sys.argv[2])"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    without = environment | {"DDPM_KERAS_LAZY": "1"}  # TensorFlow
    subprocess.run([sys.executable, "-c", program, name, cache], env=without, check=True)
    prepared = time.perf_counter() - start
    command = [sys.executable, __file__, cache, "--measure", str(name), "--steps", str(steps)]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    row = json.loads(ended.stdout.splitlines()[-1])
    print(
        f"{title:<12} {row['images']:>9,} {prepared:>10.1f} {row['start']:>9.2f} "
        f"{row['waiting']:>9.2%} {row['load']:>11.0f} {row['peak']:>9.0f}",
        flush=True,
    )
    return row


def exponent(rows, key):
    """The slope of the logarithm of a number over that of the images."""
    points = np.log([[row["images"], max(row[key], 1e-3)] for row in rows])
    return np.polyfit(*points.T, 1)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where data sets and prepared files go")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="images of the arrays")
    parser.add_argument("--steps", type=int, default=40, help="steps that are timed (40)")
    parser.add_argument("--only-arrays", action="store_true", help="leave the other sets out")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, options.folder, options.steps)
    folder, cache = options.folder.resolve(), options.folder.resolve() / "prepared"
    sets = {}
    if not options.only_arrays:
        sets = {"digits": "digits", "JPEG files": folder / "jpegs"}
        sets["TFDS"] = folder / "blots" / "1.0.0"
        for make, path in ((make_jpegs, sets["JPEG files"]), (make_tfds, sets["TFDS"])):
            if not path.exists():
                make(path if make is make_jpegs else folder)
    print(
        f"{'set':<12} {'images':>9} {'prepare s':>10} {'start s':>9} {'waiting':>9} "
        f"{'loading MB':>11} {'peak MB':>9}"
    )
    for title, name in sets.items():
        measured(title, str(name), str(cache), options.steps)
    rows = []
    for size in options.sizes:
        path = folder / f"images-{size}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make_array(path, size)
        rows.append(measured("array", str(path), str(cache), options.steps))
    if len(rows) > 1:
        print(
            f"exponents over the images of arrays: start {exponent(rows, 'start'):.2f}, peak "
            f"memory {exponent(rows, 'peak'):.2f}; the largest takes "
            f"{rows[-1]['peak'] - rows[0]['peak']:+.0f} MB against the smallest"
        )


if __name__ == "__main__":
    main()
