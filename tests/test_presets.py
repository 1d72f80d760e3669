"""Every preset builds its network and takes real steps on photographs of its size."""

import dataclasses
import gzip
import json
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from ddpm_keras import data, samplers
from ddpm_keras.app import training
from ddpm_keras.app.options import stored_options, train_options
from ddpm_keras.app.presets import PRESETS, preset_of

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import presets as benchmark  # noqa: E402

SHAPES = {
    "digits": (8, 8, 1),
    "images": (32, 32, 3),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "celeba64": (64, 64, 3),
}
PARAMETERS = {"digits": 701_345, "cifar10": 35_746_307}


def photographs(shape, count=8):
    """Crops of a photograph, as a data set."""
    photo = Image.fromarray(load_sample_images().images[0])
    photo = np.asarray(photo.convert("L" if shape[-1] == 1 else "RGB"))
    photo = photo.reshape(*photo.shape[:2], shape[-1])
    crops = [photo[7 * i : 7 * i + shape[0], 5 * i : 5 * i + shape[1]] for i in range(count)]
    images = np.stack(crops)
    return data.ImageData("photographs", train=images[:-2], held_out=images[-2:])


def test_every_preset_is_listed():
    assert set(SHAPES) == set(PRESETS)


@pytest.mark.parametrize("content", ["plain", "compressed", "damaged"])
@pytest.mark.parametrize(("side", "image_size"), [(28, 0), (28, 28), (28, 32), (8, 0)])
def test_idx_files_like_mnist_get_its_preset(content, side, image_size, tmp_path):
    """Digits must not be mirrored; other sizes have no side of 7 for attention."""
    header = struct.pack(">HBB3I", 0, 8, 3, 9, side, side)
    header = {"plain": header, "compressed": gzip.compress(header), "damaged": header[:9]}[content]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header)
    is_like = content != "damaged" and (side, image_size) in ((28, 0), (28, 28))
    assert preset_of(str(tmp_path), image_size) == ("mnist" if is_like else "images")


@pytest.mark.parametrize(
    ("dataset", "preset"),
    [("cifar10", "cifar10"), ("mnist5k", "mnist"), ("./missing", "images"), ("", "images")],
)
def test_names_select_presets(dataset, preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert preset_of(dataset) == preset


@pytest.mark.parametrize("preset", list(SHAPES))
def test_preset_takes_real_steps(preset):
    options, _ = train_options(["--preset", preset, "--batch-size", "2", "--snapshots", "0"])
    images = photographs(SHAPES[preset])
    model = training.build_model(options, images)
    if preset in PARAMETERS:
        assert model.network.count_params() == PARAMETERS[preset]
    before = [np.array(w) for w in model.network.weights]
    model.run_eagerly = True
    stream = data.training_stream(images.train, batch_size=2, flip=options.flip, steps=2)
    history = model.fit(stream, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"][0]) and model.ema.num_updates == 2
    assert any((a != np.array(b)).any() for a, b in zip(before, model.network.weights, strict=True))


def test_the_page_shows_the_results():
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert benchmark.with_results(page, benchmark.read()) == page


@pytest.mark.parametrize(
    "record", benchmark.read(), ids=lambda record: record["options"]["run_dir"]
)
def test_commands_still_mean_what_was_measured(record):
    """A preset that changes would make another training of them."""
    options, _ = train_options(shlex.split(record["command"])[2:])
    measured = stored_options(record["options"])
    assert options.quality_every_epochs == 0  # so that this says nothing:
    assert options == dataclasses.replace(measured, quality_images=options.quality_images)


def test_more_steps_are_no_worse_on_the_digits():
    """The distance does not grow from 20 to 50 to 100 steps beyond its standard error."""
    record = json.loads((benchmark.RESULTS / "digits.json").read_text(encoding="utf-8"))
    assert [row["steps"] for row in record["samples"]] == [20, 50, 100]
    assert eval(record["sampler"], vars(samplers).copy()) == samplers.DDIM(20)
    for row in record["samples"][1:]:
        growth, low, high = row["growth"]
        assert growth < (high - low) / (2 * 1.96)


def test_colour_is_of_the_images_and_of_their_corners():
    images = np.zeros((2, 4, 3, 1), np.uint8)
    images[0, 0, 0], images[1, 3, 2], images[1, 1, 1] = 40, 80, 200
    found = benchmark.colour(images)
    assert found["corners"] == pytest.approx([15, 5])
    assert found["mean"] == pytest.approx([(40 / 12 + 280 / 12) / 2, 10])
