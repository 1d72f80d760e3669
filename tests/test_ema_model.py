"""The model: one move per true step, however it is trained; weight sets, evaluation, export."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_trainings import (
    SAMPLES,
    assert_close,
    compiled,
    followed,
    numbers,
    small_network,
    task,
    trained,
)

from ddpm_keras.ema import EMA, EMAModel, HalfLife, WeightSet


@pytest.mark.parametrize(
    "compile_arguments",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 4},
        {"steps_per_execution": 4, "jit_compile": True},
    ],
    ids=str,
)
def test_average_of_a_training_is_that_of_its_weights(compile_arguments):
    model = trained(compile_arguments=compile_arguments)
    weights, average = followed(0.9)
    assert model.ema.num_updates == int(model.train_counter) == 9
    assert_close(model.weight_values("raw"), weights)
    assert_close(model.weight_values("ema_0.9"), average)


def test_micro_batches_make_the_step_of_the_big_batch():
    for arguments in ({}, {"jit_compile": True}):
        model = trained(accumulation_steps=3, compile_arguments=arguments)
        weights, average = followed(0.9)
        assert model.ema.num_updates == 9
        assert_close(model.weight_values("raw"), weights, 2e-6)
        assert_close(model.weight_values("ema_0.9"), average, 2e-6)


def test_more_micro_batches_than_rows_in_the_last_batch():
    whole = trained(batch_size=23, epochs=2)  # 23, 23 and 2 rows
    split = trained(batch_size=23, epochs=2, accumulation_steps=4)
    assert split.ema.num_updates == 6
    assert_close(split.weight_values("raw"), numbers(whole.weight_values("raw")), 2e-6)
    x, y = task()
    history = []
    for model in (whole, split):
        model.reset_metrics()
        history.append(model.train_on_batch(x[:2], y[:2], return_dict=True))
    assert history[0]["accuracy"] == history[1]["accuracy"]
    assert history[0]["loss"] == pytest.approx(history[1]["loss"], abs=1e-5)


def test_accumulation_in_the_optimizer_moves_once_per_true_step():
    def optimizer():
        return keras.optimizers.Adam(1e-2, gradient_accumulation_steps=3)

    model = trained(optimizer())
    weights, average = followed(0.9, optimizer(), every=3)
    assert model.ema.num_updates == 3 and int(model.train_counter) == 9
    assert_close(model.weight_values("raw"), weights)
    assert_close(model.weight_values("ema_0.9"), average)
    same = trained(batch_size=48)  # three micro-batches of 16 are one batch of 48
    assert_close(model.weight_values("ema_0.9"), numbers(same.weight_values("ema_0.9")), 2e-6)


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 2}])
def test_a_step_skipped_by_the_loss_scale_does_not_count(arguments):
    def optimizer():
        inner = keras.optimizers.Adam(1e-2)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)

    x, y = task()
    x[20] = np.inf  # in the second batch of each epoch
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(small_network(), ema=0.9), optimizer(), **arguments)
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert model.ema.num_updates == 4 and int(model.train_counter) == 6
    good = np.r_[0:16, 32:48]
    keras.utils.set_random_seed(0)
    other = compiled(EMAModel(small_network(), ema=0.9), optimizer())
    other.fit(x[good], y[good], batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_close(model.weight_values("ema"), numbers(other.weight_values("ema")))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_averages_are_float32_under_every_policy_and_move(policy):
    keras.config.set_dtype_policy(policy)
    model = trained(keras.optimizers.SGD(0.1), ema=EMA((0.9, 0.9999)))
    start = numbers(followed_start())
    assert {value.dtype for value in model.weight_values("ema")} == {tf.float32}
    weights = [np.asarray(tf.cast(v.value, tf.float32)) for v in model.network.weights]
    slow, fast = model.weight_values("ema_0.9999"), model.weight_values("ema_0.9")
    moved = [np.abs(np.asarray(s) - a).max() for s, a in zip(slow, start, strict=True)]
    assert min(moved) > 0 and max(moved) < 1e-3
    assert all(np.abs(np.asarray(f) - w).max() > 0 for f, w in zip(fast, weights, strict=True))


def test_the_loss_of_a_network_in_float16_is_scaled_whatever_the_policy_is_by_then(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    made = small_network()
    keras.config.set_dtype_policy("float32")
    made.save(tmp_path / "network.keras")
    for network in (made, keras.saving.load_model(tmp_path / "network.keras", compile=False)):
        model = compiled(EMAModel(network, ema=0.5))
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        again = EMAModel.from_config(model.get_config())
        assert again.dtype_policy.name == "mixed_float16"
    assert not isinstance(compiled(EMAModel(small_network())).optimizer, type(model.optimizer))


def test_a_model_can_be_a_layer_of_another():
    inner = EMAModel(small_network(), ema=0.5)
    whole = keras.Sequential([keras.Input((4,)), inner, keras.layers.Softmax()])
    assert whole.output_shape == (None, 3)
    x, _ = task()
    assert_close([whole(x)], [keras.ops.softmax(inner(x))])


def followed_start():
    keras.utils.set_random_seed(0)
    return [tf.cast(v.value, tf.float32) for v in EMAModel(small_network()).network.weights]


class Forgetful(EMAModel):
    """Its own train_step moves no average."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, y_pred)


