"""Ten traps that implementations of averages fall into: each is shown to catch the naive way.

Every test states what must hold as a function `holds`, and asserts that it fails for the naive
implementation and is true of this one.
"""

import contextlib
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras.ema import EMA, EMAModel, WarmupDecay

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(16, 2)).astype(np.float32)


def network_of(*more):
    layers = [keras.layers.Dense(3), *more, keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((4,)), *layers])


def arrays(variables):
    return [np.array(variable) for variable in variables]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_1_once_per_step_not_per_micro_batch():
    def moves(average, model):
        """How often the average moves in four calls that make two true steps."""
        count = 0
        for _ in range(4):
            before = arrays(average())
            model.train_on_batch(X, Y)
            count += not same(before, arrays(average()))
        return count

    naive = network_of()
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2, use_ema=True)
    optimizer.build(naive.trainable_variables)
    naive.compile(optimizer, "mse")
    naive.train_on_batch(X, Y)
    naive.train_on_batch(X, Y)
    assert moves(lambda: optimizer._model_variables_moving_average, naive) > 2

    model = EMAModel(network_of(), ema=0.9)
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    assert moves(lambda: model.weight_values("ema"), model) == 2


def test_2_averages_in_half_precision_never_move():
    def holds(average):
        """After 100 steps of 0.9999 at weights one unit away, the average has moved by 1%."""
        return abs(float(average) - 2.00995) < 1e-4

    weight = keras.Variable(2.0, dtype="bfloat16")
    naive = tf.Variable(2.0, dtype=tf.bfloat16)
    ema = EMA(0.9999)
    ema.build([weight])
    weight.assign(3.0)
    for _ in range(100):
        naive.assign_add(tf.cast(1e-4, tf.bfloat16) * (weight.value - naive))
        ema.update([weight])
    assert float(naive) == 2.0 and not holds(naive)
    assert holds(ema.variables("0.9999")[0])


def test_3_a_skipped_step_does_not_count_and_does_not_spread_nan():
    weight = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([weight])
    naive = tf.Variable([1.0])
    weight.assign([np.nan])
    stepped = tf.constant(False)
    naive.assign_add(tf.cast(stepped, tf.float32) * 0.5 * (weight.value - naive))  # 0 * nan
    ema.update([weight], stepped)
    assert np.isnan(naive.numpy()).all()
    assert np.array_equal(ema.variables("0.5")[0], [np.nan], equal_nan=True)  # no update yet: copy
    weight.assign([3.0])
    ema.reset()
    ema.update([weight])
    weight.assign([np.nan])
    ema.update([weight], stepped)
    np.testing.assert_array_equal(ema.variables("0.5")[0], [3.0])
    assert ema.num_updates == 1

    # The counter that tells: `iterations` of a LossScaleOptimizer is that of the optimizer inside.
    bad = X.copy()
    bad[0] = np.inf
    model = EMAModel(network_of(), ema=WarmupDecay(0.999))
    inner = keras.optimizers.SGD(0.1)
    model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0), "mse")
    for batch in (X, bad, X, bad):
        model.train_on_batch(batch, Y)
    assert model.ema.num_updates == 2  # not 4, as a naive counter of calls says
    assert model.ema.beta("warmup_0.999") == pytest.approx(3 / 12)


def test_4_constants_and_counters_are_copied():
    def holds(table, counter):
        return table == np.float32(0.1) and counter == 7

    table = keras.Variable(0.1, trainable=False)
    counter = keras.Variable(3, dtype="int32", trainable=False)
    weight = keras.Variable(1.0)
    ema = EMA(0.9)
    ema.build([weight, table, counter])
    naive = [np.float32(0.1), 3]
    counter.assign(7)
    for _ in range(3):
        naive = [np.float32(0.9) * naive[0] + np.float32(0.1) * np.float32(0.1)] + [
            int(0.9 * naive[1] + 0.1 * 7)
        ]
        ema.update([weight])
    assert not holds(*naive)
    assert holds(*[value.numpy() for value in ema.variables("0.9")[1:]])


