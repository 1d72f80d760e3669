"""Small trainings with an EMAOptimizer, and what is compared of them."""

import keras
import numpy as np
from small_trainings import compiled, numbers, small_network, task

from ddpm_keras import EMAOptimizer

O = keras.optimizers  # noqa: E741
SGD = O.SGD
X, Y = task()


def fitted(optimizer, epochs=2, normalised=False, **arguments):
    keras.utils.set_random_seed(0)
    model = compiled(small_network(normalised), optimizer, **arguments)
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def adam(ema=(0.9, 0.99)):
    return EMAOptimizer(O.Adam(1e-2), ema)


def state_of(model):
    return numbers([*model.weights, *model.optimizer.variables])


def assert_equal(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)
