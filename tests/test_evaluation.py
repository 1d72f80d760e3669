"""The parts of an evaluation: what is drawn, measured against, compared and printed."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from networks import conditional_model

from ddpm_keras import quality, samplers
from ddpm_keras.app import drawn, measuring, references, stored, table, workers
from ddpm_keras.app.options import EvaluateOptions, TrainOptions
from ddpm_keras.quality import bootstrap

ALONE = workers.Crew(tf.distribute.get_strategy())


class Means(quality.FeatureExtractor):
    """Mean of each row of an image."""

    name, dim, channels, fingerprint = "row means", 8, 1, "row means"

    def _features(self, batch):
        return batch.mean(axis=(2, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    """Three classes, weights that are nowhere 0, two averages that differ."""
    return conditional_model()


def test_images_are_drawn_as_the_options_say(model, tmp_path):
    options = EvaluateOptions(
        num_images=5, sampler="ddpm", steps=3, seed=4, guidance=(2.0,), batch_size=2
    )
    draw = drawn.Drawing(model, TrainOptions(), options, None, ALONE)
    found = draw.features(Means(), "ema_0.5", tmp_path / "features")
    arguments = {"sampler": samplers.DDPM(steps=3), "seed": 4, "guidance_scale": 2.0}
    arguments["weights"] = "ema_0.5"
    expected = Means()(model.sample(5, **arguments))
    np.testing.assert_allclose(found, expected, atol=0.5)  # rounding of a pixel by the batch
    for change in ({"weights": "ema_0.9"}, {"seed": 0}, {"guidance_scale": 1.0}):
        assert np.abs(Means()(model.sample(5, **arguments | change)) - expected).max() > 1
    assert draw.settings["sampler"] == repr(samplers.DDPM(steps=3))
    assert (draw.settings["seed"], draw.settings["guidance"]) == (4, 2.0)


def test_images_of_any_numbers_are_those_of_the_series(model):
    options = EvaluateOptions(num_images=9, sampler="ddpm", steps=3, guidance=(2.0,), batch_size=2)
    draw = drawn.Drawing(model, TrainOptions(), options, None, ALONE)
    series = draw.images("raw", 0, 9).astype(int)
    indices = np.array([8, 2, 5])
    assert np.abs(draw.chosen("raw", indices) - series[indices]).max() <= 1  # rounding of a pixel
    assert set(draw.stages.seconds) == {"sampling"}


def test_what_the_options_leave_open_is_that_of_the_training(model):
    trained = TrainOptions(num_images=7, sampler="dpm", sampling_steps=9)
    draw = drawn.Drawing(model, trained, EvaluateOptions(), None, ALONE)
    assert (draw.num_images, draw.sampler) == (7, samplers.DPMSolver(steps=9))
    trained = TrainOptions(sampling_steps=1000)
    longest = drawn.Drawing(model, trained, EvaluateOptions(), None, ALONE)
    assert longest.sampler == samplers.DDIM(steps=60)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ((), ["raw", "ema_0.5", "ema_0.9"]),
        (("ema", "raw"), ["ema_0.9", "raw"]),
    ],
)
def test_weight_sets_are_those_asked_for_in_their_order(model, asked, names):
    run = SimpleNamespace(last_step=model.steps_made)
    chosen = stored.StoredWeights(run, model).chosen(EvaluateOptions(weights=asked))
    assert list(chosen.items()) == [(name, name) for name in names]


def test_the_reference_is_the_part_that_is_named(tmp_path):
    random = np.random.default_rng(0)
    real = {name: random.normal(size=(9, 4)) for name in ("train", "held_out")}
    assert references.choose_reference("train", real) is real["train"]
    assert references.choose_reference("held-out", real) is real["held_out"]
    quality.FeatureStatistics.of(real["held_out"]).save(tmp_path / "a.npz")
    loaded = references.choose_reference(str(tmp_path / "a.npz"), real)
    np.testing.assert_allclose(loaded.mean, real["held_out"].mean(axis=0))


def test_differences_are_of_each_average_to_the_raw_weights():
    """Both averages are nearer, so their differences are negative, the last one's most so."""
    random = np.random.default_rng(0)
    real, shared = random.normal(size=(500, 3)), random.normal(size=(200, 3))
    rows = {"raw": shared + 0.9, "ema_0.9": shared + 0.6, "ema_0.99": shared + 0.1}
    reference = quality.FeatureStatistics.of(real)
    weights = {
        name: quality.Measurement(
            frechet=quality.frechet_distance(reference, features), num_images=200, extractor="x"
        )
        for name, features in rows.items()
    }
    influences = {name: bootstrap.influence(reference, each) for name, each in rows.items()}
    found = measuring.differences(weights, influences)
    assert list(found) == ["ema_0.9", "ema_0.99"]
    for name, difference in found.items():
        expected = quality.paired_difference(reference, rows[name], rows["raw"])
        assert (difference.estimate, difference.low, difference.high) == pytest.approx(
            (expected.estimate, expected.low, expected.high)
        )
    assert found["ema_0.99"].high < found["ema_0.9"].low < found["ema_0.9"].high < 0
    assert measuring.differences(weights, {"ema_0.9": influences["ema_0.9"]}) == {}


def test_the_table_has_each_number_under_its_heading():
    measured = {"num_images": 1437, "extractor": "row means"}
    whole = {"frechet_held_out": 2.345, "kid": 0.00123, "kid_std": 0.00045}
    whole |= {"precision": 0.678, "recall": 0.543, "bits_per_dim": 3.21, "bits_per_dim_error": 0.04}
    text = table.rows(
        quality.Evaluation(
            weights={
                "raw": quality.Measurement.of(frechet=10.128, **whole, **measured),
                "ema_0.9": quality.Measurement(frechet=1.5, **measured),
            },
            reference=quality.Reference(
                split="train", num_held_out=360, floor_frechet=3.14159, floor=0.512
            ),
            metric="Fréchet distance, row means",
        )
    )
    head, columns, raw, average, floor, bits = text.splitlines()
    assert head == "Fréchet distance, row means, of 1,437 generated images (less is better)"
    assert columns.split("  ")[0] == "weights"
    assert columns.split() == (
        "weights to training images to held-out images KID x 1000 precision recall".split()
    )
    assert raw.split() == ["raw", "10.13", "2.35", "1.23", "±", "0.45", "0.678", "0.543"]
    assert average.split() == ["ema_0.9", "1.50"]
    ends = [
        columns.index(word) + len(word) for word in ("to training images", "precision", "recall")
    ]
    for end, number in zip(ends, ("10.13", "0.678", "0.543"), strict=True):
        assert raw[:end].endswith(number)
    assert floor == (
        "For comparison, 360 held-out real images are at 3.14 from train; 1,437 would be at 0.51."
    )
    assert bits == "raw: 3.210 ± 0.040 bits per dimension, held-out images"
