"""EMAOptimizer saved and loaded, whole and in part, by every door of Keras."""

import contextlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from ema_optimizers import SGD, O, X, Y, adam, assert_equal, fitted, state_of
from small_trainings import assert_close, compiled, numbers, small_network

from ddpm_keras import EMAOptimizer, callbacks
from ddpm_keras.ema import LAWA


def resumed_from_keras(half, path):
    half.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def fresh():
    keras.utils.set_random_seed(1)
    model = compiled(small_network(), adam())
    model.optimizer.build(model.trainable_variables)
    return model


def resumed_from_weights(half, path):
    half.save_weights(path / "model.weights.h5")
    model = fresh()
    model.load_weights(path / "model.weights.h5")
    return model


def resumed_from_checkpoint(half, path):
    tf.train.Checkpoint(half).write(str(path / "checkpoint"))
    model = fresh()
    tf.train.Checkpoint(model).read(str(path / "checkpoint")).expect_partial()
    return model


def resumed_from_set_weights(half, path):
    model = fresh()
    model.set_weights(half.get_weights())
    model.optimizer.set_weights(numbers(half.optimizer.variables))
    return model


FILES = {
    "keras": resumed_from_keras,
    "weights": resumed_from_weights,
    "checkpoint": resumed_from_checkpoint,
    "set_weights": resumed_from_set_weights,
}


@pytest.fixture(scope="module")
def whole():
    return fitted(adam(), epochs=2)


@pytest.mark.parametrize("how", FILES)
def test_a_training_goes_on_to_the_bit(how, whole, tmp_path):
    model = FILES[how](fitted(adam(), epochs=1), tmp_path)
    model.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    assert_equal(state_of(model), state_of(whole))


def test_a_state_tree_holds_the_averages():
    model = fitted(adam(), epochs=1)
    before, tree = state_of(model), model.get_state_tree("numpy_array")
    assert "ema_0.99_0" in tree["optimizer_variables"][model.optimizer.name]
    model.train_on_batch(X, Y)
    model.set_state_tree(tree)
    assert_equal(state_of(model), before)


def test_backup_and_restore(whole, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(*more):
        keras.utils.set_random_seed(0)
        model = compiled(small_network(), adam())
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        given = {"batch_size": 16, "shuffle": False, "verbose": 0}
        model.fit(X, Y, epochs=2, callbacks=[backup, *more], **given)
        return model

    with pytest.raises(KeyboardInterrupt):
        fit(Stop())
    assert_equal(state_of(fit()), state_of(whole))


def test_files_of_the_optimizer_alone_and_of_the_wrapper_can_be_taken_for_each_other(tmp_path):
    plain = fitted(O.Adam(1e-2), epochs=1)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = fresh()
    model.load_weights(tmp_path / "plain.weights.h5")
    assert_equal(numbers(model.optimizer.variables)[:10], numbers(plain.optimizer.variables))
    model.train_on_batch(X, Y)  # averages begin here, at the loaded weights
    pairs = zip(plain.get_weights(), model.get_weights(), strict=True)
    expected = [0.9 * start + 0.1 * now for start, now in pairs]
    assert_close(model.optimizer.ema.variables("0.9"), expected)
    model.save_weights(tmp_path / "wrapped.weights.h5")
    with h5py.File(tmp_path / "wrapped.weights.h5") as file:
        assert set(file["optimizer"]) == {"vars", "ema"}  # nothing is there twice
    plain.load_weights(tmp_path / "wrapped.weights.h5")
    assert_equal(numbers(plain.optimizer.variables), numbers(model.optimizer.variables)[:10])


def test_averages_that_cannot_be_loaded_yet_are_left_with_a_word(whole, tmp_path):
    whole.save_weights(tmp_path / "model.weights.h5")
    model = compiled(small_network(), adam())
    with pytest.warns(UserWarning) as caught:
        model.load_weights(tmp_path / "model.weights.h5")
    assert any("after 6 steps, are left in it: call" in str(w.message) for w in caught)
    assert_equal(model.get_weights(), whole.get_weights())


def saved_otherwise(path, units=3):
    """The weights of another training, of a model with so many outputs."""
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(units)]
    model = compiled(keras.Sequential([keras.Input((4,)), *layers]), EMAOptimizer(SGD(0.1), 0.5))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    model.save_weights(path)
    return model


