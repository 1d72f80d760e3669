"""Averages as Keras sees them: weights of their model, which go wherever its weights go."""

import contextlib
import copy
import io
import pathlib
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused

from ddpm_keras.ema import EMA, EMAModel, WarmupDecay

X = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
Y = X @ np.array([[3.0], [-2.0]], np.float32)
STORED = pathlib.Path(__file__).parent / "stored"


def network(units=1, **kwargs):
    layers = [keras.Input((2,)), keras.layers.Dense(units, name="dense")]
    return keras.Sequential(layers, name="network", **kwargs)


def made(net=None, ema=(0.5, 0.9), **kwargs):
    """A compiled model of names that do not depend on what was made before it."""
    model = EMAModel(net or network(), ema=ema, name="model", **kwargs)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def state(model):
    """Raw weights and averages."""
    values = {name: model.weight_values(name) for name in model.weight_sets}
    return {name: [np.array(value) for value in each] for name, each in values.items()}


def assert_same(state, other):
    for name, values in state.items():
        for a, b in zip(values, other[name], strict=True):
            np.testing.assert_array_equal(a, b)


class Watch(keras.callbacks.Callback):
    """The weight sets after each epoch, which is one step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(state(self.model))


def fitted(*callbacks, model=None, epochs=4):
    """(a model after some epochs of one step, its weight sets after each)."""
    keras.utils.set_random_seed(0)
    model, watch = model or made(), Watch()
    with contextlib.suppress(InterruptedError):
        model.fit(X, Y, batch_size=8, epochs=epochs, callbacks=[watch, *callbacks], verbose=0)
    return model, watch.seen


# What Keras lists.


def test_averages_are_listed_after_the_weights_of_the_network():
    model, _ = fitted(model=made(ema=EMA((0.5, 0.9), snapshot_widths=(0.1,))))
    own, raw, averages = model.weights[:2], model.weights[2:4], model.weights[4:]
    assert own == [model.train_counter, model.idle_counter]
    assert raw == model.network.weights == model.trainable_weights
    assert averages == list(model.ema.state) and [v.shape for v in averages[2:]] == [(3,)] * 3
    assert model.non_trainable_weights == [*own, *averages]
    assert model.variables[4:] == averages  # this network has no state but its weights
    assert not {id(v) for v in averages} & {id(v) for v in model.optimizer.variables}
    assert len(model.optimizer.variables) == 2 + 2 * 2
    assert len({v.path for v in model.variables}) == len(model.variables)
    text = io.StringIO()
    model.summary(print_fn=lambda line, **_: text.write(line))
    # two counters of the model, that of steps, a start for each average, and the averages
    assert model.count_params() == 3 + (2 + 1 + 3 + 3 * 3)
    assert "Non-trainable params: 15 " in text.getvalue()


def test_a_network_that_is_not_built_has_no_averages_yet():
    model = EMAModel(keras.Sequential([keras.layers.Dense(1)]), ema=0.5)
    assert model.get_weights() == [0, 0] and model.ema.state == ()
    assert_refused(lambda: model.set_weights([0, 0, np.ones((2, 1))]), ["length 3", "expecting 2"])
    model(X)
    assert len(model.weights) == 2 + 2 + 3
    model.network.set_weights([np.ones((2, 1)), np.ones(1)])
    np.testing.assert_array_equal(model.get_weights()[-1], np.ones(3))  # not yet moved: a copy


def test_a_layer_thawed_later_comes_last():
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    net.layers[0].trainable = False
    model, _ = fitted(model=made(net, ema=0.5))
    before = model.weights
    net.layers[0].trainable = True
    model.compile("sgd", "mse")
    fitted(model=model)
    assert model.weights[: len(before)] == before and len(model.weights) == len(before) + 1


# What becomes of the averages when weights are kept, restored, copied.


class Stop(keras.callbacks.Callback):
    """Ends a training as a crash would."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise InterruptedError


# The loss falls, so that by the wrong mode the first epoch is the best.
FIRST = {"monitor": "loss", "mode": "max"}


def early_stopping(path):
    stop = keras.callbacks.EarlyStopping(**FIRST, patience=2, restore_best_weights=True)
    model, seen = fitted(stop)
    return model, seen[0]


def best_model(path):
    path = path / "best.keras"
    _, seen = fitted(keras.callbacks.ModelCheckpoint(path, **FIRST, save_best_only=True))
    return keras.saving.load_model(path), seen[0]


def best_weights(path):
    path, options = path / "best.weights.h5", {"save_best_only": True, "save_weights_only": True}
    _, seen = fitted(keras.callbacks.ModelCheckpoint(path, **FIRST, **options))
    model = made()
    model.load_weights(path)
    return model, seen[0]


