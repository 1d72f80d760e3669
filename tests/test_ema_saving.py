"""Models with averages saved and loaded: whole, resumed, into other averages."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused
from small_trainings import compiled, small_network, task, trained

from ddpm_keras.ema import EMA, LAWA, EMAModel, PowerFunctionDecay, WarmupDecay


def assert_same_training_state(model, other):
    assert other.ema.num_updates == model.ema.num_updates
    for name in model.weight_sets:
        pairs = zip(model.weight_values(name), other.weight_values(name), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    decays = {"w": WarmupDecay(0.99), "c": 0.9, "p": PowerFunctionDecay(0.1)}
    whole = trained(ema=EMA(decays), epochs=4)
    half = trained(ema=EMA(decays), epochs=2)
    half.save(tmp_path / "model.keras")
    half.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    fresh = compiled(EMAModel(small_network(), ema=EMA(decays)))
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    for model in (loaded, fresh):
        assert_same_training_state(half, model)
        model.fit(*task(), batch_size=16, epochs=2, shuffle=False, verbose=0)
        assert_same_training_state(whole, model)
        assert int(model.train_counter) == 12


def test_config_round_trip():
    ema = EMA({"w": WarmupDecay(0.9)}, 2, average_statistics=True, snapshot_widths=(0.05,))
    model = EMAModel(small_network(), ema=ema, accumulation_steps=2)
    again = EMAModel.from_config(model.get_config())
    assert again.ema.get_config() == ema.get_config()
    assert again.accumulation_steps == 2 and again.weight_sets == ("raw", "ema_w")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ema: pickle.loads(pickle.dumps(ema))])
def test_averages_are_not_copied_without_their_weights(copied):
    ema = EMA({"w": WarmupDecay(0.9)}, 2, snapshot_widths=(0.05,))
    assert copied(ema).get_config() == ema.get_config()
    ema.build([keras.Variable([1.0])])
    assert_refused(lambda: copied(ema), ["copy or pickle the model", "get_config"])


def test_loading_into_other_decays_says_what_became_of_each(tmp_path):
    trained(ema=EMA({"a": 0.9, "b": 0.99, "d": 0.5})).save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=EMA({"a": 0.9, "b": WarmupDecay(0.99), "c": 0.999}))
    with pytest.warns(UserWarning) as caught:
        other.load_weights(tmp_path / "m.weights.h5")
    (text,) = [str(w.message) for w in caught if "Averages after 9 steps" in str(w.message)]
    assert "kept a;" in text
    assert "b starts anew from the loaded weights, since it is ConstantDecay(beta=0.99)" in text
    assert "c starts anew from the loaded weights, since it is not in the file" in text
    assert "left in the file: b, d" in text
    original = trained(ema=EMA({"a": 0.9, "b": 0.99, "d": 0.5}))
    np.testing.assert_array_equal(
        other.weight_values("ema_a")[0], original.weight_values("ema_a")[0]
    )
    np.testing.assert_array_equal(other.weight_values("ema_c")[0], other.network.weights[0])
    assert other.ema.age("a") == 9 and other.ema.age("c") == 0
    compiled(other).fit(*task(), batch_size=16, epochs=1, verbose=0)
    assert other.ema.age("a") == 12 and other.ema.age("b") == 3
    assert other.ema.beta("b") == pytest.approx(4 / 13)


def test_an_average_is_found_again_under_another_name(tmp_path):
    model = trained(ema=EMA({"a": 0.9}))
    model.save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=EMA({"renamed": 0.9}))
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(
        other.weight_values("ema_renamed")[0], model.weight_values("ema_a")[0]
    )


def test_loading_a_file_without_averages_into_a_trained_model_says_so(tmp_path):
    trained(ema=None).save_weights(tmp_path / "m.weights.h5")
    model = trained()
    with pytest.warns(UserWarning, match="holds no averages"):
        model.load_weights(tmp_path / "m.weights.h5")
    assert model.ema.num_updates == 0
    np.testing.assert_array_equal(model.weight_values("ema")[0], model.network.weights[0])


def test_averages_of_another_network_are_refused(tmp_path):
    store = {}
    model = trained()
    model.ema.save_own_variables(store)
    other = EMAModel(keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]), ema=(0.9, 0.99))
    assert_refused(
        lambda: other.ema.load_own_variables(store),
        ["averages of 4 weights", "has 2", "built the same way"],
    )
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9), keras.layers.Dense(3)])
    assert_refused(
        lambda: EMAModel(wider, ema=(0.9, 0.99)).ema.load_own_variables(store),
        ["has shape (4, 8)", "the weight (4, 9)", "built the same way"],
    )


def test_a_layer_thawed_after_saving_keeps_what_the_file_has(tmp_path):
    model = EMAModel(small_network(), ema=0.9)
    model.network.layers[0].trainable = False
    half = EMAModel(model.network, ema=0.9)
    compiled(half).fit(*task(), batch_size=16, epochs=1, verbose=0)
    half.save_weights(tmp_path / "m.weights.h5")
    other = EMAModel(small_network(), ema=0.9)  # nothing frozen
    other.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(half.weight_values("ema"), other.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(a, b)
    # and the other way round: what the file averages stays an average
    compiled(other).optimizer.build(half.trainable_variables)
    other.save_weights(tmp_path / "n.weights.h5")
    half.load_weights(tmp_path / "n.weights.h5")
    assert len(half.ema.averaged_positions) == 4


def test_tensorflow_checkpoints_hold_the_averages(tmp_path):
    model = trained()
    path = tf.train.Checkpoint(model).write(str(tmp_path / "checkpoint"))
    other = compiled(EMAModel(small_network(), ema=EMA((0.9, 0.99))))
    tf.train.Checkpoint(other).read(path).expect_partial()
    assert_same_training_state(model, other)


def test_statistics_that_a_file_averages_are_not_averaged_unasked(tmp_path):
    def model(average_statistics):
        layers = [keras.layers.Dense(2), keras.layers.BatchNormalization()]
        ema = EMA(0.9, average_statistics=average_statistics)
        return EMAModel(keras.Sequential([keras.Input((3,)), *layers]), ema)

    path = tmp_path / "a.weights.h5"
    model(True).save_weights(path)
    model(True).load_weights(path)
    with pytest.raises(ValueError, match="average_statistics=True"):
        model(False).load_weights(path)


def damaged(path, array, folder):
    """Copies of a file of weights, in each of which one bit of an array is another."""
    content, place = path.read_bytes(), -1
    while (place := content.find(array.tobytes(), place + 1)) >= 0:
        changed = folder / f"{place}.weights.h5"
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        yield changed


def test_a_bit_that_is_another_in_a_file_of_weights_is_told(tmp_path):
    model, path = trained(ema=EMA({"a": 0.9, "b": LAWA(2, 2)}), epochs=2), tmp_path / "m.weights.h5"
    model.save_weights(path)
    for average in model.ema.state[2:]:
        for changed in damaged(path, average.numpy(), tmp_path):
            with pytest.raises(ValueError, match="averages in the file are damaged"):
                model.load_weights(changed)
    *windows, raw = damaged(path, model.network.weights[0].numpy(), tmp_path)
    assert len(windows) == 1  # the weights after the last step
    with pytest.warns(UserWarning, match="not those that its averages are of: it is damaged"):
        model.load_weights(raw)
