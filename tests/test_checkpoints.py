"""Checkpoints are written while training goes on, and hold the step they were made at."""

import threading

import keras
import numpy as np
import pytest

from ddpm_keras import EMAModel
from ddpm_keras.app.recorders import Checkpoints
from ddpm_keras.app.run_directory import Run
from ddpm_keras.keras_internals import weights_file

X, Y = np.random.default_rng(0).normal(size=(2, 32, 1)).astype(np.float32)


def small_model():
    keras.utils.set_random_seed(0)
    model = EMAModel(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), ema=0.5)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    return model


def fit(model, *watch, epochs=2):
    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=epochs, callbacks=list(watch), **options)


def state(model):
    return [np.array(variable) for variable in model.variables + model.optimizer.variables]


class SlowRun(Run):
    """A run whose checkpoint of step 2 is not written before `go` is set."""

    def __init__(self, path):
        super().__init__(path)
        self.go = threading.Event()

    def write_checkpoint(self, weights, step, metrics, keep=2):
        assert step != 2 or self.go.wait(30)
        super().write_checkpoint(weights, step, metrics, keep)


def test_a_checkpoint_holds_the_state_of_its_step_though_training_goes_on(tmp_path):
    run, before = SlowRun(tmp_path / "run"), {}

    def begin_epoch(epoch, logs):
        before[epoch] = state(model)

    def end_batch(batch, logs):
        if model.steps_made == 4:  # the second epoch is over before the first is written
            assert not list(tmp_path.rglob("step-00000002.*"))
            run.go.set()

    model = small_model()
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch, on_train_batch_end=end_batch)
    fit(model, watch, Checkpoints(run))
    assert run.checkpoint_steps == [2, 4]  # `fit` returns when all are written
    for step, expected in ((2, before[1]), (4, state(model))):
        other = small_model()
        fit(other, epochs=1)
        run.restore_step(other, step)
        for value, wanted in zip(state(other), expected, strict=True):
            np.testing.assert_array_equal(value, wanted)


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path):
    class Full(Run):
        def write_checkpoint(self, weights, step, metrics, keep=2):
            raise OSError(28, "No space left on device", str(self.path))

    model, saved = small_model(), Checkpoints(Full(tmp_path / "run"))
    with pytest.raises(OSError, match="No space left"):
        fit(model, saved, epochs=5)
    assert model.steps_made == 0  # that of the beginning is waited for
    saved.wait()  # and it is said once


def test_the_bytes_of_a_state_are_a_file_of_weights(tmp_path):
    model, other = small_model(), small_model()
    fit(model)
    fit(other, epochs=1)
    path = tmp_path / "model.weights.h5"
    path.write_bytes(weights_file(model))
    other.load_weights(path)
    for value, wanted in zip(state(other), state(model), strict=True):
        np.testing.assert_array_equal(value, wanted)
