"""EvaluateAverages: metrics of every average in the logs, the training state left to the bit."""

import keras
import numpy as np
import pytest
import small_gan
import tensorflow as tf
from networks import small_network as unet_of_images
from refusals import assert_refused
from small_trainings import compiled, numbers, small_network, task

from ddpm_keras import DDPM, EMA, EMAModel, EMAOptimizer, callbacks
from ddpm_keras.ema.optimizer import averages_of

X, Y = task()
AVERAGES = (0.5, 0.9)


def optimized():
    optimizer = EMAOptimizer(keras.optimizers.SGD(0.5), AVERAGES)
    return compiled(small_network(normalised=True), optimizer)


def wrapped():
    return compiled(
        EMAModel(small_network(normalised=True), ema=AVERAGES), keras.optimizers.SGD(0.5)
    )


MODELS = {
    "EMAOptimizer": (optimized, lambda model, name: model.optimizer.ema.export(model, name)),
    "EMAModel": (wrapped, lambda model, name: model.export_network(f"ema_{name}")),
}
DATA = {
    "arrays": lambda: callbacks.EvaluateAverages((X, Y), batch_size=20),
    "data set": lambda: callbacks.EvaluateAverages(
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    ),
}


def fit(model, *watch, epochs=2):
    given = {"batch_size": 16, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    return model.fit(X, Y, epochs=epochs, callbacks=list(watch), **given).history


@pytest.mark.parametrize(("kind", "data"), list(zip(MODELS, DATA, strict=True)))
def test_each_average_has_its_metrics_and_the_training_is_the_same_to_the_bit(kind, data):
    make, export = MODELS[kind]
    trained = []
    for watch in ([], [DATA[data]()]):
        keras.utils.set_random_seed(0)
        model = make()
        trained.append((model, fit(model, *watch)))
    (plain, before), (watched, after) = trained
    assert before.items() <= after.items()  # the logs of training and validation
    pairs = zip(plain.weights + plain.optimizer.variables, _state(watched), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert getattr(watched, "evaluation_weights", "ema") == "ema"
    for name in ("0.5", "0.9"):
        network = compiled(export(watched, name))
        expected = network.evaluate(X, Y, batch_size=20, verbose=0, return_dict=True)
        for what, value in expected.items():
            found = after[f"val_{what}_ema_{name}"]
            assert len(found) == 2 and found[-1] == pytest.approx(value, abs=1e-6)
    assert after["val_loss_ema_0.5"] != after["val_loss_ema_0.9"]


def _state(model):
    return numbers(model.weights + model.optimizer.variables)


@keras.saving.register_keras_serializable("tests")
class Penalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


def penalised():
    options = {"activity_regularizer": "l2", "kernel_regularizer": "l2", "bias_regularizer": "l2"}
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, **options), Penalty()])


def in_part():
    """Averages of the kernel alone, while the bias is penalised too."""
    kernel = EMAOptimizer(keras.optimizers.SGD(0.5), 0.5)
    rest = keras.optimizers.SGD(0.5)
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(rest, {".*kernel": kernel})
    )


PENALISED = {
    "EMAOptimizer": lambda: compiled(penalised(), EMAOptimizer(keras.optimizers.SGD(0.5), 0.5)),
    "in part": lambda: compiled(penalised(), in_part()),
    "EMAModel": lambda: compiled(EMAModel(penalised(), ema=0.5), keras.optimizers.SGD(0.5)),
}


@pytest.mark.parametrize("kind", PENALISED)
def test_losses_that_layers_add_are_those_of_the_average(kind):
    model = PENALISED[kind]()
    logs = fit(model, callbacks.EvaluateAverages((X, Y), batch_size=16))
    (ema,) = averages_of(model)
    shipped = compiled(ema.export(model.network if kind == "EMAModel" else model, "0.5"))
    expected = shipped.evaluate(X, Y, batch_size=16, verbose=0)[0]
    assert logs["val_loss_ema_0.5"][-1] == pytest.approx(expected, rel=1e-5)
    if kind == "EMAModel":
        found = model.evaluate(X, Y, batch_size=16, verbose=0)[0]
        assert found == logs["val_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_a_model_with_its_own_test_step_and_two_optimizers():
    model = small_gan.GAN()
    model.compile(*small_gan.optimizers())
    watch = callbacks.EvaluateAverages((small_gan.images(),), batch_size=48, every_epochs=2)
    logs = small_gan.fit(model, 2, callbacks=[watch]).history.history
    assert len(logs["val_distance_ema_0.9"]) == len(logs["val_distance_ema_warm"]) == 1
    for name in ("0.9", "warm"):
        fake = model.g_optimizer.ema.export(model.generator, name)(np.ones((4, 2), np.float32))
        expected = np.linalg.norm(np.mean(fake, 0) - small_gan.images().mean(0))
        assert logs[f"val_distance_ema_{name}"][0] == pytest.approx(expected, abs=1e-5)


def test_an_average_can_be_monitored(tmp_path):
    keep = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "val_loss_ema_0.9", mode="min", save_best_only=True
    )
    model = optimized()
    fit(model, callbacks.EvaluateAverages((X, Y)), keep)
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.optimizer.ema.num_updates in (3, 6)
    if best.optimizer.ema.num_updates == 6:
        for a, b in zip(numbers(best.optimizer.variables), model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_what_cannot_be_evaluated_is_refused():
    plain = compiled(small_network())
    call = callbacks.EvaluateAverages
    assert_refused(lambda: fit(plain, call((X, Y))), ["no averages", "EMAOptimizer"])
    without = compiled(EMAModel(small_network(), ema=EMA(())))
    assert_refused(lambda: fit(without, call((X, Y))), ["no averages"])
    assert_refused(lambda: call((X[:0], Y[:0])), ["validation_data", "no rows"])
    nothing = call(tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(2))
    assert_refused(lambda: fit(optimized(), nothing, epochs=1), ["validation_data", "no batch"])
    images = DDPM(unet_of_images(), timesteps=4, ema=0.5)
    images.compile("sgd")
    wrong = call(np.zeros((2, 8, 8, 3), np.uint8))
    assert_refused(
        lambda: images.fit(np.zeros((2, 8, 8, 1), np.uint8), verbose=0, callbacks=[wrong]),
        ["batches hold (8, 8, 3)"],
    )
    assert not images.steps_made
    assert_refused(lambda: call(iter([(X, Y)])), ["validation_data", "read once"])
    assert_refused(lambda: call((X, Y), every_epochs=0), ["every_epochs", "at least 1"])
    assert_refused(lambda: call((X, Y), batch_size=0.5), ["batch_size"])
    assert_refused(lambda: call((X, Y), steps=0), ["steps"])
