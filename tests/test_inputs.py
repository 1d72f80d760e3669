"""Images, labels and weights of images: what is refused, in one line, and what is taken."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from refusals import assert_refused

from ddpm_keras import DDPM, UNet, callbacks, likelihood, noise, quality

# Keras says it of every data set without a length, when its end is reached.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")

N, BATCH, CLASSES = 12, 4, 3
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)
FLOATS = BYTES / np.float32(127.5) - 1
LABELS = np.arange(N) % CLASSES


def spoilt(images, value, image=9):
    images = images.copy()
    images[image, 2, 3, 0] = value
    return images


NAN = spoilt(FLOATS, np.nan)


def plain(conditional=False, channels=1):
    """A network of one convolution, traced in a moment."""
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    h = keras.layers.Conv2D(channels, 3, padding="same")(x)
    if not conditional:
        return keras.Model([x, t], h)
    label = keras.Input((), dtype="int32")
    network = keras.Model([x, t, label], h + keras.layers.Embedding(4, 1)(label)[:, None, None, :])
    network.num_classes = CLASSES
    return network


def compiled(network, compile_options=None, **options):
    model = DDPM(network, **({"ema": (0.5, 0.9)} | options))
    model.compile(keras.optimizers.SGD(1e-3), **(compile_options or {}))
    return model


@pytest.fixture(scope="module")
def model():
    return compiled(plain())


@pytest.fixture(scope="module")
def classes():
    return compiled(plain(conditional=True))


def state(model):
    return [np.array(v) for v in model.variables if "seed_generator" not in v.path]


# Containers: the same images in whatever `fit` takes.


def dataset(*parts):
    parts = parts[0] if len(parts) == 1 else parts
    return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)


def batches(*parts):
    for start in range(0, N, BATCH):
        batch = tuple(part[start : start + BATCH] for part in parts)
        yield batch[0] if len(batch) == 1 else batch


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, form=lambda batch: batch):
        super().__init__()
        self.batches, self.form = list(batches(*parts)), form

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.form(self.batches[index])


class Rows:
    """A data set of PyTorch."""

    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, index):
        row = tuple(part[index] for part in self.parts)
        return row[0] if len(row) == 1 else row


def loader(*parts):
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    return data.DataLoader(Rows(*parts), batch_size=BATCH)


def distributed(*parts):
    return tf.distribute.get_strategy().experimental_distribute_dataset(dataset(*parts))


STREAMS = {
    "dataset": dataset,
    "PyDataset": Batches,
    "generator": batches,
    "iterator": lambda *parts: iter(list(batches(*parts))),
    "DataLoader": loader,
    "distributed": distributed,
}


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
        env=os.environ | {"PYTHONPATH": str(script.parents[1])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    for refused, steps, right in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert "image_range=(-1, 1)" in refused and "NaN" in refused
        assert (steps, right) == ("2 True", "3")


# What is refused, with nothing changed: name -> (call on a model, words of the line).


def fit(x, y=None, **options):
    return lambda m: m.fit(x, y, verbose=0, **({"batch_size": None} | options))


def streamed(x, *parts, **options):
    return lambda m: m.fit(dataset(x, *parts), shuffle=False, verbose=0, **options)


def from_specs(spec, *elements):
    return tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=spec)


class Means(quality.FeatureExtractor):
    """Mean of each row of an image."""

    name, dim, channels, fingerprint = "row means", 8, 1, "row means"

    def _features(self, batch):
        return batch.mean(axis=(2, 3), dtype=np.float32)


ANY_SIZE = tf.TensorSpec((None, None, None, 1), tf.uint8)
CHANGING = [BYTES[:4], BYTES[:4], BYTES[:4].astype("float32") / 255]
SHRINKING = [BYTES[:4], BYTES[:4], BYTES[:4, :4]]

WRONG_IMAGES = {
    # values
    "floats 0..255": (fit(BYTES.astype("float32")), ["(0, 255)", "x / 127.5 - 1"]),
    "floats 0..255, data set": (streamed(BYTES.astype("float32")), ["image_range=(0, 255)"]),
    "one pixel too bright": (fit(spoilt(FLOATS, 1.01)), ["image_range=(-1, 1)", "1.01"]),
    "one pixel too dark": (fit(spoilt(FLOATS, -2)), ["image_range=(-1, 1)", "-2"]),
    "NaN": (fit(NAN), ["nan", "NaN"]),
    "infinity": (fit(spoilt(FLOATS, np.inf)), ["inf", "infinite"]),
    "minus infinity": (fit(spoilt(FLOATS, -np.inf)), ["-inf", "infinite"]),
    "float64 beyond float32": (fit(spoilt(FLOATS.astype(float), 1e300)), ["1e+300"]),
    "float16 0..255": (fit(BYTES.astype("float16")), ["image_range=(0, 255)"]),
    "bfloat16 NaN": (lambda m: m.fit(tf.cast(NAN, tf.bfloat16), verbose=0), ["nan", "NaN"]),
    # dtypes
    "uint16": (fit(BYTES.astype("uint16")), ["uint16", "257"]),
    "int8": (fit(BYTES.astype("int8")), ["int8", "uint8"]),
    "int16": (fit(BYTES.astype("int16")), ["int16", "uint8"]),
    "int32 tensor": (fit(tf.constant(BYTES, tf.int32)), ["int32", "uint8"]),
    "int64": (fit(BYTES.astype("int64")), ["int64", "uint8"]),
    "int64 data set": (streamed(BYTES.astype("int64")), ["int64", "uint8"]),
    "uint32": (fit(BYTES.astype("uint32")), ["uint32", "uint8"]),
    "bool": (fit(BYTES > 99), ["bool", "255"]),
    "bool data set": (streamed(BYTES > 99), ["bool", "255"]),
    "complex": (fit(FLOATS + 0j), ["complex64", "absolute"]),
    "strings": (fit(BYTES.astype(str)), ["string", "decode"]),
    "names of files": (streamed(np.array(["a.png"] * N)), ["string", "decode"]),
    "objects": (fit(BYTES.astype(object)), ["object", "np.stack"]),
    # shapes
    "no channels": (fit(BYTES[..., 0]), ["(8, 8, 1)", "images[..., None]"]),
    "rows of pixels": (fit(BYTES.reshape(N, 64)), ["(8, 8, 1)", "(64,)"]),
    "one image": (fit(BYTES[0]), ["(8, 8, 1)", "images[None]"]),
    "single images": (
        lambda m: m.fit(tf.data.Dataset.from_tensor_slices(BYTES), shuffle=False, verbose=0),
        ["(8, 8, 1)", "dataset.batch(64)"],
    ),
    "batched twice": (streamed(BYTES[None]), ["(8, 8, 1)", "(12, 8, 8, 1)"]),
    "channels first": (fit(np.moveaxis(BYTES, -1, 1)), ["(1, 8, 8)", "np.moveaxis"]),
    "colour": (fit(np.repeat(BYTES, 3, -1)), ["(8, 8, 1)", "(8, 8, 3)"]),
    "another size": (fit(BYTES[:, :4]), ["(8, 8, 1)", "(4, 8, 1)", "resize"]),
    "another size, data set": (streamed(BYTES[:, :4]), ["(8, 8, 1)", "(4, 8, 1)"]),
    "no images": (fit(BYTES[:0]), ["no images", "at least one"]),
    "unknown rank": (
        lambda m: m.fit(from_specs(tf.TensorSpec(None, tf.uint8), BYTES), verbose=0, shuffle=False),
        ["rank", "tf.ensure_shape", "(None, 8, 8, 1)"],
    ),
    "unknown size, wrong": (
        lambda m: m.fit(from_specs(ANY_SIZE, BYTES[:, :4]), verbose=0, shuffle=False),
        ["(8, 8, 1)", "(4, 8, 1)"],
    ),
    # containers
    "nothing": (lambda m: m.fit(), ["NoneType", "(N, height, width, channels)"]),
    "a name": (fit("pictures"), ["'pictures'", "image_dataset_from_directory"]),
    "a path": (fit(Path("pictures")), ["'pictures'", "image_dataset_from_directory"]),
    "a number": (fit(3), ["int", "(N, height, width, channels)"]),
    "a function": (fit(batches), ["function", "(N, height, width, channels)"]),
    "a list of images": (fit(list(BYTES)), ["list of 12", "np.stack"]),
    "a list of inputs": (fit([BYTES, BYTES]), ["list of 2", "np.stack"]),
    "(images, labels)": (fit((BYTES, LABELS)), ["tuple of 2", "x, y"]),
    "a dict": (fit({"image": BYTES}), ["dict", "'image'"]),
    "a data set of dicts": (
        lambda m: m.fit(dataset({"image": BYTES, "label": LABELS}), verbose=0, shuffle=False),
        ["dict", "'image'", "dataset.map"],
    ),
    "a PyDataset of dicts": (
        lambda m: m.fit(Batches(BYTES, form=lambda batch: {"image": batch}), verbose=0),
        ["dict", "'image'"],
    ),
    "a generator of dicts": (
        lambda m: m.fit(({"image": x} for x in batches(BYTES)), verbose=0, shuffle=False),
        ["dict", "'image'"],
    ),
    "two inputs": (
        lambda m: m.fit(dataset((BYTES, BYTES), LABELS), verbose=0, shuffle=False),
        ["tuple of 2 parts"],
    ),
    "four parts": (streamed(BYTES, LABELS, LABELS, LABELS), ["4 parts", "sample_weight"]),
    "ragged": (fit(tf.RaggedTensor.from_tensor(BYTES)), ["RaggedTensor", "dense"]),
    "sparse": (fit(tf.sparse.from_dense(BYTES)), ["SparseTensor", "dense"]),
    "an empty generator": (lambda m: m.fit(iter(()), shuffle=False), ["no batch", "at least one"]),
    "a changing dtype": (
        lambda m: m.fit(iter(CHANGING), shuffle=False, verbose=0),
        ["float32", "uint8", "one dtype"],
    ),
    "a changing dtype of a PyDataset": (
        lambda m: m.fit(Batches(BYTES, form=lambda _: CHANGING.pop()), verbose=0),
        ["float32", "uint8"],
    ),
    "a changing size": (
        lambda m: m.fit(iter(SHRINKING), shuffle=False, verbose=0),
        ["(8, 8, 1)", "(4, 8, 1)"],
    ),
    # weights
    "a weight that is NaN": (fit(BYTES, sample_weight=np.full(N, np.nan)), ["sample_weight"]),
    "a weight below 0": (fit(BYTES, sample_weight=-np.ones(N)), ["sample_weight", "-1"]),
    "an infinite weight": (
        streamed(BYTES, LABELS, np.full(N, np.inf)),
        ["sample_weight", "finite", "inf"],
    ),
    "weights that are words": (fit(BYTES, sample_weight=["a"] * N), ["sample_weight", "string"]),
    "too few weights": (fit(BYTES, sample_weight=np.ones(5)), ["5", "12", "sample_weight"]),
    "weights of pixels": (fit(BYTES, sample_weight=np.ones((N, 8))), ["sample_weight", "(12, 8)"]),
    "class_weight without classes": (
        fit(BYTES, LABELS, class_weight={0: 2.0}),
        ["class_weight", "num_classes"],
    ),
    # other doors
    "validation_data 0..255": (
        fit(BYTES, validation_data=(BYTES.astype("float32"), None)),
        ["image_range=(0, 255)"],
    ),
    "validation_data of another size": (
        fit(BYTES, validation_data=dataset(BYTES[:, :4])),
        ["(8, 8, 1)", "(4, 8, 1)"],
    ),
    "evaluate": (lambda m: m.evaluate(NAN, verbose=0), ["NaN"]),
    "train_on_batch": (lambda m: m.train_on_batch(NAN), ["NaN"]),
    "train_on_batch of a data set": (lambda m: m.train_on_batch(dataset(BYTES)), ["Dataset"]),
    "test_on_batch": (lambda m: m.test_on_batch(BYTES.astype("float32")), ["(0, 255)"]),
    "predict": (lambda m: m.predict(BYTES), ["timesteps", "sample", "evaluate"]),
    "validation_loss": (lambda m: m.validation_loss(NAN), ["NaN"]),
    "validation_loss of a data set": (lambda m: m.validation_loss(dataset(BYTES)), ["Dataset"]),
    "validation_loss of nothing": (lambda m: m.validation_loss(BYTES[:0]), ["at least one"]),
    "validation_loss of int64": (lambda m: m.validation_loss(BYTES.astype(int)), ["int64"]),
    "validation_loss with labels": (
        lambda m: m.validation_loss(BYTES, labels=LABELS),
        ["labels", "num_classes"],
    ),
    "validation_loss, no repeat": (lambda m: m.validation_loss(BYTES, repeats=0), ["repeats", "0"]),
    "ValidationLoss": (
        fit(BYTES, callbacks=[callbacks.ValidationLoss(BYTES.astype("float32"))]),
        ["image_range=(0, 255)"],
    ),
    "QualityMonitor": (
        fit(BYTES, callbacks=[callbacks.QualityMonitor(Means(), BYTES.astype("float32"))]),
        ["image_range=(0, 255)"],
    ),
    "QualityMonitor of a data set": (
        lambda m: callbacks.QualityMonitor(Means(), dataset(BYTES)),
        ["(N, height, width, channels)", "Dataset"],
    ),
    "QualityMonitor of one image": (
        lambda m: callbacks.QualityMonitor(Means(), BYTES[0]),
        ["(N, height, width, channels)", "(8, 8, 1)"],
    ),
    "bits_per_dim of NaN": (lambda m: likelihood.model_bits_per_dim(m, NAN), ["NaN"]),
    "bits_per_dim of another size": (
        lambda m: likelihood.model_bits_per_dim(m, BYTES[:, :4]),
        ["(8, 8, 1)", "(4, 8, 1)"],
    ),
    "bits_per_dim between levels": (
        lambda m: likelihood.model_bits_per_dim(m, FLOATS * 0.999),
        ["8-bit", "uint8"],
    ),
    "bits_per_dim of int64": (
        lambda m: likelihood.bits_per_dim(None, BYTES.astype(int), noise.linear(5)),
        ["int64", "uint8"],
    ),
    "a loss": (lambda m: m.compile("adam", "mse"), ["leave out loss"]),
    "loss_weights": (lambda m: m.compile("adam", loss_weights=[1.0]), ["leave out loss_weights"]),
    "metrics": (lambda m: m.compile("adam", metrics=["mae"]), ["leave out metrics"]),
    "weighted_metrics": (
        lambda m: m.compile("adam", weighted_metrics=["mae"]),
        ["leave out weighted_metrics"],
    ),
    # the model
    "image_range upside down": (lambda m: DDPM(m.network, image_range=(1, -1)), ["(low, high)"]),
    "image_range of nothing": (lambda m: DDPM(m.network, image_range=(0, 0)), ["(low, high)"]),
    "image_range of one number": (lambda m: DDPM(m.network, image_range=255), ["(low, high)"]),
    "image_range without end": (
        lambda m: DDPM(m.network, image_range=(0, np.inf)),
        ["image_range"],
    ),
    "image_range None": (lambda m: DDPM(m.network, image_range=None), ["image_range", "None"]),
    "more channels out than in": (lambda m: DDPM(plain(channels=3)), ["(8, 8, 3)", "(8, 8, 1)"]),
    "fewer channels out": (
        lambda m: DDPM(UNet((8, 8, 2), 4, (1,), 1, (), groups=2, out_channels=1)),
        ["(8, 8, 1)", "(8, 8, 2)"],
    ),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_wrong_images_are_refused(model, name):
    call, words = WRONG_IMAGES[name]
    before = state(model)
    assert_refused(lambda: call(model), words)
    if "changing" not in name:  # its first batches are right
        for one, other in zip(before, state(model), strict=True):
            assert_array_equal(one, other)


def one_hot(labels):
    return np.eye(CLASSES, dtype="float32")[labels]


def with_label(value):
    labels = LABELS.copy()
    labels[9] = value
    return labels


WRONG_LABELS = {
    "none": (fit(BYTES), ["0..2", "labels"]),
    "none in a data set": (streamed(BYTES), ["0..2", "labels"]),
    "1..K": (fit(BYTES, LABELS + 1), ["0..2", "1..3", "subtract 1"]),
    "1..K in a data set": (streamed(BYTES, LABELS + 1), ["0..2", "subtract 1"]),
    "-1": (fit(BYTES, with_label(-1)), ["0..2", "-1", "no class"]),
    "K": (fit(BYTES, with_label(CLASSES)), ["0..2", "3", "num_classes"]),
    "halves": (fit(BYTES, LABELS + 0.5), ["0..2", "float64", "int32"]),
    "whole floats": (fit(BYTES, LABELS.astype("float32")), ["0..2", "float32", "int32"]),
    "whole floats in a data set": (streamed(BYTES, LABELS.astype("float32")), ["float32", "int32"]),
    "one-hot": (fit(BYTES, one_hot(LABELS)), ["one-hot", "argmax"]),
    "one-hot integers": (fit(BYTES, one_hot(LABELS).astype(int)), ["one-hot", "argmax"]),
    "one-hot in a data set": (streamed(BYTES, one_hot(LABELS)), ["one-hot", "argmax"]),
    "bool": (fit(BYTES, LABELS > 0), ["bool", "int32"]),
    "names": (fit(BYTES, np.array(["cat"] * N)), ["string", "class"]),
    "names in a data set": (streamed(BYTES, np.array(["cat"] * N)), ["string", "class"]),
    "a dict": (fit(BYTES, {"label": LABELS}), ["labels", "dict", "'label'"]),
    "too few": (fit(BYTES, LABELS[:5]), ["labels", "5", "12"]),
    "a matrix of columns": (fit(BYTES, LABELS.reshape(N, 1, 1)), ["labels", "(12, 1, 1)"]),
    "too few in a batch": (
        lambda m: m.fit(
            from_specs(
                (tf.TensorSpec((None, 8, 8, 1), tf.uint8), tf.TensorSpec((None,), tf.int32)),
                (BYTES[:4], [0, 1, 2]),
            ),
            shuffle=False,
            verbose=0,
        ),
        ["labels", "3", "4 images"],
    ),
    "class_weight of no class": (
        fit(BYTES, LABELS, class_weight={3: 1.0}),
        ["class_weight", "0..2"],
    ),
    "class_weight below 0": (
        fit(BYTES, LABELS, class_weight={0: -1.0}),
        ["class_weight", "at least 0"],
    ),
    "class_weight NaN": (fit(BYTES, LABELS, class_weight={0: np.nan}), ["class_weight", "finite"]),
    "class_weight as a list": (fit(BYTES, LABELS, class_weight=[1.0]), ["class_weight", "dict"]),
    "class_weight of half a class": (fit(BYTES, LABELS, class_weight={0.5: 1.0}), ["class_weight"]),
    "class_weight and wrong labels": (
        streamed(BYTES, LABELS - 1, class_weight={0: 2.0}),
        ["0..2", "-1"],
    ),
    "class_weight twice": (
        streamed(BYTES, LABELS, np.ones(N), class_weight={0: 2.0}),
        ["sample_weight", "class_weight"],
    ),
    "validation_data": (
        fit(BYTES, LABELS, validation_data=(BYTES, LABELS + 1)),
        ["0..2", "subtract 1"],
    ),
    "train_on_batch": (lambda m: m.train_on_batch(BYTES, LABELS - 1), ["0..2", "-1"]),
    "test_on_batch": (lambda m: m.test_on_batch(BYTES), ["0..2", "labels"]),
    "evaluate": (lambda m: m.evaluate(BYTES, one_hot(LABELS), verbose=0), ["argmax"]),
    "validation_loss": (lambda m: m.validation_loss(BYTES, LABELS + 1), ["subtract 1"]),
    "validation_loss without": (lambda m: m.validation_loss(BYTES), ["0..2", "labels"]),
    "validation_loss, halves": (lambda m: m.validation_loss(BYTES, LABELS + 0.5), ["float64"]),
    "sample, half": (lambda m: m.sample(1, labels=0.5), ["0..2", "float64"]),
    "sample, halves": (lambda m: m.sample(2, labels=[0.5, 1]), ["0..2", "float64"]),
    "sample, K + 1": (lambda m: m.sample(1, labels=4), ["0..3", "3 means none"]),
    "sample, -1": (lambda m: m.sample(1, labels=[-1]), ["0..3", "-1"]),
    "sample, one-hot": (lambda m: m.sample(N, labels=one_hot(LABELS)), ["argmax"]),
    "sample, a name": (lambda m: m.sample(1, labels="cat"), ["string", "class"]),
    "sample, too few": (lambda m: m.sample(3, labels=[1, 2]), ["2", "3 images"]),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_wrong_labels_are_refused(classes, name):
    call, words = WRONG_LABELS[name]
    before = state(classes)
    assert_refused(lambda: call(classes), words)
    for one, other in zip(before, state(classes), strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize("call", [fit(BYTES, one_hot(LABELS)), streamed(BYTES, LABELS - 1)])
def test_after_a_refused_first_fit_the_same_model_is_fitted(call):
    refused, fresh = compiled(plain(conditional=True)), compiled(plain(conditional=True))
    fresh.network.set_weights(refused.network.get_weights())
    assert_refused(lambda: call(refused), ["abels"])
    losses = [m.fit(BYTES, LABELS, verbose=0).history["loss"] for m in (refused, fresh)]
    assert losses[0] == losses[1] and int(refused.train_counter) == 1


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
