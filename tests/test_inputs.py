"""Images, labels and weights of images that are taken, in every container."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from inputs_of_fit import (
    ANY_SIZE,
    BATCH,
    BYTES,
    CLASSES,
    FLOATS,
    LABELS,
    NAN,
    RNG,
    STREAMS,
    Batches,
    N,
    compiled,
    dataset,
    from_specs,
    one_hot,
    plain,
    state,
)
from numpy.testing import assert_allclose, assert_array_equal
from refusals import assert_refused

from ddpm_keras import DDPM, UNet

# Keras says it of every data set without a length, when its end is reached.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")


@pytest.fixture(scope="module")
def model():
    return compiled(plain())


@pytest.fixture(scope="module")
def classes():
    return compiled(plain(conditional=True))


@pytest.mark.parametrize("container", STREAMS)
@pytest.mark.parametrize("parts", ["x", "(x, y, sample_weight)"])
def test_every_container_is_fitted(model, container, parts):
    given = (FLOATS, LABELS, np.ones(N, np.float32))[: 1 + parts.count(",")]
    before = int(model.train_counter)
    model.fit(STREAMS[container](*given), shuffle=False, verbose=0)
    assert int(model.train_counter) - before == N // BATCH


@pytest.mark.parametrize("container", STREAMS)
def test_a_later_batch_is_refused_before_its_step(model, container):
    before = int(model.train_counter)
    assert_refused(
        lambda: model.fit(STREAMS[container](NAN), shuffle=False, verbose=0),
        ["image_range=(-1, 1)", "nan", "NaN"],
    )
    assert int(model.train_counter) - before == 2  # of the batches before it
    assert all(np.isfinite(value).all() for value in state(model))
    assert_refused(
        lambda: model.evaluate(STREAMS[container](NAN), verbose=0), ["image_range=(-1, 1)", "NaN"]
    )


@pytest.mark.parametrize("container", STREAMS)
def test_a_later_label_is_refused_before_its_step(classes, container):
    labels = LABELS.copy()
    labels[-1] = CLASSES
    before = int(classes.train_counter)
    assert_refused(
        lambda: classes.fit(STREAMS[container](BYTES, labels), shuffle=False, verbose=0),
        ["0..2", "..3", "num_classes"],
    )
    assert int(classes.train_counter) - before == 2


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"jit_compile": True, "steps_per_execution": 2},
        {"steps_per_execution": 3},
        {"run_eagerly": True},
    ],
    ids=str,
)
def test_checks_hold_however_steps_are_executed(options):
    model = compiled(plain(conditional=True), options)
    for x, y, words in [
        (NAN, LABELS, ["image_range", "NaN"]),
        (FLOATS, np.where(np.arange(N) == 9, -1, LABELS), ["0..2", "-1"]),
    ]:
        before = int(model.train_counter)
        assert_refused(lambda x=x, y=y: model.fit(dataset(x, y), shuffle=False, verbose=0), words)
        assert int(model.train_counter) - before == 2
        assert all(np.isfinite(value).all() for value in state(model))
        assert_refused(lambda x=x, y=y: model.evaluate(dataset(x, y), verbose=0), words)
    model.fit(dataset(FLOATS, LABELS), shuffle=False, verbose=0)


def test_two_replicas():
    script = Path(__file__).parent / "inputs_of_replicas.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    for refused, steps, right in zip(lines[:9:3], lines[1:9:3], lines[2:9:3], strict=True):
        assert "image_range=(-1, 1)" in refused and "NaN" in refused
        assert (steps, right) == ("2 True", "3")
    assert lines[9:] == ["True 2", "True 2"]


# What is taken.


def torch_tensor(images):
    return pytest.importorskip("torch", reason="PyTorch is not installed").tensor(images)


RIGHT_IMAGES = {
    "uint8": lambda: BYTES,
    "float32": lambda: FLOATS,
    "float64": lambda: BYTES / 127.5 - 1,
    "float16": lambda: FLOATS.astype("float16"),
    "bfloat16": lambda: tf.cast(FLOATS, tf.bfloat16),
    "not contiguous": lambda: np.repeat(FLOATS, 2, 0)[::2],
    "read only": lambda: np.broadcast_to(FLOATS[:1], FLOATS.shape),
    "a tensor": lambda: tf.constant(BYTES),
    "a variable": lambda: tf.Variable(FLOATS),
    "of PyTorch": lambda: torch_tensor(FLOATS),
    "of unknown size": lambda: from_specs(ANY_SIZE, BYTES),
    "of unknown batch and labels": lambda: from_specs(
        (ANY_SIZE, tf.TensorSpec(None)), (BYTES, 1.0)
    ),
    "a PyDataset of tensors": lambda: Batches(BYTES, form=lambda batch: tf.constant(batch)),
    "a PyDataset of lists": lambda: Batches(BYTES, form=lambda batch: [batch]),
    "weights alone": lambda: Batches(FLOATS, form=lambda batch: (batch, None, np.ones(BATCH))),
    "rounded beyond the range": lambda: FLOATS * np.float32(1.0005),
}


@pytest.mark.parametrize("name", RIGHT_IMAGES)
def test_right_images_train(model, name):
    images, before = RIGHT_IMAGES[name](), int(model.train_counter)
    options = {"batch_size": N} if hasattr(images, "shape") else {}
    loss = model.fit(images, shuffle=False, verbose=0, **options).history["loss"][0]
    assert 0.3 < loss < 3.0 and int(model.train_counter) > before
    assert all(np.isfinite(value).all() for value in state(model))


RIGHT_LABELS = {
    "int64": LABELS,
    "a list": LABELS.tolist(),
    "uint8": LABELS.astype("uint8"),
    "(N, 1)": LABELS[:, None].astype("int32"),
    "a tensor": tf.constant(LABELS),
}


@pytest.mark.parametrize("name", RIGHT_LABELS)
def test_right_labels_train_alike(classes, name):
    losses = [
        classes.test_on_batch(BYTES, labels, return_dict=True)["loss"]
        for labels in (LABELS, RIGHT_LABELS[name])
    ]
    assert losses[0] == losses[1]
    assert classes.validation_loss(BYTES, RIGHT_LABELS[name]) == pytest.approx(losses[0], rel=1e-5)
    classes.fit(BYTES, RIGHT_LABELS[name], verbose=0)


@pytest.mark.parametrize("y", [["word"] * N, np.zeros(3), one_hot(LABELS) > 0, {"label": LABELS}])
def test_labels_are_ignored_without_classes(model, y):
    model.fit(BYTES, y, verbose=0)


@pytest.mark.parametrize("image_range", [(0, 1), (0, 255), (-3, 5)])
def test_image_range_is_scaled_in_the_graph(image_range):
    low, high = image_range
    floats = (BYTES / 255.0 * (high - low) + low).astype("float32")
    network = plain()
    as_floats, as_bytes = compiled(network, image_range=image_range), compiled(network)
    assert_allclose(as_floats.validation_loss(floats), as_bytes.validation_loss(BYTES), rtol=1e-5)
    assert_allclose(as_floats.validation_loss(BYTES), as_bytes.validation_loss(BYTES), rtol=1e-6)
    as_floats.fit(dataset(floats), shuffle=False, verbose=0)
    again = DDPM.from_config(as_floats.get_config())
    assert again.image_range == image_range
    assert_refused(lambda: as_floats.validation_loss(floats + (high - low)), ["image_range"])


def test_a_folder_read_by_keras_is_fitted_as_it_is(tmp_path):
    for index, image in enumerate(BYTES):
        keras.utils.save_img(tmp_path / f"{index}.png", image, scale=False)
    images = keras.utils.image_dataset_from_directory(
        tmp_path, label_mode=None, color_mode="grayscale", image_size=(8, 8), batch_size=BATCH
    )
    model = compiled(plain(), image_range=(0, 255))
    model.fit(images, shuffle=False, verbose=0)
    assert_refused(
        lambda: compiled(plain()).fit(images, shuffle=False, verbose=0), ["image_range=(0, 255)"]
    )


def test_model_keeps_image_range_and_optimizer_when_loaded(tmp_path):
    model = compiled(plain(), image_range=(0, 255))
    model.fit(BYTES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.image_range == (0, 255) and int(loaded.optimizer.iterations) == 1
    loaded.fit(BYTES, verbose=0)


@pytest.mark.parametrize(
    ("images", "warned"),
    [(FLOATS / 2 + 0.5, True), (FLOATS, False), (FLOATS / 2 - 0.4, False), (BYTES, False)],
)
@pytest.mark.parametrize("container", [lambda x: x, dataset], ids=["array", "data set"])
def test_floats_in_half_the_range_are_warned_of(model, images, warned, container, caplog):
    with caplog.at_level(logging.WARNING, "ddpm_keras"):
        model.fit(container(images), shuffle=False, verbose=0, batch_size=None)
    assert ("image_range=(0, 1)" in caplog.text) == warned


# Weights of images.


def loss_of(model, **options):
    return model.evaluate(BYTES, verbose=0, batch_size=N, return_dict=True, **options)["loss"]


def test_sample_weight_weights_images(model):
    weights = RNG.uniform(0, 2, N).astype("float32")
    each = [loss_of(model, sample_weight=np.eye(N)[i]) * N for i in range(N)]
    assert_allclose(loss_of(model, sample_weight=weights), np.mean(weights * each), rtol=1e-5)
    assert_allclose(loss_of(model), np.mean(each), rtol=1e-5)
    given = [np.zeros(N, "int32"), weights[:, None]]
    streams = (dataset(BYTES, *given).unbatch().batch(N), iter([(BYTES, *given)]))
    for stream in streams:
        loss = model.evaluate(stream, verbose=0, return_dict=True)["loss"]
        assert_allclose(loss, np.mean(weights * each), rtol=1e-5)
    on_batch = model.test_on_batch(BYTES, sample_weight=weights, return_dict=True)["loss"]
    assert_allclose(on_batch, np.mean(weights * each), rtol=1e-5)


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_images_of_weight_zero_do_not_train(accumulation_steps):
    trained = []
    other = np.where(np.arange(N)[:, None, None, None] < 6, BYTES, 255 - BYTES)
    for images in (BYTES, other):
        model = compiled(plain(), accumulation_steps=accumulation_steps)
        model.network.set_weights([np.full((3, 3, 1, 1), 0.1), np.zeros(1)])
        weights = (np.arange(N) < 6).astype(int)
        model.fit(images, sample_weight=weights, batch_size=N, shuffle=False, verbose=0)
        trained.append(model.network.get_weights()[0])
    assert_array_equal(*trained)
    assert np.abs(trained[0] - 0.1).max() > 0


@pytest.mark.parametrize("container", ["array", "dataset", "PyDataset", "train_on_batch"])
def test_class_weight_weights_the_images_of_a_class(container):
    class_weight = {1: 0.5, 2: 0}
    weights = np.array([1, 0.5, 0], "float32")[LABELS]
    losses = []
    for options in ({"class_weight": class_weight}, {"sample_weight": weights}):
        model = compiled(plain(conditional=True), seed=3)
        model.network.set_weights([np.full(v.shape, 0.1) for v in model.network.weights])
        if container == "train_on_batch":
            done = model.train_on_batch(BYTES, LABELS, return_dict=True, **options)
            losses.append(float(done["loss"]))
            continue
        parts = (BYTES, LABELS, weights) if "sample_weight" in options else (BYTES, LABELS)
        if container == "array":
            done = model.fit(BYTES, LABELS, shuffle=False, batch_size=BATCH, verbose=0, **options)
        else:
            options.pop("sample_weight", None)
            done = model.fit(STREAMS[container](*parts), shuffle=False, verbose=0, **options)
        losses.append(done.history["loss"][0])
    assert_allclose(losses[0], losses[1], rtol=1e-6)


# Keras' own settings.


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_networks_of_any_precision_train_and_draw(policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(UNet((8, 8, 1), 4, (1,), 1, (), groups=2))
    model.fit(BYTES, verbose=0)
    assert model.sample(2, sampler=None, batch_size=2).shape == (2, 8, 8, 1)


@pytest.mark.parametrize(
    "make", [lambda n: UNet((8, 8, 1), 4, (1,), 1, (), groups=2), DDPM], ids=["UNet", "DDPM"]
)
def test_channels_first_is_refused(make):
    network = plain()
    keras.config.set_image_data_format("channels_first")
    try:
        assert_refused(lambda: make(network), ["channels_first", "set_image_data_format"])
    finally:
        keras.config.set_image_data_format("channels_last")


class Subclassed(keras.Model):
    """A network that is built when it is first called."""

    image_shape = (8, 8, 1)

    def __init__(self, channels):
        super().__init__()
        self.conv = keras.layers.Conv2D(channels, 3, padding="same")

    def call(self, inputs, training=None):
        return self.conv(inputs[0])


def test_subclassed_networks_are_built_and_their_output_is_checked():
    compiled(Subclassed(1)).fit(BYTES, verbose=0)
    for _ in range(2):
        model = compiled(Subclassed(3))
        assert_refused(lambda m=model: m.fit(BYTES, verbose=0), ["(8, 8, 3)", "(8, 8, 1)"])
        assert_refused(lambda m=model: m.validation_loss(BYTES), ["(8, 8, 3)", "(8, 8, 1)"])
        assert_refused(lambda m=model: m.sample(1), ["(8, 8, 3)", "(8, 8, 1)"])


@pytest.mark.parametrize("backend", ["torch", "jax", "numpy"])
def test_another_backend_is_refused_by_name(backend, monkeypatch):
    from ddpm_keras import backend as chosen

    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert_refused(chosen.choose, [f"KERAS_BACKEND={backend}", "KERAS_BACKEND=tensorflow"])
    monkeypatch.setenv("KERAS_BACKEND", "")
    chosen.choose()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    assert_refused(chosen.choose, [f"its {backend} backend", "KERAS_BACKEND=tensorflow"])
