"""Guidance: the images that lie on from the worse prediction through the good one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import beside, conditional_model
from refusals import assert_refused

from ddpm_keras import DDPM, data, guidance, quality, samplers
from ddpm_keras.app import training
from ddpm_keras.app.options import train_options
from ddpm_keras.ema import WeightSet
from ddpm_keras.random import image_seeds, initial_noise

STEPS = 10


@pytest.mark.slow
def test_guided_digits_are_of_the_asked_class(digits):
    arguments = "--conditional --batch-size 64 --learning-rate 2e-3 --snapshots 0".split()
    options, _ = train_options(arguments)
    model = training.build_model(options, digits)
    stream = data.training_stream(digits.train, digits.train_labels, batch_size=64, seed=0)
    model.fit(stream, steps_per_epoch=800, shuffle=False, verbose=0)

    labels = np.arange(500) % 10
    drawn = model.sample(
        500, "ema", samplers.DDIM(steps=20), labels=labels, guidance_scale=2.0, batch_size=250
    )
    classifier = quality.ClassifierFeatures.train(
        digits.train, digits.train_labels, dataset="digits"
    )
    assert classifier.accuracy(digits.held_out, digits.held_out_labels) > 0.97
    assert classifier.accuracy(drawn, labels) >= 0.97


# Autoguidance


class Gaussian(keras.layers.Layer):
    """The best prediction of the noise in data from N(mean, deviation^2), which are its weights."""

    def __init__(self, schedule):
        super().__init__()
        self.cumprod = tf.constant(schedule.alphas_cumprod, tf.float32)
        self.mean = self.add_weight(shape=(), name="mean")
        self.deviation = self.add_weight(shape=(), name="deviation")

    def call(self, x, t):
        return best_epsilon(x, tf.gather(self.cumprod, t)[:, None, None, None], *self.weights)


def best_epsilon(x, cumprod, mean, deviation):
    """E[epsilon | x] for data from N(mean, deviation^2), of NumPy arrays or tensors."""
    return (1 - cumprod) ** 0.5 * (x - cumprod**0.5 * mean) / (cumprod * deviation**2 + 1 - cumprod)


@pytest.fixture(scope="module")
def gaussian():
    """A model that is told by its weights which Gaussian it draws."""
    x, t = keras.Input((2, 2, 1)), keras.Input((), dtype="int32")
    model = DDPM(keras.Model([x, t], beside(x, t)), "cosine", 100, ema=None)  # for its schedule
    return DDPM(keras.Model([x, t], Gaussian(model.schedule)(x, t)), model.schedule, ema=None)


GOOD, WORSE = (0.2, 0.1), (0.05, 0.3)


def drawn_in_float64(schedule, scale, num_images, seed):
    """DDIM (Song et al. 2021a, eq. 12 with sigma = 0), step by step, of two predictions."""
    x = np.array(initial_noise(image_seeds(seed, 0, num_images), (2, 2, 1)), np.float64)
    timesteps = samplers.DDIM(STEPS).timesteps(schedule)
    cumprod = schedule.alphas_cumprod[timesteps]
    for now, then in zip(cumprod, np.append(cumprod[1:], 1.0), strict=True):
        good, worse = (best_epsilon(x, now, *each) for each in (GOOD, WORSE))
        epsilon = worse + scale * (good - worse)
        x_start = (x - np.sqrt(1 - now) * epsilon) / np.sqrt(now)
        x = np.sqrt(then) * x_start + np.sqrt(1 - then) * epsilon
    return np.clip(x, -1, 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5, 3.0])
def test_a_guide_is_gone_away_from(gaussian, scale):
    good, worse = (
        WeightSet(name, [np.float32(x) for x in values])
        for name, values in (("good", GOOD), ("worse", WORSE))
    )
    sampler = samplers.DDIM(STEPS, clip=False)
    arguments = {"sampler": sampler, "seed": 3, "output": "float"}
    drawn = gaussian.sample(50, good, guide=worse, guidance_scale=scale, **arguments)
    expected = drawn_in_float64(gaussian.schedule, scale, 50, seed=3)
    np.testing.assert_allclose(drawn, expected, atol=2e-5)
    if scale in (0.0, 1.0):
        alone = gaussian.sample(50, worse if scale == 0 else good, **arguments)
        np.testing.assert_allclose(drawn, alone, atol=0 if scale == 1 else 2e-5)


def test_a_guide_has_the_label_of_what_it_guides():
    """In the place of the network without label: it is one kind of guidance or the other."""
    model = conditional_model()
    random = np.random.default_rng(1)
    x = tf.constant(random.normal(size=(2, 8, 8, 1)), tf.float32)
    t, labels = tf.constant([3, 50]), tf.constant([0, 2])
    good = np.array(model.predict_epsilon(x, t, labels), np.float64)
    with model.weight_scope("ema_0.5"):
        worse = np.array(model.predict_epsilon(x, t, labels), np.float64)
    guided = model.predict_epsilon(x, t, labels, tf.constant(2.0), "ema_0.5")
    np.testing.assert_allclose(guided, worse + 2.0 * (good - worse), rtol=1e-5, atol=1e-4)


WRONG = {
    "no strength": ({"guide": "raw"}, ["guidance_scale"]),
    "nothing to guide by": ({"guidance_scale": 2.0}, ["num_classes", "guide"]),
    "itself": ({"guide": "raw", "weights": "ema", "guidance_scale": 2}, ["both 'raw'"]),
    "unknown": ({"guide": "ema_0.7", "guidance_scale": 2}, ["ema_0.7", "raw"]),
    "not finite": (
        {"guide": WeightSet("a", [np.float32("nan"), np.float32(1)]), "guidance_scale": 2},
        ["'a'", "finite"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_guide_is_refused(gaussian, case):
    arguments, words = WRONG[case]
    assert_refused(lambda: gaussian.sample(1, **arguments), words)


# Rescaling and the interval


def test_rescaling_keeps_the_spread_of_the_good_prediction():
    random = np.random.default_rng(0)
    good, worse = random.normal(size=(2, 3, 4, 4, 2))
    guided = guidance.extrapolated(good, worse, 3.0)
    rescaled = np.array(guidance.rescaled(tf.constant(guided), tf.constant(good), 1.0))
    np.testing.assert_allclose(rescaled.std(axis=(1, 2, 3)), good.std(axis=(1, 2, 3)))
    ratio = good.std(axis=(1, 2, 3)) / guided.std(axis=(1, 2, 3))  # eq. 15
    factor = 0.7 * ratio + 0.3  # eq. 16
    found = guidance.rescaled(tf.constant(guided), tf.constant(good), 0.7)
    np.testing.assert_allclose(found, guided * factor[:, None, None, None])
    np.testing.assert_array_equal(guidance.rescaled(tf.constant(guided), good, 0.0), guided)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance_goes_on_from_the_worse_through_the_good(scale):
    assert guidance.extrapolated(3.0, 1.0, scale) == 1.0 + 2.0 * scale


def test_the_interval_holds_its_low_end_and_not_its_high_one():
    scales = guidance.scale_at(tf.constant([9, 10, 19, 20]), 3.0, 10, 20)
    np.testing.assert_array_equal(scales, [1, 3, 3, 1])


@pytest.mark.parametrize("guide", [None, "ema_0.5"])
def test_the_worse_prediction_is_not_made_outside_of_the_interval(guide, monkeypatch):
    model, rows = conditional_model(), []
    output = model._output

    def counted(x, *arguments, **settings):
        rows.append(len(x))
        return output(x, *arguments, **settings)

    monkeypatch.setattr(model, "_output", counted)
    x, labels = tf.zeros((2, 8, 8, 1)), tf.constant([0, 2])
    within = guidance.Guidance(2.0, low=10.0, high=20.0)
    for t, times in ([[15, 15], 2], [[25, 25], 1], [[5, 15], 2]):
        rows.clear()
        guided = model.predict_output(x, tf.constant(t), labels, within, guide)
        assert sum(rows) == 2 * times, t
        if times == 1:
            plain = model.predict_output(x, tf.constant(t), labels)
            np.testing.assert_array_equal(guided, plain)


def test_how_images_are_guided():
    """Nothing rescaled, and an interval of all timesteps, are plain guidance; else there is less
    of it."""
    model = conditional_model()
    settings = {"sampler": samplers.DDIM(4), "output": "float", "weights": "raw"}

    def draw(scale=3.0, **more):
        return model.sample(2, guidance_scale=scale, **more, **settings)

    plain, unguided = draw(), draw(1.0)
    np.testing.assert_array_equal(draw(guidance_rescale=0.0), plain)
    np.testing.assert_array_equal(draw(guidance_interval=(0, 60)), plain)
    for more in ({"guidance_rescale": 0.7}, {"guidance_interval": (0, 30)}, {"guide": "ema_0.9"}):
        other = draw(**more)
        assert np.abs(other - plain).max() > 1e-3 < np.abs(other - unguided).max(), more
    assert model.traced.sampling.cache_info().currsize == 3  # by numbers nothing is traced anew


def test_images_that_overflow_are_refused():
    model = conditional_model()
    large = WeightSet("large", [np.full(v.shape, 1e30, "float32") for v in model.network.weights])
    assert_refused(lambda: model.sample(1, large, samplers.DDIM(2)), ["images", "overflows"])


REFUSED = {
    "guidance_rescale|without guidance": {"guidance_rescale": 0.7},
    "guidance_interval|without guidance": {"guidance_interval": (0, 9), "guidance_scale": 1},
    "guidance_rescale|1.5|0 to 1": {"guidance_rescale": 1.5, "guidance_scale": 2},
    "guidance_interval|(9, 3)|low < high": {"guidance_interval": (9, 3), "guidance_scale": 2},
    "guidance_interval|5": {"guidance_interval": 5, "guidance_scale": 2},
    "guidance_interval|nan": {"guidance_interval": (0, np.nan), "guidance_scale": 2},
    "guidance_interval 60 to 61|none of": {"guidance_interval": (60, 61), "guidance_scale": 2},
    "guidance_interval 1 to 9|from 59 to 29": {
        "guidance_interval": (1, 9),
        "guidance_scale": 2,
        "sampler": samplers.DDIM(2),
    },
    "guidance_scale|all labels are 3": {"labels": 3, "guidance_scale": 2},
}


@pytest.mark.parametrize("words", REFUSED)
def test_guidance_that_means_nothing_is_refused(words):
    assert_refused(lambda: conditional_model().sample(1, **REFUSED[words]), words.split("|"))


def test_a_guide_by_name_is_that_weight_set_in_the_scope_of_another():
    model = conditional_model()
    x, t, labels = tf.ones((2, 8, 8, 1)), tf.constant([3, 30]), tf.constant([0, 1])
    with model.weight_scope("ema_0.5"):
        alone = model.predict_output(x, t, labels)
        guided = model.predict_output(x, t, labels, guidance=3.0, guide="raw")
    raw = model.predict_output(x, t, labels)
    np.testing.assert_allclose(guided, raw + 3.0 * (alone - raw), atol=1e-5)
    assert np.abs(alone - raw).max() > 1e-4