@pytest.mark.parametrize("first_used", ["eagerly", "by a step"])
def test_averages_do_not_stay_behind_weights_that_are_loaded_in_part(first_used, tmp_path):
    """A file of which Keras skips a layer: averages begin again at what is there."""
    saved_otherwise(tmp_path / "other.weights.h5", units=4)
    model = fitted(EMAOptimizer(SGD(0.1), 0.5))
    with pytest.warns(UserWarning) as caught:
        model.load_weights(tmp_path / "other.weights.h5", skip_mismatch=True)
    start = model.get_weights()
    assert any("other weights: 0.5 start anew" in str(w.message) for w in caught)
    if first_used == "eagerly":
        assert_equal(numbers(model.optimizer.ema.variables("0.5")), start)
    model.train_on_batch(X, Y)
    expected = [(a + b) / 2 for a, b in zip(start, model.get_weights(), strict=True)]
    assert_close(model.optimizer.ema.variables("0.5"), expected)


@pytest.mark.parametrize("first_used", ["eagerly", "by a step"])
@pytest.mark.parametrize("rule", [0.5, LAWA(2, 1)], ids=repr)
def test_averages_of_a_file_whose_weights_were_not_loaded_begin_again(first_used, rule, tmp_path):
    """As of a layer that is skipped, in a function that was traced before."""
    model = fitted(EMAOptimizer(SGD(0.1), {"a": rule}))
    model.save_weights(tmp_path / "model.weights.h5")
    model.train_on_batch(X, Y)
    kept = model.layers[1]
    model.load_weights(tmp_path / "model.weights.h5", objects_to_skip=[kept])
    start, ema = model.get_weights(), model.optimizer.ema
    words = "Not all weights of these averages were loaded with them: a start anew"
    if first_used == "eagerly":
        with pytest.warns(UserWarning, match=words):
            assert_equal(numbers(ema.variables("a")), start)
        assert ema.num_updates == 6 and ema.age("a") == 0
    said = pytest.warns(UserWarning, match=words)
    with contextlib.nullcontext() if first_used == "eagerly" else said:
        model.train_on_batch(X, Y)
        ema.variables("a")
    now = model.get_weights()
    after = [(a + b) / 2 for a, b in zip(start, now, strict=True)] if rule == 0.5 else now
    assert_close(ema.variables("a"), after)
    assert ema.num_updates == 7 and ema.age("a") == 1


def from_older_h5(model, weights, path):
    other = keras.models.clone_model(model)
    other.set_weights(weights)
    other.save(path / "older.h5")
    model.load_weights(path / "older.h5")


REPLACED = {
    "by an older .h5": from_older_h5,
    "by set_weights": lambda model, weights, _: model.set_weights(weights),
    "by assign": lambda model, weights, _: [
        variable.assign(value) for variable, value in zip(model.weights, weights, strict=True)
    ],
}


