"""Numbers that are not finite: no step is made of them, no average takes them in, none is used."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused

from ddpm_keras import DDPM, EMA, callbacks
from ddpm_keras.app.recorders import Checkpoints
from ddpm_keras.app.run_directory import Run
from ddpm_keras.ema import EMAModel, WarmupDecay, WeightSet

ROWS, BATCH = 48, 16
BAD = 20  # a row of the second of three batches


def task(bad=np.nan):
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 4)).astype(np.float32)
    x[BAD] = bad
    return x, random.normal(size=(ROWS, 3)).astype(np.float32)


def network(normalised=False):
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
    if normalised:
        layers.insert(1, keras.layers.BatchNormalization())
    return keras.Sequential([keras.Input((4,)), *layers])


def fitted(x, y, optimizer, normalised=False, compile_arguments=None, **arguments):
    keras.utils.set_random_seed(0)
    model = EMAModel(network(normalised), ema=EMA((0.9, WarmupDecay(0.99))), **arguments)
    model.compile(optimizer, "mse", **compile_arguments or {})
    model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return model


def arrays(model):
    sets = [np.array(v) for name in model.weight_sets for v in model.weight_values(name)]
    return sets + [np.array(v) for v in model.optimizer.variables]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


WAYS = {
    "graph": {},
    "eager": {"compile_arguments": {"run_eagerly": True}},
    "XLA": {"compile_arguments": {"jit_compile": True}},
    "steps_per_execution": {"compile_arguments": {"steps_per_execution": 3}},
    "micro-batches": {"accumulation_steps": 2},
    "BatchNormalization": {"normalised": True},
}


CASES = [(way, np.nan) for way in WAYS] + [("graph", np.inf), ("XLA", -np.inf)]


@pytest.mark.parametrize(("way", "bad"), CASES)
def test_a_batch_that_is_not_finite_leaves_no_trace(way, bad):
    """Weights, averages, moving statistics, optimizer and counters are as without the batch."""
    x, y = task(bad)
    model = fitted(x, y, keras.optimizers.Adam(1e-2), **WAYS[way])
    good = np.r_[0:16, 32:48]
    other = fitted(x[good], y[good], keras.optimizers.Adam(1e-2), **WAYS[way])
    assert_same(arrays(model), arrays(other))
    assert model.ema.num_updates == model.steps_made == 4 and int(model.train_counter) == 6
    assert model.first_lost_step == 2


def test_a_micro_batch_of_the_optimizer_that_is_not_finite_is_left_out():
    """Under accumulation in the optimizer, the other micro-batches make the steps."""

    def optimizer():
        return keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2)

    x, y = task()
    model = fitted(x, y, optimizer())
    good = np.r_[0:16, 32:48]
    assert_same(arrays(model), arrays(fitted(x[good], y[good], optimizer())))
    assert model.ema.num_updates == model.steps_made == 2 and int(model.train_counter) == 6


def test_a_loss_scale_is_lowered_and_that_is_no_divergence(caplog):
    inner = keras.optimizers.SGD(1e-2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**66)
    x, y = task(0.0)
    keras.utils.set_random_seed(0)
    model = EMAModel(network(), ema=0.9)
    model.compile(optimizer, "mse")
    stop = callbacks.StopOnDivergence()
    options = {"batch_size": BATCH, "epochs": 4, "verbose": 0}
    model.fit(x, y, callbacks=[stop], **options)
    assert 0 < model.steps_made == model.ema.num_updates < int(model.train_counter) == 12
    assert model.first_lost_step == 0 and "not finite" not in caplog.text
    model.fit(*task(), **options)  # here the loss is NaN, too
    assert model.first_lost_step and "not finite" in caplog.text


def test_fit_says_it_once_and_at_which_step(caplog):
    fitted(*task(), keras.optimizers.Adam(1e-2))
    (line,) = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert "step 2 " in line and "\n" not in line
    assert all(word in line for word in ("not made", "weights", "optimizer", "averages"))
    caplog.clear()
    fitted(*task(0.0), keras.optimizers.Adam(1e-2))
    assert "not finite" not in caplog.text


def test_terminate_on_nan_comes_in_time():
    x, y = task()
    keras.utils.set_random_seed(0)
    model = EMAModel(network(), ema=0.9)
    model.compile("adam", "mse")
    stop = keras.callbacks.TerminateOnNaN()
    history = model.fit(
        x, y, batch_size=BATCH, epochs=5, shuffle=False, verbose=0, callbacks=[stop]
    )
    assert history.epoch == [0] and int(model.train_counter) == 2
    model.check_finite()


# Bare EMA: there are no gradients, so it looks at the weights.


@pytest.mark.parametrize("jit_compile", [None, False, True], ids=["eager", "graph", "XLA"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bare_ema_never_takes_in_what_is_not_finite(bad, jit_compile, monkeypatch):
    monkeypatch.setattr("ddpm_keras.ema.groups.GROUP_SIZE", 2)  # several groups: all or none
    variables = [keras.Variable([1.0, 2.0]), keras.Variable([3.0]), keras.Variable([4.0, 5.0])]
    ema = EMA((0.5, 0.9), snapshot_widths=(0.1,))
    ema.build(variables)
    update = ema.update
    if jit_compile is not None:
        update = tf.function(lambda v: ema.update(variables), jit_compile=jit_compile)
    variables[0].assign([3.0, 2.0])
    update(variables)
    for variable in (variables[0], variables[2]):
        good = variable.numpy()
        variable.assign([7.0, bad])
        update(variables)
        variable.assign(good)
    assert ema.num_updates == 1
    np.testing.assert_array_equal(ema.variables("0.5")[0], [2.0, 2.0])
    variables[0].assign([4.0, 2.0])
    update(variables)
    assert ema.num_updates == 2
    np.testing.assert_array_equal(ema.variables("0.5")[0], [3.0, 2.0])
    assert all(np.isfinite(value).all() for name in ema.names for value in ema.variables(name))


def test_not_finite_at_the_step_of_a_move_waits_for_the_next_one():
    variable = keras.Variable([1.0])
    ema = EMA(0.5, update_every=2)
    ema.build([variable])
    for value in (3.0, np.nan, 3.0):  # the second of two steps is made at the third call
        variable.assign([value])
        ema.update([variable])
    assert ema.num_updates == ema.last_move == 2
    np.testing.assert_array_equal(ema.variables("0.5")[0], [2.5])


def test_differences_of_large_weights_do_not_overflow():
    variable = keras.Variable([-1e38])
    ema = EMA(0.5)
    ema.build([variable])
    variable.assign([3e38])
    ema.update([variable])
    variable.assign([1e38])
    ema.update([variable])
    np.testing.assert_array_equal(ema.variables("0.5")[0], [0.0])
    assert ema.num_updates == 1


def test_half_precision_weights_that_overflow():
    variable = keras.Variable([1.0], dtype="float16")
    ema = EMA(0.5)
    ema.build([variable])
    variable.assign(tf.cast([1e6], tf.float16))  # beyond 65504
    ema.update([variable])
    assert ema.num_updates == 0


# DDPM, whose weights a learning rate can make overflow with gradients that are finite.


class OverflowsAtFour(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return tf.where(tf.convert_to_tensor(step) < 3, 1e-3, np.inf)


def small_ddpm():
    """A DDPM whose fourth step makes the weights infinite, from gradients that are finite."""
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    time = keras.layers.Dense(4)(keras.ops.cast(t, "float32")[:, None] / 1000)
    h = keras.ops.silu(keras.layers.Conv2D(4, 3, padding="same")(x) + time[:, None, None, :])
    net = keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(h))
    model = DDPM(net, ema=(0.5, 0.9))
    model.compile(keras.optimizers.SGD(OverflowsAtFour()))
    return model


@pytest.fixture(scope="module")
def overflowed(digits):
    """After the fourth step: raw weights that are not finite, averages that are."""
    model = small_ddpm()
    model.fit(digits.train[:64], batch_size=16, shuffle=False, verbose=0)
    return model


def test_averages_stay_finite_when_a_step_overflows(overflowed):
    assert (overflowed.ema.num_updates, overflowed.steps_made) == (3, 4)
    for name in overflowed.weight_sets[1:]:
        overflowed.check_finite(name)
        assert np.isfinite(overflowed.sample(2, weights=name, output="float")).all()


USES = {
    "sample": lambda model, x, path: model.sample(2, weights="raw"),
    "validation_loss": lambda model, x, path: model.validation_loss(x, weights="raw"),
    "export_network": lambda model, x, path: model.export_network("raw", path / "n.keras"),
    "bits_per_dim": lambda model, x, path: _bits(model, x),
    "evaluate": lambda model, x, path: _with_raw(model).evaluate(x, verbose=0),
    "test_on_batch": lambda model, x, path: _with_raw(model).test_on_batch(x),
    "predict": lambda model, x, path: _with_raw(model).predict((x / 255, x[:, 0, 0, 0]), verbose=0),
    "save": lambda model, x, path: model.save(path / "m.keras"),
    "save_weights": lambda model, x, path: model.save_weights(path / "m.weights.h5"),
    "fit": lambda model, x, path: model.fit(x, verbose=0),
    "WeightSet": lambda model, x, path: model.sample(2, weights=_copied(model, "raw")),
}


def _bits(model, x):
    from ddpm_keras.likelihood import model_bits_per_dim

    return model_bits_per_dim(model, x, "raw")


def _with_raw(model):
    model.evaluation_weights = "raw"
    return model


def _copied(model, name):
    return WeightSet(name, [np.array(value) for value in model.weight_values(name)])


@pytest.mark.parametrize("use", USES)
def test_a_weight_set_that_is_not_finite_is_refused_by_name(overflowed, digits, tmp_path, use):
    weight = next(w.path for w in overflowed.network.weights if not np.isfinite(w).all())
    x = digits.train[:4]
    assert_refused(lambda: USES[use](overflowed, x, tmp_path), ["'raw'", weight, "not finite"])
    assert not list(tmp_path.iterdir())


def test_the_grad_norm_of_a_step_not_made_is_not_part_of_a_mean(digits):
    """The target of the second batch is made infinite: the mean is that of the two others."""
    model = small_ddpm()
    noised = model._noised

    def spoiled(images, labels, key):
        batch = noised(images, labels, key)
        factor = tf.where(tf.equal(model.train_counter.value, 1), np.inf, 1.0)
        return batch | {"target": batch["target"] * factor}

    model._noised = spoiled
    rows = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rows.append(float(logs["grad_norm"]))
    )
    model.fit(digits.train[:48], batch_size=16, shuffle=False, verbose=0, callbacks=[keep])
    assert rows[0] > 0 and rows[1] == rows[0] and np.isfinite(rows[2]) and rows[2] != rows[0]
    assert (model.ema.num_updates, model.steps_made, model.first_lost_step) == (2, 2, 2)


def test_stop_on_divergence_keeps_the_last_good_state(digits, tmp_path):
    """A step that overflows has a loss like any other; the end of the epoch does not save it."""
    run = Run(tmp_path / "run")
    model = small_ddpm()
    watch = [callbacks.StopOnDivergence(), Checkpoints(run)]
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": watch}
    with pytest.raises(callbacks.Diverged, match="not finite") as error:
        model.fit(digits.train[:32], epochs=3, **options)
    assert "\n" not in str(error.value)
    watch[-1].wait()
    records = map(pathlib.Path.read_text, sorted(run.checkpoints.glob("*.json")))
    assert [json.loads(record)["step"] for record in records] == [0, 2]
    assert run.restore(model) == 2
    model.check_finite()


def test_two_replicas_agree_that_a_step_is_not_made(tmp_path):
    """Only the second replica sees the number that is not finite."""
    script = pathlib.Path(__file__).with_name("ema_replicas.py")
    done = subprocess.run(
        [sys.executable, script, "non-finite"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["Adam", "4", "0", "LossScaleOptimizer", "4", "0"]
