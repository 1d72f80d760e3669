"""Trainings of a second: a task, a network, and the average of its weights in float64."""

import keras
import numpy as np

from ddpm_keras.ema import EMA, EMAModel


def numbers(variables):
    return [np.asarray(variable) for variable in variables]


SAMPLES = 48


def task():
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 4)).astype(np.float32)
    return x, random.integers(0, 3, SAMPLES)


def small_network(normalised=False):
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
    if normalised:
        layers.insert(1, keras.layers.BatchNormalization())
    return keras.Sequential([keras.Input((4,)), *layers])


def compiled(model, optimizer=None, **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"], **arguments)
    return model


def trained(optimizer=None, epochs=3, batch_size=16, compile_arguments=None, **arguments):
    keras.utils.set_random_seed(0)
    arguments.setdefault("ema", EMA((0.9, 0.99)))
    model = compiled(EMAModel(small_network(), **arguments), optimizer, **compile_arguments or {})
    model.fit(*task(), batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def followed(decay, optimizer=None, batch_size=16, epochs=3, every=1):
    """The same training by hand, with the average in float64."""
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(small_network()), optimizer)
    x, y = task()
    average = [v.astype(np.float64) for v in model.network.get_weights()]
    for call in range(epochs * SAMPLES // batch_size):
        part = np.arange(call * batch_size, (call + 1) * batch_size) % SAMPLES
        model.train_on_batch(x[part], y[part])
        if (call + 1) % every == 0:
            weights = model.network.get_weights()
            average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    return model.network.get_weights(), average


def assert_close(actual, expected, tolerance=1e-6):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), e, rtol=0, atol=tolerance)