@pytest.mark.parametrize(("kind", "said"), [(Forgetful, True), (EMAModel, False)])
def test_averages_that_no_train_step_moves_are_told(kind, said, caplog):
    compiled(kind(small_network(), ema=0.5)).fit(*task(), epochs=2, verbose=0)
    assert ("averages did not move" in caplog.text) == said


def test_a_training_is_a_function_of_its_seed():
    first, second = trained(), trained()
    for a, b in zip(first.weight_values("ema"), second.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_replicas_equal_one(tmp_path):
    """In a process of its own: the number of devices is fixed when TensorFlow starts."""
    script = pathlib.Path(__file__).with_name("ema_replicas.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = {name: np.load(tmp_path / f"{name}.npz") for name in ("one", "two")}
    assert int(results["two"]["num_updates"]) == int(results["one"]["num_updates"]) == 6
    for key in results["one"].files:
        np.testing.assert_allclose(results["two"][key], results["one"][key], rtol=0, atol=2e-6)


class OwnLoop(keras.Model):
    """A subclassed model with its own train_step and the bare EMA, built from its first batch."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(8, activation="tanh")
        self.last = keras.layers.Dense(3)
        self.ema = EMA(0.9)

    def call(self, x):
        return self.last(self.first(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.ema.update(self.trainable_variables)
        return {"loss": loss}


def test_bare_ema_in_a_subclassed_model_with_its_own_train_step(tmp_path):
    x, y = task()
    model = OwnLoop()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(x)
    start = model.get_weights()
    model.ema.build(model.weights)
    model.fit(x, y, batch_size=SAMPLES, epochs=1, verbose=0)
    expected = [0.9 * a + 0.1 * w for a, w in zip(start, model.get_weights(), strict=True)]
    assert_close(model.ema.variables("0.9"), expected)
    assert len(model.trainable_variables) == 4  # the averages are no weights of the model
    model.save_weights(tmp_path / "model.weights.h5")
    again = OwnLoop()
    again.compile("adam", model.loss)
    again(x)
    again.optimizer.build(again.trainable_variables)
    again.ema.build(again.weights)
    again.load_weights(tmp_path / "model.weights.h5")
    assert again.ema.num_updates == 1
    np.testing.assert_array_equal(again.ema.variables("0.9")[0], model.ema.variables("0.9")[0])


class Unbuilt(keras.Model):
    """A subclassed network without an input shape."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "make", [Unbuilt, lambda: keras.Sequential([keras.layers.Dense(3)])], ids=["class", "list"]
)
def test_networks_built_by_their_first_batch(make):
    x, y = task()
    keras.utils.set_random_seed(0)
    model = compiled(EMAModel(make(), ema=0.9))
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert model.ema.num_updates == 3
    keras.utils.set_random_seed(0)
    built = EMAModel(make(), ema=0.9)
    built(x[:1])
    compiled(built).fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert_close(model.weight_values("ema"), numbers(built.weight_values("ema")))


def test_shared_layers_are_averaged_once():
    shared = keras.layers.Dense(4)
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(3)(shared(shared(inputs))))
    model = compiled(EMAModel(network, ema=0.9))
    model.fit(*task(), epochs=1, verbose=0)
    assert len(model.weight_values("ema")) == len(network.weights) == 4


# Layers frozen, thawed, added.


def test_a_frozen_layer_keeps_its_average():
    model = trained(epochs=1)
    frozen = model.network.layers[0]
    frozen.trainable = False
    compiled(model)
    before = np.asarray(model.weight_values("ema_0.9")[0])
    model.fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
    kernel = np.asarray(frozen.kernel)
    # It stood still for 3 steps, and its average went on towards it.
    expected = kernel + 0.9**3 * (before - kernel)
    np.testing.assert_allclose(model.weight_values("ema_0.9")[0], expected, atol=1e-6)


def test_a_thawed_layer_gets_the_average_it_would_have_had():
    def run(ema_from_the_start):
        keras.utils.set_random_seed(0)
        network = small_network()
        model = EMAModel(network, ema=0.9) if ema_from_the_start else None
        network.layers[0].trainable = False
        model = compiled(model or EMAModel(network, ema=0.9))
        model.fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
        network.layers[0].trainable = True
        compiled(model).fit(*task(), batch_size=16, epochs=1, shuffle=False, verbose=0)
        return model

    always, later = run(True), run(False)
    assert always.ema.num_updates == later.ema.num_updates == 6
    assert len(later.ema._groups) == 2
    assert_close(later.weight_values("ema"), numbers(always.weight_values("ema")))