def reduced_rate(path):
    plateau = keras.callbacks.ReduceLROnPlateau(**FIRST, patience=1, factor=0.5, min_delta=0)
    model, seen = fitted(plateau)
    assert float(model.optimizer.learning_rate) < 0.1
    average = seen[0]["ema_0.5"][0]
    for each in seen[1:]:
        average = 0.5 * (average + each["raw"][0])
    np.testing.assert_allclose(seen[-1]["ema_0.5"][0], average, rtol=1e-6)
    return model, seen[-1]


def backup(path):
    def keeper():
        return keras.callbacks.BackupAndRestore(path / "backup")

    fitted(Stop(), keeper())
    model, _ = fitted(keeper())
    return model, fitted()[1][-1]


def orbax(path):
    pytest.importorskip("orbax.checkpoint")
    _, seen = fitted(keras.callbacks.OrbaxCheckpoint(directory=str(path), save_freq="epoch"))
    return keras.saving.load_model(path), seen[-1]


def state_tree(path):
    model, seen = fitted()
    other = made()
    other.set_state_tree(model.get_state_tree("numpy_array"))
    return other, seen[-1]


def list_of_weights(path):
    model, seen = fitted()
    other = made()
    other.set_weights(model.get_weights())
    return other, seen[-1]


def clone(path):
    model, seen = fitted()
    other = keras.models.clone_model(model)  # other random weights, as Keras has it
    assert not np.array_equal(state(other)["raw"][0], seen[-1]["raw"][0])
    np.testing.assert_array_equal(state(other)["ema_0.9"][0], state(other)["raw"][0])
    other.set_weights(model.get_weights())
    return other, seen[-1]


def deep_copy(path):
    model, seen = fitted()
    other = copy.deepcopy(model)
    fitted(model=model)  # which does not move the copy
    return other, seen[-1]


def pickled(path):
    model, seen = fitted()
    return pickle.loads(pickle.dumps(model)), seen[-1]


def tensorflow_checkpoint(path):
    model, seen = fitted()
    other = made()
    tf.train.Checkpoint(other).read(tf.train.Checkpoint(model).write(str(path / "c")))
    return other, seen[-1]


KEEPERS = [early_stopping, best_model, best_weights, reduced_rate, backup, orbax, state_tree]
KEEPERS += [list_of_weights, clone, deep_copy, pickled, tensorflow_checkpoint]


@pytest.mark.parametrize("keep", KEEPERS, ids=lambda keep: keep.__name__)
def test_averages_follow_the_weights(keep, tmp_path):
    model, expected = keep(tmp_path)
    assert_same(expected, state(model))
    updates = model.ema.num_updates
    assert updates and not np.array_equal(expected["raw"][0], expected["ema_0.9"][0])
    model.train_on_batch(X, Y)  # and go on
    assert model.ema.num_updates == updates + 1
    raw, average = state(model)["raw"][0], state(model)["ema_0.5"][0]
    np.testing.assert_allclose(average, 0.5 * (expected["ema_0.5"][0] + raw), rtol=1e-6)


def test_the_average_that_is_evaluated_is_saved_by_its_name(tmp_path):
    for chosen in ("raw", "ema_0.5", "ema"):
        model = made(evaluation_weights=chosen)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.evaluation_weights == copy.deepcopy(model).evaluation_weights == chosen


# Files of version 0.1: weights 1, 2, 3 (bias -1, -2, -3) after the updates of averages from 0.


def read_model():
    return keras.saving.load_model(STORED / "model.keras")


