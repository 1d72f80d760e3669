"""sample.py --interpolate, --progress, --from-image, --inpaint: the calls of `drawing` they are.

And what is there after Ctrl-C, and how much memory many images take.
"""

import tracemalloc

import keras
import numpy as np
import pytest
from networks import beside, conditional_model
from PIL import Image
from refusals import call_command

from ddpm_keras import DDPM, drawing, samplers
from ddpm_keras.app import modes, workers
from ddpm_keras.app.options import SampleOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(model, path) of three classes."""
    model = conditional_model()
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return model, path


@pytest.fixture
def call(model, tmp_path, monkeypatch, capfd):
    """Runs sample.py on the model in `tmp_path`, where a.png, b.png and mask.png are."""
    for name, image in IMAGES.items():
        Image.fromarray(image[..., 0]).save(tmp_path / f"{name}.png")

    def call(arguments):
        places = {"folder": tmp_path, "monkeypatch": monkeypatch, "capfd": capfd}
        return call_command("sample.py", model[1], *arguments.split(), **places)

    return call


A, B = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
MASK = np.zeros((8, 8, 1), np.uint8)
MASK[:, 4:] = 255
IMAGES = {"a": A, "b": B, "mask": MASK}
DDIM = samplers.DDIM(4)

# Options -> the images.
RIGHT = {
    "--interpolate 3 8 --num 5 --steps 4 --labels 1": lambda m: drawing.interpolate_noise(
        m, 3, 8, 5, sampler=DDIM, labels=1
    ),
    "--interpolate a.png b.png --num 4 --steps 4 --strength 0.5": (
        lambda m: drawing.interpolate_images(m, A, B, 4, 0.5, sampler=DDIM)
    ),
    "--interpolate a.png b.png --encode --num 4 --steps 4 --labels 1": (
        lambda m: drawing.interpolate_encodings(
            m, A, B, 4, sampler=samplers.DDIM(4, clip=False), labels=1
        )
    ),
    "--from-image a.png --num 5 --steps 4 --batch-size 2 --seed 3": (
        lambda m: drawing.image_to_image(m, np.stack([A] * 5), 0.6, sampler=DDIM, seed=3)
    ),
    "--inpaint a.png --mask mask.png --num 3 --steps 4 --weights raw": lambda m: drawing.inpaint(
        m, np.stack([A] * 3), MASK > 0, sampler=samplers.DDIM(4, eta=1.0), weights="raw"
    ),
    "--guidance 2 --guidance-rescale 0.7 --guidance-interval 5 50 --num 3 --steps 4": (
        lambda m: m.sample(
            3, None, DDIM, guidance_scale=2, guidance_rescale=0.7, guidance_interval=(5, 50)
        )
    ),
}


@pytest.mark.parametrize("options", RIGHT)
def test_options_are_calls_of_the_library(options, call, model, tmp_path):
    outcome = call(f"{options} --out drawn.npz")
    assert outcome.status == 0, outcome
    expected = RIGHT[options](model[0])
    assert f"{len(expected)} images: drawn.npz" in outcome.out
    found = np.load(tmp_path / "drawn.npz")["images"].astype(int)
    assert np.abs(found - expected).max() <= 1  # a batch of another size rounds otherwise


def test_the_way_from_noise_is_a_picture_or_an_animation(call, model, tmp_path):
    assert call("--progress --num 2 --steps 4 --out way.png").status == 0
    way = drawing.denoise_progressively(model[0], 2, 10, sampler=DDIM)
    with Image.open(tmp_path / "way.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(way.picture()))
    for suffix in ("webp", "gif"):
        assert call(f"--progress --num 2 --steps 4 --out way.{suffix}").status == 0
        with Image.open(tmp_path / f"way.{suffix}") as animation:
            assert animation.n_frames == 5  # a state for each step, and the images
            animation.seek(4)
            last = np.asarray(animation.convert("RGB"), int)
        assert np.abs(last - np.asarray(way.frames()[-1], int)).mean() < 2


def test_what_is_between_two_seeds_goes_there_and_back(call, tmp_path):
    assert call("--interpolate 1 2 --num 4 --steps 2 --out between.webp").status == 0
    with Image.open(tmp_path / "between.webp") as animation:
        assert animation.n_frames == 6


# Ctrl-C, memory


@pytest.mark.parametrize("out", ["drawn.npz", "drawn.png", "drawn"])
@pytest.mark.parametrize("done", [0, 2])
def test_ctrl_c_keeps_the_images_done(out, done, call, tmp_path, monkeypatch):
    before = {path.name for path in tmp_path.iterdir()}
    sample = DDPM.sample

    def interrupted(self, count, start=0, **settings):
        if start >= 2 * done:
            raise KeyboardInterrupt
        return sample(self, count, start=start, **settings)

    monkeypatch.setattr(DDPM, "sample", interrupted)
    outcome = call(f"--num 50000 --steps 2 --batch-size 2 --out {out}")
    assert outcome.status == 130, outcome
    left = {path.name for path in tmp_path.iterdir()} - before
    if not done:
        assert "interrupted" in outcome.err and not left
        return
    assert f"the 4 images that are done are in {out}" in outcome.out and left == {out}
    if out == "drawn.npz":
        assert np.load(tmp_path / out)["images"].shape == (4, 8, 8, 1)
    if out == "drawn":
        assert len(list((tmp_path / out).iterdir())) == 4


def test_an_error_leaves_nothing_behind(call, tmp_path, monkeypatch):
    before = {path.name for path in tmp_path.iterdir()}

    def fails(self, count, start=0, **settings):
        if start:
            raise ValueError("no more")
        return np.zeros((count, 8, 8, 1), np.uint8)

    monkeypatch.setattr(DDPM, "sample", fails)
    assert call("--batch-size 2 --out drawn.npz").status == 2
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("out", ["drawn.npz", "drawn"])
def test_memory_does_not_grow_with_the_number_of_images(out, tmp_path):
    """5.5 MB of pixels in batches of 0.14 MB."""
    x, t = keras.Input((96, 96, 3)), keras.Input((), dtype="int32")
    model = DDPM(keras.Model([x, t], keras.layers.Conv2D(3, 1)(beside(x, t))), ema=None)
    settings = {"sampler": samplers.DDIM(1), "batch_size": 5}
    alone = workers.Crew(model.distribute_strategy)
    for number in (5, 200):  # the first traces
        options = SampleOptions(num=number, batch_size=5, out=str(tmp_path / f"{number}{out}"))
        tracemalloc.start()
        assert modes.write(options, model, settings, "noise", alone) == number
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3e6 < 200 * 96 * 96 * 3
