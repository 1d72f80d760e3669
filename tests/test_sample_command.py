"""sample.py draws what its options say: the very images of `DDPM.sample` with those arguments."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import conditional_model
from PIL import Image
from refusals import call_command

from ddpm_keras import DDPM, UNet, images, interop, samplers


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(model, path): three classes, weights that are nowhere 0, two averages that differ."""
    model = conditional_model()
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return model, path


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Runs sample.py in `tmp_path` and returns what it printed."""

    def call(*arguments):
        places = {"folder": tmp_path, "monkeypatch": monkeypatch, "capfd": capfd}
        outcome = call_command("sample.py", *arguments, **places)
        assert outcome.status == 0, outcome
        return outcome.out

    return call


# Options of sample.py -> arguments of DDPM.sample; five images each.
RIGHT = {
    "": {},
    "--labels 2 0 --guidance 2.5 --seed 7 --weights ema_0.5 --steps 3": {
        "labels": [2, 0, 2, 0, 2],
        "guidance_scale": 2.5,
        "seed": 7,
        "weights": "ema_0.5",
        "sampler": samplers.DDIM(steps=3),
    },
    "--labels 3 --sampler ddpm --steps 4 --weights raw --batch-size 2": {
        "labels": [3] * 5,
        "sampler": samplers.DDPM(steps=4),
        "weights": "raw",
        "batch_size": 2,
    },
    "--guidance 0 --sampler dpm --steps 4": {
        "guidance_scale": 0.0,
        "sampler": samplers.DPMSolver(steps=4),
    },
}
DEFAULTS = {"weights": "ema_0.9", "sampler": samplers.DDIM(steps=50), "seed": 0, "labels": None}


@pytest.mark.parametrize("options", RIGHT)
def test_options_are_arguments_of_sample(options, model, call, tmp_path):
    model, path = model
    printed = call(path, "--num", 5, "--out", "drawn.npz", *options.split())
    assert printed.endswith("5 images: drawn.npz\n")
    expected = model.sample(5, **DEFAULTS | RIGHT[options])
    with np.load(tmp_path / "drawn.npz") as file:
        np.testing.assert_array_equal(file["images"], expected)


def test_a_guide_is_one_of_the_weight_sets(model, call, tmp_path):
    model, path = model
    arguments = ("--guide", "raw", "--guidance", 3, "--labels", 1)
    call(path, "--num", 3, "--steps", 2, "--out", "drawn.npz", *arguments)
    expected = model.sample(
        3, "ema_0.9", samplers.DDIM(steps=2), labels=1, guide="raw", guidance_scale=3
    )
    with np.load(tmp_path / "drawn.npz") as file:
        np.testing.assert_array_equal(file["images"], expected)
    alone = model.sample(3, "ema_0.9", samplers.DDIM(steps=2), labels=1, guidance_scale=3)
    assert (expected != alone).any()


def test_every_option_makes_a_difference(model):
    """Were one ignored, the images above would be those of the others alone."""
    model, _ = model
    arguments = RIGHT["--labels 2 0 --guidance 2.5 --seed 7 --weights ema_0.5 --steps 3"]
    whole = model.sample(5, **arguments)
    for left_out in arguments:
        others = {name: value for name, value in arguments.items() if name != left_out}
        assert (model.sample(5, **DEFAULTS | others) != whole).any(), left_out


def test_pictures_and_folders_hold_the_same_images(model, call, tmp_path):
    model, path = model
    call(path, "--num", 3, "--steps", 2, "--out", "grid.png")
    call(path, "--num", 3, "--steps", 2, "--out", "folder")
    expected = model.sample(3, "ema_0.9", samplers.DDIM(steps=2))
    with Image.open(tmp_path / "grid.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(images.grid(expected)))
    for index, image in enumerate(expected):
        with Image.open(tmp_path / "folder" / f"00000{index}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), image[..., 0])


def test_the_sampler_or_the_network_is_exported(model, call, tmp_path):
    model, path = model
    printed = call(path, "--export", "folder", "--steps", 2, "--guidance", 3)
    assert printed.endswith("sampler with ema_0.9: folder\n")
    exported = tf.saved_model.load(tmp_path / "folder")
    options = {"sampler": samplers.DDIM(steps=2), "guidance_scale": 3, "seed": 5, "labels": [0, 2]}
    expected = model.sample(2, "ema_0.9", **options)
    np.testing.assert_array_equal(exported.sample(5, 0, [0, 2]), expected)
    printed = call(path, "--export", "net.keras", "--weights", "ema_0.5")
    assert printed.endswith("network with ema_0.5: net.keras\n")
    network = keras.saving.load_model(tmp_path / "net.keras")
    for a, b in zip(network.weights, model.weight_values("ema_0.5"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_diffusers_folder_is_drawn_from_with_its_own_schedule(call, tmp_path):
    network = UNet((8, 8, 1), 8, (1, 1), num_res_blocks=1, attention_resolutions=(), groups=4)
    random = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(random.normal(0, 0.2, weight.shape))
    interop.save_diffusers(network, tmp_path / "diffusers")
    scheduler = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": 100,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "clip_sample": True,
    }
    (tmp_path / "diffusers" / "scheduler_config.json").write_text(json.dumps(scheduler))
    printed = call(
        *("--from-diffusers", "diffusers", "--num", 2, "--sampler", "ddpm", "--steps", 3),
        *("--seed", 5, "--out", "drawn.npz"),
    )
    assert "cosine, 100 timesteps, v" in printed
    model = DDPM(network, schedule="cosine", timesteps=100, prediction="v", ema=None)
    expected = model.sample(2, "raw", samplers.DDPM(steps=3), seed=5)
    with np.load(tmp_path / "drawn.npz") as file:
        np.testing.assert_array_equal(file["images"], expected)
