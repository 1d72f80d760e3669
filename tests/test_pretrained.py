"""Models that come with the package: whole, checked, drawn from by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from refusals import command_status

from ddpm_keras import DDPM, EMA, pretrained, samplers
from ddpm_keras.app.options import sample_options
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import FeatureStatistics, frechet_distance

SHIPPED = Path(pretrained.__file__).parent


def test_every_model_that_is_offered_draws_and_has_its_card():
    assert {"digits", "fashion"} <= set(pretrained.names())
    for name in pretrained.names():
        images = pretrained.load(name).sample(2, sampler=samplers.DDIM(2), seed=0)
        assert images.dtype == np.uint8 and len(images) == 2 and images.std() > 0
        head = yaml.safe_load((SHIPPED / name / "README.md").read_text().split("---\n")[1])
        assert head["library_name"] == "keras" and head["model-index"]
        files = [path for path in (SHIPPED / name).iterdir() if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 8e6, name


def test_digits_look_like_digits(digits):
    drawn = pretrained.load("digits").sample(200, sampler=samplers.DDIM(20), seed=0)
    pixels = [
        FeatureStatistics.of(each.reshape(len(each), -1) / 255.0) for each in (digits.train, drawn)
    ]
    noise = np.random.default_rng(0).permuted(digits.train[:200].reshape(200, -1) / 255.0, axis=1)
    near = frechet_distance(*pixels)
    assert near < 0.35 * frechet_distance(pixels[0], FeatureStatistics.of(noise))


def test_saved_weights_come_back_rounded_to_float16(network, tmp_path):
    model = DDPM(network, schedule="cosine", timesteps=50, prediction="v", ema=EMA(0.5))
    for weight in model.network.trainable_weights:
        weight.assign_add(np.full(weight.shape, 0.1, "float32"))
    model.ema.update(model.network.weights)
    pretrained.save(model, "mine", folder=tmp_path)
    assert pretrained.names(tmp_path) == ("mine",)
    again = pretrained.load("mine", tmp_path)
    assert (again.schedule.timesteps, again.prediction) == (50, "v")
    for found, expected in zip(again.network.weights, model.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(found, np.float32(np.float16(np.asarray(expected))))
    with pytest.raises(ValueError, match="no pretrained model 'other'; use one of mine"):
        pretrained.load("other", tmp_path)


def test_damage_is_found_and_half_a_model_is_not_offered(tmp_path):
    shutil.copytree(SHIPPED / "digits", tmp_path / "digits")
    weights = tmp_path / "digits" / "weights.safetensors"
    pixels = bytearray(weights.read_bytes())
    pixels[-1] ^= 1
    weights.write_bytes(pixels)
    with pytest.raises(ValueError, match="weights.safetensors is damaged"):
        pretrained.load("digits", tmp_path)
    weights.unlink()
    assert pretrained.names(tmp_path) == ()


def test_sample_draws_with_a_pretrained_model(tmp_path):
    arguments = ("--pretrained", "digits", "--num", 2, "--steps", 2, "--out", "a.npz")
    assert command_status("sample.py", *arguments, folder=tmp_path) == 0
    drawn = np.load(tmp_path / "a.npz")["images"]
    expected = pretrained.load("digits").sample(2, sampler=samplers.DDIM(2), seed=0)
    assert np.abs(drawn.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--pretrained cats", "--pretrained.*cats.*digits"),
        ("runs/digits --pretrained digits", "name one source"),
        ("", "--pretrained digits"),
    ],
)
def test_wrong_sources_are_refused(argv, words):
    with pytest.raises(UsageError, match=words):
        sample_options(argv.split())
