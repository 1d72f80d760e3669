"""EMAOptimizer: averages of any model whatever its train_step, through every door of Keras."""

import pathlib
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
import small_gan
import tensorflow as tf
from ema_optimizers import SGD, O, X, Y, adam, assert_equal, fitted, state_of
from refusals import assert_refused
from small_trainings import assert_close, compiled, numbers, small_network

from ddpm_keras import DDPM, EMA, EMAModel, EMAOptimizer, UNet
from ddpm_keras.ema import WarmupDecay
from ddpm_keras.ema.optimizer import averages_of, averaging_optimizers
from ddpm_keras.ema.steps import batches_per_step

# Every optimizer of Keras.


def optimizers():
    """Name -> a function that makes it, for every public optimizer."""
    classes = {name: getattr(O, name) for name in dir(O) if isinstance(getattr(O, name), type)}
    found = {
        name: lambda made=made: made(learning_rate=0.1)
        for name, made in classes.items()
        if issubclass(made, O.Optimizer) and made is not O.Optimizer
    }
    found["LossScaleOptimizer"] = lambda: O.LossScaleOptimizer(SGD(0.1), initial_scale=4.0)
    if "MultiOptimizer" in found:
        found["MultiOptimizer"] = lambda: O.MultiOptimizer(
            O.OptimizerMap(SGD(0.1), {"kernel": O.Adam(0.1)})
        )
    return found


@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_of_keras_is_averaged_saved_and_made_again(name):
    random = np.random.default_rng(0)
    kernel = keras.Variable(random.normal(size=(4, 3)), dtype="float32", name="kernel")
    bias = keras.Variable(random.normal(size=3), dtype="float32", name="bias")
    made = EMAOptimizer(optimizers()[name](), 0.5)
    first, second = (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        for _ in range(2)
    )
    average = numbers([kernel, bias])
    for optimizer in (first, second):
        optimizer.build([kernel, bias])
        if optimizer is not first:
            inner, averages = {}, {}
            first.save_own_variables(inner)
            first.ema.save_own_variables(averages)
            optimizer.load_own_variables(inner)
            optimizer.ema.load_own_variables(averages)
        for _ in range(2):
            optimizer.apply([tf.random.normal((4, 3)), tf.ones(3)], [kernel, bias])
            pairs = zip(average, numbers([kernel, bias]), strict=True)
            average = [0.5 * old + 0.5 * new for old, new in pairs]
    assert optimizer.ema.num_updates == 4
    assert_close(optimizer.ema.variables("0.5"), average)


# The same as an EMAModel, to the bit.

WAYS = {
    "Adam, clipped": (lambda: O.Adam(1e-2, global_clipnorm=0.1), {}),
    "accumulation": (lambda: O.Adam(1e-2, gradient_accumulation_steps=2), {}),
    "loss scale": (lambda: O.LossScaleOptimizer(SGD(0.1), 2.0), {}),
    "steps_per_execution": (lambda: SGD(0.1), {"steps_per_execution": 2}),
}


@pytest.mark.parametrize("way", WAYS)
def test_averages_equal_those_of_an_ema_model_to_the_bit(way):
    make, arguments = WAYS[way]
    script = fitted(EMAOptimizer(make(), (0.9, 0.99)), normalised=True, **arguments)
    keras.utils.set_random_seed(0)
    other = compiled(EMAModel(small_network(True), ema=(0.9, 0.99)), make(), **arguments)
    other.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    ema = script.optimizer.ema
    assert ema.num_updates == other.ema.num_updates == (3 if way == "accumulation" else 6)
    assert_equal(script.get_weights(), numbers(other.network.weights))
    for name in ema.names:
        shipped = ema.export(script, name)
        assert_equal(shipped.get_weights(), numbers(other.weight_values(f"ema_{name}")))
        assert np.abs(shipped.get_weights()[0] - script.get_weights()[0]).max() > 1e-4


# True steps.