def test_weights_added_after_training_are_refused():
    model = trained(epochs=1)
    model.network.add(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="other weights than the averages were built for"):
        compiled(model).fit(*task(), verbose=0)


def test_weights_added_before_training_are_taken_in():
    model = EMAModel(small_network(), ema=0.9)
    model.network.add(keras.layers.Dense(3))
    compiled(model).fit(*task(), batch_size=16, epochs=1, verbose=0)
    assert len(model.weight_values("ema")) == 6 and model.ema.num_updates == 3


# Weight sets, evaluation, export.


def test_weight_sets_and_their_names():
    model = EMAModel(small_network(), ema=(0.99, 0.999))
    assert model.weight_sets == ("raw", "ema_0.99", "ema_0.999")
    assert model.resolve("ema") == "ema_0.999" and model.resolve("raw") == "raw"
    assert EMAModel(small_network()).resolve("ema") == "raw"
    with pytest.raises(ValueError, match="raw, ema_0.99, ema_0.999"):
        model.resolve("ema_0.9")
    with pytest.raises(ValueError, match="another network"):
        model.weight_values(WeightSet("other", [np.zeros(3)]))


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 3}])
def test_evaluate_and_predict_use_the_average_and_touch_nothing(arguments):
    x, y = task()
    model = trained(ema=0.9, compile_arguments=arguments)
    exported = compiled(EMAModel(model.export_network("ema")))
    raw = compiled(EMAModel(model.export_network("raw")))
    state = numbers(model.variables + model.optimizer.variables + list(model.weight_values("ema")))
    results = model.evaluate(x, y, batch_size=16, verbose=0)
    prediction = model.predict(x, batch_size=16, verbose=0)
    after = numbers(model.variables + model.optimizer.variables + list(model.weight_values("ema")))
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(results, exported.evaluate(x, y, batch_size=16, verbose=0), 1e-6)
    np.testing.assert_allclose(prediction, exported.predict(x, verbose=0), atol=1e-6)
    model.evaluation_weights = "raw"
    expected = raw.evaluate(x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, batch_size=16, verbose=0), expected, 1e-6)
    assert abs(expected[0] - results[0]) > 1e-4


def test_export_network_is_a_network_of_its_own(tmp_path):
    model = trained()
    path = tmp_path / "network.keras"
    network = model.export_network("ema_0.9", path)
    loaded = keras.saving.load_model(path)
    for values in (network.weights, loaded.weights):
        for value, expected in zip(values, model.weight_values("ema_0.9"), strict=True):
            np.testing.assert_array_equal(value, expected)
    assert not set(map(id, network.weights)) & set(map(id, model.network.weights))
    assert [file.name for file in tmp_path.iterdir()] == ["network.keras"]
    with pytest.raises(ValueError, match=".keras file"):
        model.export_network(path=tmp_path / "network.h5")


def test_batch_normalization_statistics_are_copied_or_averaged():
    for average in (False, True):
        keras.utils.set_random_seed(0)
        ema = EMA(0.5, average_statistics=average)
        model = compiled(EMAModel(small_network(normalised=True), ema=ema))
        model.fit(*task(), batch_size=SAMPLES, epochs=1, verbose=0)
        place = [w.path.endswith("moving_mean") for w in model.network.weights].index(True)
        raw = np.asarray(model.network.weights[place])
        expected = 0.5 * raw if average else raw  # it started at 0
        np.testing.assert_allclose(model.weight_values("ema")[place], expected, rtol=1e-6)
        assert np.abs(raw).max() > 0


def test_fit_tells_of_a_half_life_that_counts_another_batch(caplog):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model = EMAModel(network, ema={"a": HalfLife(8, 4), "b": 0.5})
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    for batch_size, told in ((2, False), (4, True), (None, True)):
        caplog.clear()
        model.fit(x, y, batch_size=batch_size, verbose=0)
        said = [line for line in caplog.messages if "counts 4 images a step" in line]
        assert len(said) == told and all("ema_a" in line for line in said)
    for inputs in (tf.constant(x), x):  # of which Keras makes batches of 32
        caplog.clear()
        model.fit(inputs, y, verbose=0)
        assert "counts 4 images a step, and fit makes steps of 64" in caplog.text
    for batch_size, told in ((2, False), (4, True)):
        caplog.clear()
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size, drop_remainder=True)
        model.fit(data, shuffle=False, verbose=0)
        assert ("counts 4 images a step" in caplog.text) == told


def test_fit_warns_of_a_run_too_short_for_an_average(caplog):
    trained(ema=EMA({"short": 0.5, "long": 0.999}))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "ema_long" in lines[0] and "99%" in lines[0]
