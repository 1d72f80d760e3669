"""DDPM: its loss against NumPy, Keras' own machinery unmodified, sampling, and exact resume."""

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import beside
from numpy.testing import assert_allclose, assert_array_equal
from refusals import assert_refused

from ddpm_keras import DDPM, EMA, UNet, noise, samplers, trained_for
from ddpm_keras.ema import WeightSet

DDIM = samplers.DDIM(steps=3)


def compiled(network, **options):
    model = DDPM(network, **({"ema": (0.5, 0.9)} | options))
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0))
    return model


def state(model):
    """Every number that training depends on (dropout is keyed on the step, not on a state)."""
    own = [v for v in model.variables if not v.path.endswith("seed_generator_state")]
    averages = [v for name in model.ema.names for v in model.ema.variables(name)]
    return [np.array(v) for v in (*own, *model.optimizer.variables, *averages)]


def assert_same_state(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)


# The loss


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_loss_against_float64(network, prediction, weighting):
    model = DDPM(network, "cosine", prediction=prediction, weighting=weighting, ema=None)
    rng = np.random.default_rng(0)
    x_start, epsilon = rng.uniform(-1, 1, (5, 8, 8, 1)), rng.normal(size=(5, 8, 8, 1))
    t = np.array([0, 10, 400, 900, 999], np.int32)

    s = np.arange(1001) / 1000
    f = np.cos((s + 0.008) / 1.008 * np.pi / 2) ** 2
    a = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))[t]
    signal, rate = np.sqrt(a)[:, None, None, None], np.sqrt(1 - a)[:, None, None, None]
    x = signal * x_start + rate * epsilon
    targets = {"epsilon": epsilon, "sample": x_start, "v": signal * epsilon - rate * x_start}
    snr = a / (1 - a)
    min_snr = np.minimum(snr, 5) / {"epsilon": snr, "sample": 1.0, "v": snr + 1}[prediction]
    weight = min_snr if weighting == "min_snr" else np.ones(5)
    output = np.array(network([x.astype("float32"), t], training=False), np.float64)
    expected = weight * ((output - targets[prediction]) ** 2).mean(axis=(1, 2, 3))

    as_float32 = [tf.constant(value, tf.float32) for value in (x_start, epsilon)]
    example = model._example(as_float32[0], tf.constant(t), as_float32[1], None)
    assert_allclose(model._squared_error(example, training=False), expected, rtol=2e-5)


def test_training_lowers_the_loss_and_reports_every_quartile(network, digits):
    history = compiled(network).fit(digits.train, epochs=3, batch_size=64, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert set(history) == {"loss", "grad_norm", "loss_q1", "loss_q2", "loss_q3", "loss_q4"}
    quartiles = [history[f"loss_q{i}"][-1] for i in (1, 2, 3, 4)]
    assert_allclose(np.mean(quartiles), history["loss"][-1], rtol=0.05)
    assert quartiles[0] > quartiles[3]  # little noise is harder to tell from the image


def test_uint8_and_scaled_float_train_alike(digits):
    images = digits.train[:64]
    results = []
    for x in (images, images / np.float32(127.5) - 1):
        keras.utils.set_random_seed(1)
        model = compiled(keras.models.clone_model(_plain()), seed=3)
        results.append(model.fit(x, batch_size=32, epochs=1, shuffle=False, verbose=0).history)
    assert_allclose(results[0]["loss"], results[1]["loss"], rtol=1e-5)


def _plain():
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    return keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(beside(x, t)))


@pytest.mark.parametrize("form", ["array", "x", "(x,)", "(x, y)"])
def test_fit_takes_arrays_and_datasets(network, digits, form):
    x, y = digits.train[:32], digits.train_labels[:32]
    data = {
        "array": x,
        "x": tf.data.Dataset.from_tensor_slices(x).batch(16),
        "(x,)": tf.data.Dataset.from_tensor_slices((x,)).batch(16),
        "(x, y)": tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
    }[form]
    model = compiled(network)
    options = {"batch_size": 16} if form == "array" else {"shuffle": False}
    model.fit(data, verbose=0, **options)
    assert model.ema.num_updates == 2