@pytest.mark.parametrize("policy", ["inside", "outside", "by compile"])
def test_a_loss_scale_inside_or_outside(policy):
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = EMAOptimizer(O.LossScaleOptimizer(SGD(0.1), 2.0**24), 0.9)
    if policy != "inside":
        optimizer = EMAOptimizer(SGD(0.1), 0.9)
    if policy == "outside":
        optimizer = O.LossScaleOptimizer(optimizer, 2.0**24)
    model = fitted(optimizer, epochs=8, auto_scale_loss=policy == "by compile")
    ours = model.optimizer if policy == "inside" else model.optimizer.inner_optimizer
    assert 0 < ours.ema.num_updates == int(model.optimizer.iterations)
    assert ours.ema.num_updates < 24 or policy == "by compile"  # steps were skipped
    assert all(np.isfinite(value).all() for value in numbers(ours.ema.variables("0.9")))


def test_two_loss_scales_are_refused():
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = EMAOptimizer(O.LossScaleOptimizer(SGD(0.1)), 0.9)
    assert_refused(lambda: compiled(small_network(), optimizer), ["auto_scale_loss=False"])


def test_a_step_that_is_not_finite_is_not_made():
    model = fitted(adam(), epochs=1)
    before = state_of(model)
    bad = X.copy()
    bad[3] = np.nan
    model.train_on_batch(bad, Y)
    assert_equal(state_of(model), before)
    model.train_on_batch(X, Y)
    assert model.optimizer.ema.num_updates == 4


def test_micro_batches_of_all_parts_of_an_optimizer_are_no_steps():
    parts = [SGD(0.1, gradient_accumulation_steps=k) for k in (2, 4)]
    inner = O.MultiOptimizer(O.OptimizerMap(parts[0], {".*kernel": parts[1]}))
    model = fitted(EMAOptimizer(inner, 0.9), epochs=3)  # 9 batches: steps after 2, 4, 6 and 8
    assert model.optimizer.ema.num_updates == 4


def test_a_train_step_that_accumulates_itself_moves_the_averages_once():
    weight = keras.Variable([1.0])
    optimizer = EMAOptimizer(SGD(0.5), 0.5)

    @tf.function(autograph=False)
    def step(batch):
        gradient = tf.add_n([tf.gradients(weight.value * x, weight.value)[0] for x in batch])
        optimizer.apply([gradient], [weight])

    step([tf.constant([1.0]), tf.constant([2.0])])
    assert optimizer.ema.num_updates == 1 and weight.numpy() == -0.5
    np.testing.assert_array_equal(optimizer.ema.variables("0.5")[0], [0.25])


# What an average starts from: the weights before the first step, however they came there.


def test_weights_that_the_first_batch_makes():
    keras.utils.set_random_seed(0)
    model = compiled(keras.Sequential([keras.layers.Dense(3)]), EMAOptimizer(SGD(0.1), 0.5))
    model.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    keras.utils.set_random_seed(0)
    built = compiled(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    built.compile(EMAOptimizer(SGD(0.1), 0.5), built.loss)
    built.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    assert_equal(model.get_weights(), built.get_weights())
    assert_equal(
        numbers(model.optimizer.ema.variables("0.5")), numbers(built.optimizer.ema.variables("0.5"))
    )


def test_weights_that_are_assigned_after_the_optimizer_was_built():
    model = compiled(small_network(), EMAOptimizer(SGD(0.1), 0.5))
    model.optimizer.build(model.trainable_variables)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    start = model.get_weights()
    model.train_on_batch(X, Y)
    expected = [(a + b) / 2 for a, b in zip(start, model.get_weights(), strict=True)]
    assert_close(model.optimizer.ema.variables("0.5"), expected)


# Frozen and thawed layers.


def test_layers_frozen_and_thawed_keep_the_averages_of_an_ema_model(tmp_path):
    keras.utils.set_random_seed(0)
    script = small_network()
    keras.utils.set_random_seed(0)
    other = EMAModel(small_network(), ema=0.9)
    ema = EMA(0.9)
    for frozen in ([0], [1]):
        for model, network in ((script, script), (other, other.network)):
            for i, layer in enumerate(network.layers):
                layer.trainable = i not in frozen
            optimizer = EMAOptimizer(SGD(0.1), ema) if model is script else SGD(0.1)
            compiled(model, optimizer).fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    assert ema.num_updates == other.ema.num_updates == 6
    expected = numbers(other.weight_values("ema"))
    assert_equal(ema.export(script, "0.9").get_weights(), expected)
    script.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="Left in the file: the averages of .*kernel.*not trained"):
        again = keras.saving.load_model(tmp_path / "model.keras")
    values = again.optimizer.ema.export(again, "0.9").get_weights()
    assert_equal(values, [*expected[:2], *script.get_weights()[2:]])