@pytest.mark.parametrize("how", REPLACED)
@pytest.mark.parametrize("again", ["fit", "train_on_batch"])
@pytest.mark.filterwarnings("ignore:You are saving", "ignore:Error in loading the saved optimizer")
def test_averages_do_not_stay_behind_weights_that_are_replaced_after_fit(how, again, tmp_path):
    model = fitted(EMAOptimizer(SGD(0.1), {"a": 0.5}))
    ema, trained = model.optimizer.ema, model.get_weights()
    given = {"batch_size": len(X), "verbose": 0} if again == "fit" else {}
    REPLACED[how](model, [w + 1 for w in trained], tmp_path)
    with pytest.warns(UserWarning, match="still those of the former ones: ema.reset"):
        kept = numbers(ema.variables("a"))  # they are not started anew: weights may be put back
    ema.variables("a")  # said once
    model.set_weights(trained)
    getattr(model, again)(X, Y, **given)
    assert ema.age("a") == ema.num_updates == 7
    assert_close(
        ema.variables("a"), [(a + b) / 2 for a, b in zip(kept, model.get_weights(), strict=True)]
    )
    model.fit(X, Y, verbose=0)
    REPLACED[how](model, [w + 1 for w in trained], tmp_path)
    start = model.get_weights()
    with pytest.warns(UserWarning, match="replaced since the last fit: a start anew"):
        getattr(model, again)(X, Y, **given)
        ema.variables("a")
    assert ema.age("a") == 1
    expected = [(a + b) / 2 for a, b in zip(start, model.get_weights(), strict=True)]
    assert_close(ema.variables("a"), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_same_numbers_in_other_places_are_other_weights(axis):
    model = fitted(EMAOptimizer(SGD(0.1), {"a": 0.5}))
    kernel = model.layers[-1].kernel
    kernel.assign(np.flip(kernel.numpy(), axis))
    with pytest.warns(UserWarning, match="still those of the former ones: ema.reset"):
        model.optimizer.ema.variables("a")


def from_checkpoint(model, path):
    state = tf.train.Checkpoint(model=model)
    written = state.write(str(path / "c"))
    return lambda: state.read(written)


def from_state_tree(model, path):
    tree = model.get_state_tree("numpy_array")
    return lambda: model.set_state_tree(tree)


@pytest.mark.parametrize("keep", [from_checkpoint, from_state_tree])
@pytest.mark.parametrize("again", ["in the graph", "traced anew"])
def test_averages_that_are_restored_with_their_weights_go_on(keep, again, tmp_path):
    model = fitted(EMAOptimizer(SGD(0.1), {"a": 0.5}))
    restore, kept = keep(model, tmp_path), numbers(model.optimizer.ema.variables("a"))
    model.fit(X, Y, verbose=0)
    restore()
    if again == "traced anew":
        model.train_function = None
        assert_equal(numbers(model.optimizer.ema.variables("a")), kept)
    model.train_on_batch(X, Y)
    assert model.optimizer.ema.age("a") == 7
    expected = [(a + b) / 2 for a, b in zip(kept, model.get_weights(), strict=True)]
    assert_close(model.optimizer.ema.variables("a"), expected)


def test_weights_that_early_stopping_restores_leave_their_averages_with_a_word():
    model = compiled(small_network(), EMAOptimizer(SGD(0.1), {"a": 0.5}))
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
    model.fit(X, Y, batch_size=16, epochs=4, callbacks=[stop], verbose=0)
    with pytest.warns(UserWarning, match=r"those of the former ones.*ddpm_keras.callbacks"):
        model.optimizer.ema.export(model, "a")


def test_averages_of_a_file_go_on_with_its_weights_whatever_is_loaded_first(tmp_path):
    """In a function that was traced before, and with nothing to say."""
    model = fitted(EMAOptimizer(SGD(0.1), 0.5))
    other = saved_otherwise(tmp_path / "other.weights.h5")
    model.load_weights(tmp_path / "other.weights.h5")
    weights = model.get_weights()
    with h5py.File(tmp_path / "other.weights.h5") as file:  # the averages, before the weights
        store = {key: value[...] for key, value in file["optimizer/ema/vars"].items()}
    for weight in model.weights:
        weight.assign(weight + 1.0)
    model.optimizer.ema.load_own_variables(store)
    model.set_weights(weights)
    for each in (model, other):
        each.train_on_batch(X, Y)
    assert_equal(state_of(model), state_of(other))
    assert_equal(
        numbers(model.optimizer.ema.variables("0.5")), numbers(other.optimizer.ema.variables("0.5"))
    )


def test_a_fit_that_is_too_short_is_told(caplog):
    model = compiled(small_network(), EMAOptimizer(SGD(0.1), {"short": 0.5, "long": 0.99}))
    quality = callbacks.EvaluateAverages((X, Y))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[quality])
    (said,) = caplog.messages
    assert "ema_long: its window is 100 steps, so after 6 steps" in said and "94%" in said
    caplog.clear()
    model.optimizer.ema.export(model, "short")
    assert not caplog.messages
    model.optimizer.ema.export(model, "long")
    assert caplog.messages == [said]