def test_5_the_counter_survives_a_resume(tmp_path):
    def holds(resumed, whole):
        return same(arrays(resumed.weight_values("ema")), arrays(whole.weight_values("ema")))

    def make(weights):
        keras.utils.set_random_seed(0)
        model = EMAModel(network_of(), ema=WarmupDecay(0.999))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.optimizer.build(model.trainable_variables)
        if weights:
            model.load_weights(weights)
        return model

    path = tmp_path / "half.weights.h5"
    whole = make(None)
    whole.fit(X, Y, epochs=20, shuffle=False, verbose=0)
    whole.save_weights(path)
    naive, resumed = make(path), make(path)
    naive.ema._steps.assign(0)  # averages restored, counter not
    for model in (whole, naive, resumed):
        # The weights jump: a re-warmed average would follow with beta = 1/10.
        model.network.set_weights([w + 1 for w in model.network.get_weights()])
        model.ema.update(model.network.weights)
    assert not holds(naive, whole)
    assert holds(resumed, whole)


def test_6_an_exception_while_averages_are_in_use_leaves_the_weights():
    class Broken(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise RuntimeError("out of disk")

    @contextlib.contextmanager
    def naive_swap(model):
        raw = model.network.get_weights()
        model.network.set_weights(arrays(model.weight_values("ema")))
        yield
        model.network.set_weights(raw)  # never reached

    def holds(evaluate):
        model = EMAModel(network_of(), ema=0.9)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(X, Y, epochs=2, verbose=0)
        before = model.network.get_weights()
        with pytest.raises(RuntimeError, match="out of disk"):
            evaluate(model)
        return same(before, model.network.get_weights())

    def naive(model):
        with naive_swap(model):
            raise RuntimeError("out of disk")

    assert not holds(naive)
    assert holds(lambda model: model.evaluate(X, Y, callbacks=[Broken()], verbose=0))


def test_7_a_clone_has_weights_of_its_own_until_they_are_copied():
    def holds(network, model):
        return same(arrays(network.weights), arrays(model.weight_values("ema")))

    model = EMAModel(network_of(), ema=0.9)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, verbose=0)
    assert not holds(keras.models.clone_model(model.network), model)
    assert holds(model.export_network("ema"), model)


def test_8_averages_belong_to_the_strategy_of_their_weights():
    script = pathlib.Path(__file__).with_name("ema_replicas.py")
    done = subprocess.run(
        [sys.executable, script, "scope"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    naive, ours = done.stdout.split()[-2:]
    assert naive == "failed" and ours == "moved"


def test_9_fit_leaves_raw_weights_raw_and_frozen_layers_aligned():
    def holds(fit):
        """The raw weights when fit ends are those of its last step."""
        keras.utils.set_random_seed(0)
        return fit()

    def naive_fit():
        network = network_of()
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
        network.compile(optimizer, "mse")
        last = Last(network)
        network.fit(X, Y, epochs=3, verbose=0, callbacks=[last])
        return same(last.weights, network.get_weights())

    def our_fit():
        model = EMAModel(network_of(), ema=0.9)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        last = Last(model.network)
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[last])
        return same(last.weights, model.network.get_weights())

    class Last(keras.callbacks.Callback):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def on_train_batch_end(self, batch, logs=None):
            self.weights = self.network.get_weights()

    assert not holds(naive_fit)
    assert holds(our_fit)


def test_9_a_frozen_layer_does_not_shift_the_averages():
    first, second = keras.layers.Dense(2), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), first, second])
    naive = [tf.Variable(v.value) for v in model.trainable_variables]
    ema = EMA(0.5)
    ema.build(model.weights)
    first.trainable = False
    second.kernel.assign(second.kernel + 1.0)
    expected = second.kernel.numpy() - 0.5
    for average, weight in zip(naive, model.trainable_variables, strict=False):
        average.assign(0.5 * average + 0.5 * weight)  # moves the first layer to the second
    ema.update(model.trainable_variables)
    assert not np.allclose(naive[2], expected)
    np.testing.assert_allclose(ema.variables("0.5")[2], expected, atol=1e-6)
    np.testing.assert_array_equal(ema.variables("0.5")[0], first.kernel)


def test_10_a_run_too_short_for_its_average_is_called_so(caplog):
    ema = EMA(0.9999)
    assert ema.decays["0.9999"].initial_share(2000) == pytest.approx(0.8187, abs=1e-4)
    (line,) = ema.warnings(2000)
    assert "10,000 steps" in line and "82%" in line

    network = network_of()
    network.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9999), "mse")
    network.fit(X, Y, verbose=0)
    assert not caplog.records  # silence is the naive way
    model = EMAModel(network_of(), ema=0.9999)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, verbose=0)
    assert "the initial weights still count 100%" in caplog.text
