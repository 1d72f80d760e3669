"""Guidance: the images that lie on from the worse prediction through the good one."""

import numpy as np
import pytest
import tensorflow as tf
from networks import conditional_model

from ddpm_keras import data, quality, samplers
from ddpm_keras.app import training
from ddpm_keras.app.options import train_options


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