# Keras' own machinery


def test_keras_callbacks_work_unmodified(network, digits, tmp_path):
    model = compiled(network)
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss"),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True),
        keras.callbacks.TensorBoard(tmp_path / "tensorboard"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
    ]
    held_out = digits.held_out[:50]
    options = {"batch_size": 64, "verbose": 0, "callbacks": callbacks}
    history = model.fit(
        digits.train[:128], epochs=2, validation_data=(held_out, None), **options
    ).history
    assert history["val_loss"][-1] == model.evaluate(held_out, verbose=0, return_dict=True)["loss"]
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    assert_same_state(state(model), state(loaded))
    assert list((tmp_path / "tensorboard").rglob("events*"))

    again = compiled(keras.models.clone_model(network))
    again.fit(digits.train[:128], epochs=2, **options)  # BackupAndRestore finds both epochs done
    assert_same_state(state(model), state(again))


def test_evaluate_is_the_same_at_every_call_and_batch_size(network, digits):
    model = compiled(network)
    model.fit(digits.train[:64], batch_size=32, verbose=0)
    first, second, third = (
        model.evaluate(digits.held_out, batch_size=size, verbose=0, return_dict=True)
        for size in (32, 32, 50)
    )
    assert first == second
    assert_allclose(list(first.values()), list(third.values()), rtol=1e-5)
    assert_allclose(
        first["loss"], model.validation_loss(digits.held_out, batch_size=100), rtol=1e-5
    )


def test_saves_and_loads_in_a_new_process(network, digits, tmp_path):
    model = compiled(network)
    model.fit(digits.train[:64], batch_size=32, verbose=0)
    model.save(tmp_path / "model.keras")
    pixels = model.sample(5, sampler=DDIM, seed=7)
    script = (
        "import ddpm_keras, keras, hashlib\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "pixels = model.sample(5, sampler=ddpm_keras.samplers.DDIM(steps=3), seed=7)\n"
        "print(hashlib.sha256(pixels).hexdigest(), model.optimizer.iterations.numpy())\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == [hashlib.sha256(pixels).hexdigest(), "2"]


def test_configuration_survives(network):
    schedule = noise.NoiseSchedule(np.linspace(0.01, 0.3, 10))
    model = DDPM(network, schedule, prediction="v", weighting="min_snr", ema=EMA(0.9), seed=5)
    again = DDPM.from_config(json.loads(json.dumps(model.get_config())))
    assert_array_equal(again.schedule.betas, schedule.betas)
    for key in ("prediction", "weighting", "label_dropout", "seed", "ema", "schedule"):
        assert again.get_config()[key] == model.get_config()[key]


# Resume


def test_resumed_training_equals_uninterrupted_to_the_bit(network, digits, tmp_path):
    from ddpm_keras import data

    def train(model, start, steps):
        stream = data.training_stream(digits.train, batch_size=16, seed=1, start_step=start)
        model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0)

    fresh = keras.models.clone_model(network)
    fresh.set_weights(network.get_weights())
    whole = compiled(network)
    train(whole, 0, 6)
    first = compiled(fresh)
    train(first, 0, 4)
    first.save_weights(tmp_path / "state.weights.h5")
    second = compiled(keras.models.clone_model(network))
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "state.weights.h5")
    train(second, 4, 2)
    for name in ("raw", "ema_0.9"):
        for a, b in zip(whole.weight_values(name), second.weight_values(name), strict=True):
            assert_array_equal(np.array(a), np.array(b))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"prediction": "v"}, "prediction is epsilon there and v here"),
        ({"schedule": "cosine"}, r"schedule is NoiseSchedule\(linear, .* there and .*cosine"),
        ({}, None),
    ],
)
def test_weights_of_another_diffusion_are_told(other, words, network, tmp_path, recwarn):
    DDPM(network, timesteps=20, ema=0.9).save_weights(tmp_path / "a.weights.h5")
    model = DDPM(keras.models.clone_model(network), timesteps=20, ema=0.9, **other)
    model.load_weights(tmp_path / "a.weights.h5")
    said = [str(each.message) for each in recwarn if "trained for" in str(each.message)]
    assert len(said) == (words is not None) and all(re.search(words, each) for each in said)
    for a, b in zip(network.weights, model.network.weights, strict=True):
        assert_array_equal(a, b)