def of_version_0_1():
    rules = {"half": 0.5, "warm": WarmupDecay(0.99)}
    model = EMAModel(network(), ema=EMA(rules, snapshot_widths=(0.1,)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def read_weights():
    model = of_version_0_1()
    model.load_weights(STORED / "model.weights.h5")
    return model


def read_checkpoint():
    model = of_version_0_1()
    tf.train.Checkpoint(model).read(str(STORED / "checkpoint")).expect_partial()
    return model


@pytest.mark.parametrize("read", [read_model, read_weights, read_checkpoint])
def test_files_of_version_0_1_are_read(read):
    model = read()
    assert (model.ema.num_updates, int(model.train_counter), model.steps_made) == (3, 4, 3)
    for name, value in {"raw": 3, "ema_half": 2.125, "ema_warm": 2.7}.items():
        kernel, bias = model.weight_values(name)
        np.testing.assert_allclose(kernel, np.full((2, 1), value), rtol=1e-7)
        np.testing.assert_allclose(bias, [-value], rtol=1e-7)
    np.testing.assert_allclose(model.ema.snapshot_variables(0.1)[1], [-2.959812], rtol=1e-6)
    if read is read_model:
        assert model.evaluation_weights == "ema_half"


# Weights that are replaced.


class Other(keras.layers.Dense):
    """By whose name Keras does not find the weights of a `Dense`."""


def deeper():
    layers = [keras.layers.Dense(1, name="dense"), keras.layers.Dense(1, name="more")]
    return keras.Sequential([keras.Input((2,)), *layers], name="network")


def otherwise():
    return keras.Sequential([keras.Input((2,)), Other(1, name="other")], name="network")


# Two networks, how the second loads a file of the first, and what its averages are then.
IN_PART = {"skip_mismatch": True}
LOADS = {
    "all that there is": (network, network, IN_PART, "those of the file"),
    "a head of another size": (lambda: network(2), network, IN_PART, "those it had"),
    "a layer more": (network, deeper, IN_PART, "the weights"),
    "a layer less": (deeper, network, IN_PART, "the weights"),
    "a layer of another class": (network, otherwise, IN_PART, "the weights"),
    "all but the averages": (network, network, {"objects_to_skip": "ema"}, "the weights"),
}


@pytest.mark.parametrize("case", LOADS)
@pytest.mark.filterwarnings("ignore:A total of", "ignore:Skipping variable loading for optimizer")
def test_averages_do_not_stay_behind_weights_that_are_loaded_in_part(case, tmp_path, recwarn):
    source, target, options, expected = LOADS[case]
    written, _ = fitted(model=made(source()))
    written.save_weights(tmp_path / "m.weights.h5")
    model, seen = fitted(model=made(target()), epochs=2)
    options = {k: [model.ema] if v == "ema" else v for k, v in options.items()}
    model.load_weights(tmp_path / "m.weights.h5", **options)
    said = [str(w.message) for w in recwarn if "start anew" in str(w.message)]
    found = state(model)
    assert (
        len(said) == (expected == "the weights")
        and model.ema.num_updates
        == {
            "those of the file": 4,
            "those it had": 2,
            "the weights": 0,
        }[expected]
    )
    if expected == "those of the file":
        assert_same(state(written), found)
    elif expected == "those it had":
        assert_same(seen[-1], found)
    else:
        assert said[0].endswith("0.5, 0.9 start anew from the weights as they are now.")
        assert_same({"ema_0.5": found["raw"], "ema_0.9": found["raw"]}, found)
    model.evaluate(X, Y, verbose=0)  # nothing more to say
    assert len([w for w in recwarn if "anew" in str(w.message)]) == len(said)


def test_weights_without_optimizer_state_bring_their_averages(tmp_path):
    model, seen = fitted()
    alone = EMAModel(network(), ema=(0.5, 0.9))
    alone.set_weights(model.get_weights())
    alone.save_weights(tmp_path / "m.weights.h5")
    other = made()
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        other.load_weights(tmp_path / "m.weights.h5")
    assert_same(seen[-1], state(other))


def test_a_state_tree_without_averages_starts_them_anew():
    model, _ = fitted()
    tree = {"trainable_variables": made().get_state_tree()["trainable_variables"]}
    with pytest.warns(UserWarning, match="holds no averages: 0.5, 0.9 start anew"):
        model.set_state_tree(tree)
    found = state(model)
    assert_same({"ema_0.5": found["raw"], "ema_0.9": found["raw"]}, found)
    assert_refused(
        lambda: model.set_state_tree({"trainable_variables": {"other": {"kernel": 0}}}),
        ["'other/kernel'", "no such variable"],
    )


def test_weights_that_are_assigned_are_told_from_those_that_were_trained(recwarn):
    model, seen = fitted()
    model.train_on_batch(X, Y)  # weights that move
    fitted(model=model, epochs=1)
    kept = state(model)
    model.evaluate(X, Y, verbose=0)
    assert not [w for w in recwarn if "assigned" in str(w.message)]
    model.network.set_weights([w + 1 for w in model.network.get_weights()])
    with pytest.warns(UserWarning, match="assigned since its last step.*ema.reset"):
        model.evaluate(X, Y, verbose=0)
    model.evaluate(X, Y, verbose=0)  # said once
    assert_same({"ema_0.9": kept["ema_0.9"]}, state(model))
    model.ema.reset()
    found = state(model)
    assert_same({"ema_0.5": found["raw"], "ema_0.9": found["raw"]}, found)


@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
@pytest.mark.parametrize("used", [False, True])
def test_averages_do_not_stay_behind_weights_that_are_assigned(train, used, recwarn):
    model, _ = fitted()
    trained = model.network.get_weights()
    model.network.set_weights([w + 1 for w in trained])
    if used:
        model.evaluate(X, Y, verbose=0)
    model.network.set_weights(trained)
    getattr(model, train)(X, Y)  # they were put back: nothing starts anew
    if train == "train_on_batch":
        fitted(model=model, epochs=1)
    assert not [w for w in recwarn if "anew from" in str(w.message)] and model.ema.num_updates > 4
    model.network.set_weights([w + 1 for w in trained])
    start = model.network.get_weights()
    with pytest.warns(UserWarning, match="assigned since its last step: 0.5, 0.9 start anew"):
        model.train_on_batch(X, Y) if train == "train_on_batch" else model.fit(
            X, Y, batch_size=len(X), verbose=0
        )
    for old, now, average in zip(
        start, model.network.get_weights(), model.weight_values("ema_0.5"), strict=True
    ):
        np.testing.assert_allclose(average, (old + now) / 2, rtol=1e-6)
