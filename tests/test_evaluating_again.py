"""Evaluating a run in parts ends as evaluating it at once: nothing that was measured is lost."""

import dataclasses
import unittest.mock

import keras
import numpy as np
import pytest

from ddpm_keras import DDPM, UNet, choices, names, noise, quality, samplers
from ddpm_keras.app import drawn, measuring, modes, named, table
from ddpm_keras.app.options import EvaluateOptions, TrainOptions, sample_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import verdict
from ddpm_keras.report import words


class Means(quality.FeatureExtractor):
    """Means of the rows and columns of an image."""

    name, dim, channels, fingerprint = "row and column means", 16, 1, "means"

    def _features(self, batch):
        rows, columns = (batch.mean(axis=(axis, 3), dtype=np.float32) for axis in (1, 2))
        return np.concatenate([rows, columns], axis=1) / 64


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = DDPM(UNet((8, 8, 1), 8, (1,), 1, (), groups=2), timesteps=10, ema=(0.5, 0.9))
    model.compile(keras.optimizers.Adam(1e-2))
    images = np.random.RandomState(0).randint(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    model.fit(images, batch_size=8, verbose=0)
    return model


@pytest.fixture
def measure(model, digits, tmp_path, monkeypatch):
    """Evaluates these weight sets of a run called `name`, and returns its `Evaluations`."""
    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(choices.EXTRACTORS, "means", Means)
    few = dataclasses.replace(digits, train=digits.train[:60], held_out=digits.held_out[:20])

    def measure(name, *weights, **options):
        run = Run(tmp_path / name)
        run.write_config({"options": dataclasses.asdict(TrainOptions())})
        options = EvaluateOptions(
            weights=weights, extractor="means", **{"num_images": 40, "steps": 3} | options
        )
        measuring.evaluate_run(run, options, "python evaluate.py", model, few)
        return run.read_evaluations()

    return measure


@pytest.mark.parametrize("order", [("raw", "ema_0.5", "ema"), ("ema", "raw", "ema_0.5")])
def test_one_by_one_is_as_at_once(measure, tmp_path, order):
    whole = measure("whole")
    assert list(whole.current.weights) == ["raw", "ema_0.5", "ema_0.9"]
    for name in order:
        parts = measure("parts", name)
    assert parts.current.weights.keys() == whole.current.weights.keys()
    for name, each in whole.current.weights.items():
        assert parts.current.weights[name] == each
    assert parts.current.differences == whole.current.differences
    assert parts.current.protocols == whole.current.protocols
    assert verdict.of_run(parts)[0] == verdict.of_run(whole)[0]
    assert verdict.of_run(whole)[0].outcome != "undecided"
    assert len(parts.made) == 3 and parts.apart == []
    left = {path.suffix for path in (tmp_path / "parts" / "evaluation").iterdir()}
    assert left == {".npz", ".png"}


def test_each_weight_set_has_its_protocol_and_as_many_real_images_their_distance(
    measure, digits, tmp_path
):
    evaluations = measure("run")
    found = evaluations.current
    way = (
        f"Fréchet distance, row and column means, 40 images, by {found.settings['sampler']}, seed 0"
    )
    assert found.protocols["raw"] == f"raw; {way}, step 8"
    rule = "ConstantDecay(beta=0.9), float32, moved after every optimizer step, effective window"
    assert found.protocols["ema_0.9"] == f"ema_0.9: {rule} 10 steps; {way}, step 8"
    real, held_out = (Means()(images) for images in (digits.train[:60], digits.held_out[:20]))
    assert found.reference.floor == quality.frechet_floor(real, held_out, 40)
    with unittest.mock.patch.object(quality, "frechet_floor", side_effect=AssertionError):
        again = measure("another")
    assert again.current.reference == found.reference
    (floor,) = (tmp_path / "cache").glob("floor-*.json")
    floor.write_text(floor.read_text().replace("0.", "1.", 1))
    with pytest.warns(UserWarning, match="floor-.* is damaged"):
        assert measure("a third").current.reference == found.reference
    assert f"To be quoted with it: {found.protocols['ema_0.9']}." in table.text(evaluations)


def test_the_differences_are_those_of_the_paired_bootstrap(measure, model, digits):
    found = measure("run").current
    real = Means()(digits.train[:60])
    drawn = {
        name: Means()(model.sample(40, name, sampler=samplers.DDIM(3)))
        for name in model.weight_sets
    }
    for name in ("ema_0.5", "ema_0.9"):
        expected = quality.paired_difference(real, drawn[name], drawn["raw"])
        got = found.differences[name]
        np.testing.assert_allclose(
            (got.estimate, got.low, got.high),
            (expected.estimate, expected.low, expected.high),
            rtol=1e-6,
        )


def test_options_and_packages_that_images_were_measured_with_are_known(measure, monkeypatch):
    first = measure("run", "raw", sampler="dpm")
    assert first.current.options == {"sampler": "dpm", "steps": "3"}
    assert "tensorflow " in first.current.made_with["raw"] and "different packages" not in (
        table.text(first)
    )
    monkeypatch.setattr(measuring.versions, "packages", lambda: "tensorflow 1")
    both = measure("run", "ema_0.5", sampler="dpm")
    told = table.text(both)
    assert f"raw with {first.current.made_with['raw']}; ema_0.5 with tensorflow 1." in told
    assert "different packages" not in table.text(measure("run", "raw", sampler="dpm"))


@pytest.mark.parametrize(
    ("trained", "given", "options"),
    [
        ({}, {}, {}),
        ({"sampler": "dpm:order=3", "sampling_steps": 20}, {}, "dpm:order=3 20"),
        ({"sampler": "dpm", "sampling_steps": 20}, {"sampler": "ddim", "steps": 50}, {}),
        ({"sampler": "dpm"}, {"steps": 20, "precision": "bfloat16"}, "dpm 20 bfloat16"),
        ({"timesteps": 20}, {}, {}),
        ({"timesteps": 20}, {"steps": 50}, {}),
    ],
)
def test_what_is_printed_draws_as_was_measured(trained, given, options):
    if options:
        options = dict(zip(("sampler", "steps", "precision"), options.split(), strict=False))
    trained, given = TrainOptions(**trained), EvaluateOptions(**given)
    assert drawn.asked(given, trained) == options
    typed = sample_options(["run", *words.typed(options)])
    schedule = noise.linear(trained.timesteps)
    steps = min(given.steps or trained.sampling_steps, trained.timesteps)
    measured = named.sampler(given.sampler or trained.sampler, schedule, steps=steps)
    assert repr(modes.sampler(typed, schedule)) == repr(measured)


def test_another_way_stands_apart_and_coming_back_goes_on(measure, tmp_path):
    measure("run", "raw", "ema_0.5")
    other = measure("run", "ema_0.5", num_images=20)
    assert list(other.current.weights) == ["ema_0.5"]
    assert [list(each.weights) for each in other.apart] == [["raw", "ema_0.5"]]
    assert "kept apart: raw, ema_0.5 (Fréchet distance, row and column means, 40 images" in (
        table.text(other)
    )
    assert verdict.of_run(other)[1] == other.apart[0]
    back = measure("run", "ema_0.9")
    assert list(back.current.weights) == ["raw", "ema_0.5", "ema_0.9"]
    assert set(back.current.differences) == {"ema_0.5", "ema_0.9"}
    pictures = (tmp_path / "run" / "evaluation").glob("nearest-*.png")
    ways = (("raw", back), ("ema_0.5", back), ("ema_0.9", back), ("ema_0.5", other))
    assert {path.name for path in pictures} == {
        names.nearest(name, each.current.key) for name, each in ways
    }


def test_a_file_of_statistics_is_known_by_what_it_holds(measure, digits, tmp_path, capsys):
    def statistics(part):
        quality.FeatureStatistics.of(Means()(part)).save(tmp_path / "real.npz")

    statistics(digits.train[:60])
    measure("run", "raw", reference=str(tmp_path / "real.npz"))
    assert f"training images are at 0.00 from {tmp_path}/real.npz" in capsys.readouterr().out
    statistics(digits.train[60:120])
    found = measure("run", "ema", reference=str(tmp_path / "real.npz"))
    assert list(found.current.weights) == ["ema_0.9"] and len(found.apart) == 1


def test_a_reference_that_is_none_is_refused_before_images_are_drawn(measure, model, monkeypatch):
    monkeypatch.setattr(model, "sample", lambda *_, **__: pytest.fail("images were drawn"))
    with pytest.raises(UsageError, match="--reference none.npz: give train, held-out"):
        measure("run", reference="none.npz")


def test_a_damaged_file_of_influences_is_made_anew(measure, tmp_path):
    measure("run", "raw")
    (path,) = (tmp_path / "run" / "evaluation").glob("influences-*.npz")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="influences-.* is damaged"):
        found = measure("run", "ema_0.5")
    assert found.current.differences == {} and verdict.of_run(found)[0].outcome == "undecided"
    assert measure("run", "raw").current.differences.keys() == {"ema_0.5"}