def test_weights_of_other_betas_by_the_same_name_are_told(network, tmp_path):
    def model(last):
        schedule = noise.NoiseSchedule(np.linspace(0.01, last, 20))
        return DDPM(keras.models.clone_model(network), schedule=schedule, ema=None)

    path = tmp_path / "a.weights.h5"
    model(0.2).save_weights(path)
    model(0.2).load_weights(path)
    with pytest.warns(UserWarning, match="trained for something else: checksum of betas"):
        model(0.3).load_weights(path)


def test_weights_of_an_older_version_do_not_say_what_they_are_for(network, recwarn):
    model, store = DDPM(network, timesteps=20, ema=0.9), {}
    model.save_own_variables(store)
    model.load_own_variables(store)
    del store["trained_for"]
    model.load_own_variables(store)
    assert not [each for each in recwarn if "trained for" in str(each.message)]
    store["trained_for"] = np.frombuffer(b"{", np.uint8)
    with pytest.warns(UserWarning, match="cannot be read what for"):
        model.load_own_variables(store)


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [
        (noise.linear(20), "epsilon"),
        (noise.cosine(30), "v"),
        (noise.linear(20, zero_terminal_snr=True), "v"),
        (noise.NoiseSchedule(np.linspace(0.01, 0.2, 9)), "sample"),
    ],
    ids=repr,
)
def test_the_file_of_a_network_says_what_it_was_trained_for(
    schedule, prediction, network, tmp_path
):
    path = tmp_path / "network.keras"
    model = DDPM(network, schedule=schedule, prediction=prediction, ema=0.9)
    model.export_network("raw", path)
    found, told = trained_for.of_network(path)
    assert_array_equal(found.betas, schedule.betas)
    assert (found.name, told) == (schedule.name, prediction)
    loaded = keras.saving.load_model(path)  # which passes it over
    assert_array_equal(loaded.get_weights()[0], network.get_weights()[0])
    loaded.save(path)
    assert trained_for.of_network(path) is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"prediction": "x0", "schedule": {}}', "[" * 10_000]
    + [
        json.dumps({"prediction": "v", "schedule": each})
        for each in (3, {}, {"name": "x"}, {"name": "linear", "timesteps": 10**9})
    ],
)
def test_a_file_of_a_network_that_says_nonsense_is_refused(text, tmp_path):
    with zipfile.ZipFile(tmp_path / "network.keras", "w") as archive:
        archive.writestr("trained_for.json", text)
    with pytest.raises(ValueError, match=r"trained_for.json cannot be read"):
        trained_for.of_network(tmp_path / "network.keras")


def test_a_model_is_not_saved_where_it_could_not_be_loaded_from(network, tmp_path):
    path = tmp_path / "model.h5"
    assert_refused(lambda: DDPM(network).save(path), ["model.h5", ".keras", ".weights.h5"])


def test_a_network_that_is_frozen_as_a_whole_is_not_trained(network):
    frozen = keras.models.clone_model(network)
    frozen.trainable = False
    model = DDPM(frozen, ema=0.9)
    model.compile("sgd")
    assert_refused(
        lambda: model.fit(np.zeros((2, 8, 8, 1), "uint8"), verbose=0), ["frozen", "trainable"]
    )


# Sampling


def test_sampling_depends_on_weights_sampler_seed_and_index_alone(network):
    model = compiled(network)
    ancestral = samplers.DDPM(steps=4)
    drawn = model.sample(7, sampler=ancestral, seed=3, output="float")
    assert drawn.shape == (7, 8, 8, 1) and drawn.dtype == np.float32
    assert np.abs(drawn).max() <= 1.0
    for size in (1, 3):
        other = model.sample(7, sampler=ancestral, seed=3, batch_size=size, output="float")
        assert_allclose(other, drawn, atol=1e-5)
    part = model.sample(2, sampler=ancestral, seed=3, start=4, output="float")
    assert_allclose(part, drawn[4:6], atol=1e-5)
    assert np.abs(model.sample(7, sampler=ancestral, seed=4, output="float") - drawn).max() > 0.1
    assert len({image.tobytes() for image in drawn}) == 7


