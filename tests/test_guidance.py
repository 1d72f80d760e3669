"""Class-conditional digits: what is asked for is what is drawn."""

import numpy as np
import pytest

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