def test_an_optimizer_that_goes_on_with_a_layer_frozen(tmp_path):
    model = fitted(EMAOptimizer(SGD(0.1), 0.9), epochs=1)
    before = numbers(model.optimizer.ema.variables("0.9"))
    model.layers[0].trainable = False
    compiled(model, model.optimizer).fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    kernel = numbers(model.weights)[0]
    average = numbers(model.optimizer.ema.variables("0.9"))[0]
    np.testing.assert_allclose(average, kernel + 0.9**3 * (before[0] - kernel), atol=1e-6)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="Left in the file|Skipping variable loading"):
        again = keras.saving.load_model(tmp_path / "model.keras")
    ema = again.optimizer.ema
    assert_equal(numbers(ema.variables("0.9")), numbers(model.optimizer.ema.variables("0.9"))[2:])


# Several optimizers, and a train_step of one's own.


def test_a_gan_goes_on_in_a_new_process_to_the_bit(tmp_path):
    model = small_gan.GAN()
    model.compile(*small_gan.optimizers())
    small_gan.fit(model, 2).save(tmp_path / "gan.keras")
    expected = small_gan.state(small_gan.fit(model, 2))
    words = ["No weight of", "critic", "averaged here"]
    assert_refused(lambda: model.g_optimizer.ema.export(model.critic, "0.9"), words)
    done = subprocess.run(
        [sys.executable, small_gan.__file__, tmp_path / "gan.keras", "2", tmp_path / "end.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "end.npz") as found:
        assert set(found.files) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


# What is shipped, what is delegated, what is refused.


def test_export_leaves_the_model_and_copies_what_is_not_averaged(tmp_path):
    model = fitted(adam(), normalised=True)
    before = state_of(model)
    shipped = model.optimizer.ema.export(model, "0.99", tmp_path / "network.keras")
    assert_equal(state_of(model), before)
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert not set(map(id, shipped.weights)) & set(map(id, model.weights))
    ema = model.optimizer.ema
    averages = dict(zip(map(id, ema.sources), ema.variables("0.99"), strict=True))
    for weight, one, other in zip(model.weights, shipped.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, averages.get(id(weight), weight))
        np.testing.assert_array_equal(other, one)
    assert_refused(lambda: ema.export(model, "0.5"), ["No average", "0.9, 0.99"])
    assert_refused(lambda: ema.export(model, "0.9", tmp_path / "n.h5"), [".keras file", "n.h5"])


def learnt_scale():
    layer = keras.layers.Normalization()
    layer.adapt(3.0 * X + 5.0)
    return layer


def learnt_words():
    layer = keras.layers.TextVectorization(output_sequence_length=4)
    layer.adapt(["a b c d", "b d"])
    return keras.Sequential([keras.Input((), dtype="string"), layer, keras.layers.Embedding(8, 3)])


TEXTS = tf.constant(["a", "b c d", "d a a"] * 4)


@pytest.mark.parametrize(
    ("layer", "inputs"), [(learnt_scale, X[:12]), (learnt_words, TEXTS)], ids=["scale", "words"]
)
@pytest.mark.parametrize("kind", ["optimizer", "model"])
def test_export_takes_along_what_layers_learnt_besides_weights(layer, inputs, kind):
    keras.utils.set_random_seed(0)
    shape = keras.Input(inputs.shape[1:], dtype=inputs.dtype.name)
    flat = keras.layers.Flatten()(layer()(shape))
    model = keras.Model(shape, keras.layers.Dense(1)(flat))
    expected = model  # the average with beta = 0 is the raw weights
    if kind == "model":
        model = EMAModel(model, ema={"last": 0.0})
        model.compile(SGD(), "mse")
    else:
        model.compile(EMAOptimizer(SGD(), {"last": 0.0}), "mse")
    model.fit(inputs, np.ones((12, 1)), verbose=0)
    if kind == "model":
        shipped = model.export_network("ema")
    else:
        shipped = model.optimizer.ema.export(model, "last")
    assert_close(shipped(inputs), expected(inputs))
    assert not set(map(id, shipped.weights)) & set(map(id, expected.weights))


def shipped_after_a_change(change):
    model = fitted(adam())
    change(model)
    model.optimizer.ema.export(model, "0.9")


def quantized(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.quantize("int8")


def low_rank_unet():
    network = UNet((4, 4, 1), 8, (1,), num_res_blocks=1, attention_resolutions=())
    network.get_layer("time_dense1").enable_lora(2)
    EMAModel(network, ema=0.9).export_network()


def test_averages_are_found_wherever_a_model_holds_them():
    model = keras.Sequential([keras.Input((4,)), small_network()])
    part = O.MultiOptimizer(O.OptimizerMap(SGD(0.1), {"kernel": adam()}))
    model.every = {"a": adam(), "b": [O.LossScaleOptimizer(adam()), part]}
    model.layers[0].optimizer, model.own = adam(), (EMA(0.9),)
    assert len({id(ema) for ema in averages_of(model)}) == 5
    assert len(averaging_optimizers(model)) == 4


def test_callbacks_reach_the_optimizer_inside():
    model = fitted(EMAOptimizer("sgd", {"slow": WarmupDecay(0.99)}), epochs=1)
    model.optimizer.learning_rate = 0.25
    assert float(model.optimizer.inner_optimizer.learning_rate) == 0.25
    fall = keras.callbacks.LearningRateScheduler(lambda epoch: 0.125)
    model.fit(X, Y, verbose=0, callbacks=[fall])
    assert float(model.optimizer.inner_optimizer.learning_rate) == 0.125
    optimizer = EMAOptimizer(O.AdamW(0.1, weight_decay=0.5), 0.9)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    bias = keras.Variable([1.0], name="bias")
    optimizer.build([bias])
    assert not optimizer.inner_optimizer._use_weight_decay(bias)
    pairs = zip([tf.zeros(1)], [bias], strict=True)
    assert int(optimizer.apply_gradients(pairs)) == int(optimizer.iterations) == 1


def shared():
    ema = EMA(0.9)
    first, second = EMAOptimizer(SGD(), ema), EMAOptimizer(SGD(), ema)
    first.build([keras.Variable([1.0])])
    second.build([keras.Variable([1.0])])


def built_of_parts():
    """An optimizer that is known only when it is built."""
    every = SGD(use_ema=True)
    EMAOptimizer(O.MultiOptimizer(lambda variable: every), 0.9).build([keras.Variable([1.0])])


def nested():
    inner = O.MultiOptimizer(O.OptimizerMap(SGD(0.1), {"kernel": adam()}))
    EMAOptimizer(inner, 0.9)


def applied(gradients, variables):
    EMAOptimizer(SGD(), 0.9).apply(gradients, variables)


class Unnamed(keras.Model):
    """Of which Keras makes no other, as it does not know the number of outputs."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)


def shipped_without_configuration():
    model = Unnamed(3)
    optimizer = EMAOptimizer(SGD(), 0.9)
    model(X)
    optimizer.build(model.trainable_variables)
    optimizer.ema.export(model, "0.9")


def trained_twice(model):
    model.compile(adam())
    model.make_train_function()


REFUSED = [
    (lambda: EMAOptimizer(adam(), 0.9), ["EMAOptimizer too", "the decays of both"]),
    (lambda: EMAOptimizer(O.LossScaleOptimizer(adam()), 0.9), ["EMAOptimizer too"]),
    (lambda: EMAOptimizer(SGD(use_ema=True, ema_momentum=0.5), 0.9), ["use_ema", "ema=0.5"]),
    (lambda: EMAOptimizer(SGD(), None), ["ema is None", "0.999"]),
    (lambda: EMAOptimizer(SGD(), ()), ["ema has no average", "0.999"]),
    (lambda: EMAOptimizer(None, 0.9), ["optimizer must be", "None"]),
    (lambda: EMAOptimizer(SGD(), EMA(0.9, average_statistics=True)), ["average_statistics"]),
    (lambda: EMAOptimizer(SGD(), EMA(0.9, snapshot_widths=(0.1,))), ["snapshots", "EMAModel"]),
    (lambda: EMAOptimizer(SGD(), 0.9).apply([tf.ones(1)]), ["variables", "build(variables)"]),
    (built_of_parts, ["use_ema", "ema=0.99"]),
    (nested, ["EMAOptimizer too"]),
    (lambda: applied([tf.ones(1)], [keras.Variable([1.0])] * 2), ["1 gradients for 2 variables"]),
    (lambda: applied([tf.ones(1)] * 2, [keras.Variable([1.0])]), ["2 gradients for 1 variables"]),
    (lambda: setattr(adam(), "gradient_accumulation_steps", 2), ["optimizer inside", "=2)"]),
    (shipped_without_configuration, ["Unnamed has no get_config()", "write one"]),
    (lambda: adam().ema.export(small_network(), "0.9"), ["nothing was trained", "ema.build"]),
    (lambda: shipped_after_a_change(quantized), ["kernel", "quantize", "export the average first"]),
    (low_rank_unet, ["UNet", "74 weights", "76", "get_config()"]),
    (shared, ["of other weights", "an EMA for each optimizer"]),
    (lambda: trained_twice(EMAModel(small_network(), ema=0.9)), ["its optimizer too", "leave out"]),
    (
        lambda: trained_twice(DDPM(networks.small_network(), ema=0.9)),
        ["its optimizer too", "leave out"],
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_meant_is_refused(number):
    assert_refused(*REFUSED[number])


def test_a_setting_that_is_changed_is_that_of_the_optimizer_inside():
    inner = SGD(0.1, clipnorm=2.0)
    optimizer = EMAOptimizer(O.LossScaleOptimizer(inner), 0.9)
    assert (optimizer.clipnorm, optimizer.weight_decay) == (2.0, None)
    optimizer.clipnorm, optimizer.weight_decay = 1.0, 0.1
    assert (inner.clipnorm, inner.weight_decay) == (optimizer.clipnorm, 0.1) == (1.0, 0.1)


def test_a_model_without_averages_takes_the_optimizer():
    model = compiled(EMAModel(small_network()), adam())
    model.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    assert model.optimizer.ema.num_updates == model.steps_made == 3


def test_two_replicas_equal_one():
    """In a process of its own: the number of devices is fixed when TensorFlow starts."""
    script = pathlib.Path(__file__).with_name("ema_replicas.py")
    done = subprocess.run(
        [sys.executable, script, "doors"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["optimizer", "outside", "model", "ddpm", "bare", "refused"]


def test_a_multi_optimizer_accumulates_nothing_before_its_parts_are_known():
    shared = O.MultiOptimizer(O.OptimizerMap(SGD(0.1), {".*kernel": SGD(0.2)}))
    assert batches_per_step(EMAOptimizer(shared, 0.9)) == 1