def test_one_trace_serves_every_weight_set_and_count(network, digits):
    model = compiled(network)
    model.fit(digits.train[:64], batch_size=32, verbose=0)
    shifted = WeightSet("shifted", [np.array(v) + 0.1 for v in model.weight_values("raw")])
    drawn = [model.sample(n, w, DDIM, output="float") for n, w in enumerate(model.weight_sets, 3)]
    drawn.append(model.sample(3, shifted, DDIM, output="float"))
    assert model.traced.sampling(DDIM, False, 0, 1).experimental_get_tracing_count() == 1
    for one, other in zip(drawn, drawn[1:], strict=False):
        assert np.abs(one[:3] - other[:3]).max() > 1e-3


def test_sampling_and_validating_leave_training_untouched(network, digits):
    model = compiled(network)
    model.fit(digits.train[:64], batch_size=32, verbose=0)
    before = state(model)
    for weights in model.weight_sets:
        model.sample(3, weights, DDIM)
        model.validation_loss(digits.held_out[:20], weights=weights)
    assert_same_state(before, state(model))


def test_a_schedule_that_ends_in_noise_alone_trains_and_samples(network, digits, tmp_path):
    schedule = noise.linear(20, zero_terminal_snr=True)
    model = compiled(network, schedule=schedule, prediction="v")
    history = model.fit(digits.train[:32], batch_size=16, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for name in ("ddpm", "ddim", "dpm", "unipc", "heun"):
        drawn = model.sample(2, sampler=samplers.get(name, steps=4), output="float")
        assert np.isfinite(drawn).all() and drawn.std() > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_array_equal(loaded.schedule.betas, schedule.betas)
    assert_array_equal(loaded.sample(2, sampler=DDIM), model.sample(2, sampler=DDIM))
    for wrong in ({"prediction": "epsilon"}, {"prediction": "v", "weighting": "min_snr"}):
        with pytest.raises(ValueError, match=f"{list(wrong)[-1]}='.*zero terminal SNR"):
            DDPM(network, schedule, **wrong)


def test_exported_network_draws_what_the_average_draws(network, digits):
    model = compiled(network)
    model.fit(digits.train[:64], batch_size=32, verbose=0)
    alone = DDPM(model.export_network("ema_0.5"), ema=None)
    assert_array_equal(alone.sample(3, sampler=DDIM), model.sample(3, "ema_0.5", DDIM))
    assert alone.weight_sets == ("raw",)


def conditional():
    options = {"num_res_blocks": 1, "attention_resolutions": (), "num_classes": 3, "groups": 4}
    return DDPM(UNet((8, 8, 1), 8, (1,), **options), ema=0.9)


def test_conditional_model_learns_labels_and_guides():
    model = conditional()
    model.compile(keras.optimizers.Adam(3e-3))
    labels = np.arange(96) % 3
    images = np.broadcast_to(labels[:, None, None, None] * 127, (96, 8, 8, 1)).astype("uint8")
    model.fit(images, labels, epochs=60, batch_size=16, verbose=0)
    right, wrong = (
        model.validation_loss(images, labels=given, weights="raw", repeats=4)
        for given in (labels, (labels + 1) % 3)
    )
    assert right < 0.9 * wrong
    one, two = (
        model.sample(6, "raw", DDIM, guidance_scale=scale, output="float") for scale in (1.0, 2.0)
    )
    none = model.sample(6, "raw", DDIM, labels=3, output="float")
    assert np.abs(one - two).max() > 1e-3 and np.abs(one - none).max() > 1e-3


def test_a_share_of_the_labels_is_dropped_in_training():
    """A quarter of 4,000 labels, to 4 standard deviations; the others stay what they were."""
    model = DDPM(conditional().network, ema=None, label_dropout=0.25)
    labels = np.arange(4000) % 3
    images = tf.zeros((4000, 8, 8, 1))
    taken = np.array(model._noised(images, tf.constant(labels), model._step_key())["labels"])
    dropped = taken == 3
    assert abs(dropped.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert_array_equal(taken[~dropped], labels[~dropped])


def test_images_get_the_classes_in_turn_unless_told_otherwise():
    model = conditional()
    rng = np.random.default_rng(0)
    for weight in model.network.weights:
        weight.assign(rng.normal(0, 2.0 if "class" in weight.path else 0.1, weight.shape))
    in_turn = model.sample(5, "raw", DDIM)
    assert_array_equal(in_turn, model.sample(5, "raw", DDIM, labels=[0, 1, 2, 0, 1]))
    part, whole = (
        model.sample(5 - start, "raw", DDIM, start=start, output="float") for start in (2, 0)
    )
    assert_allclose(part, whole[2:], atol=1e-4)
    of_one = [model.sample(5, "raw", DDIM, labels=label) for label in range(3)]
    assert_array_equal(of_one[1], model.sample(5, "raw", DDIM, labels=[1] * 5))
    assert all((images != in_turn).any() for images in of_one)


def test_guidance_is_linear_in_the_two_predictions():
    model = conditional()
    rng = np.random.default_rng(0)
    for weight in model.network.weights:
        weight.assign(rng.normal(0, 0.2, weight.shape))
    x = tf.constant(rng.normal(size=(2, 8, 8, 1)), tf.float32)
    t, labels = tf.constant([10, 500]), tf.constant([0, 2])
    with_label, without = (
        np.array(model.predict_epsilon(x, t, each)) for each in (labels, tf.constant([3, 3]))
    )
    guided = model.predict_epsilon(x, t, labels, tf.constant(2.5))
    assert_allclose(guided, without + 2.5 * (with_label - without), rtol=1e-4, atol=1e-4)


# Errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: m.fit(x.astype("float32")), ("255", "x / 127.5 - 1")),
        (lambda m, x: m.fit(x[:, :4]), ("(8, 8, 1)", "(4, 8, 1)")),
        (lambda m, x: m.sample(0), ("at least 1", "0")),
        (lambda m, x: m.sample(1, weights="ema_0.7"), ("ema_0.7", "ema_0.5", "ema_0.9")),
        (lambda m, x: m.sample(1, output="png"), ("uint8", "float", "png")),
        (lambda m, x: m.sample(1, labels=[1]), ("num_classes",)),
        (lambda m, x: DDPM(m.network, prediction="noise"), ("noise", "epsilon")),
        (lambda m, x: DDPM(m.network, weighting="snr"), ("snr", "min_snr")),
        (lambda m, x: DDPM(m.network, "square"), ("square", "cosine")),
        (lambda m, x: DDPM(m.network, label_dropout=1.0), ("label_dropout", "1.0")),
    ],
)
def test_errors_name_the_cure(network, digits, call, words):
    model = compiled(network)
    assert_refused(lambda: call(model, digits.train), words)


def test_labels_out_of_range_are_refused():
    model = conditional()
    with pytest.raises(ValueError, match=r"0\.\.3.*means none"):
        model.sample(1, labels=[4])
    with pytest.raises(ValueError, match="2 numbers for 3 images"):
        model.sample(3, labels=[1, 2])


def test_example_of_own_images_in_two_processes(tmp_path):
    script = Path(__file__).parents[1] / "examples" / "own_images.py"
    run = [sys.executable, "-W", "ignore", str(script)]
    options = {"check": True, "capture_output": True, "text": True, "cwd": tmp_path}
    options["env"] = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    trained = subprocess.run(run, **options).stdout.splitlines()[-1]
    loaded = subprocess.run([*run, "colour.keras"], **options).stdout.splitlines()[-1]
    assert trained == loaded and trained.startswith("(16, 16, 16, 3)")
    assert len([line for line in script.read_text().splitlines() if line.strip()]) < 30
