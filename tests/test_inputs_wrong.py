"""Images and labels that are refused, in one line and with nothing changed."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from inputs_of_fit import (
    ANY_SIZE,
    BYTES,
    CLASSES,
    FLOATS,
    LABELS,
    NAN,
    Batches,
    N,
    batches,
    compiled,
    dataset,
    fit,
    from_specs,
    one_hot,
    plain,
    spoilt,
    state,
    streamed,
)
from numpy.testing import assert_array_equal
from refusals import assert_refused

from ddpm_keras import DDPM, UNet, callbacks, likelihood, noise, quality

# Keras says it of every data set without a length, when its end is reached.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")


@pytest.fixture(scope="module")
def model():
    return compiled(plain())


@pytest.fixture(scope="module")
def classes():
    return compiled(plain(conditional=True))


class Means(quality.FeatureExtractor):
    """Mean of each row of an image."""

    name, dim, channels, fingerprint = "row means", 8, 1, "row means"

    def _features(self, batch):
        return batch.mean(axis=(2, 3), dtype=np.float32)


CHANGING = [BYTES[:4], BYTES[:4], BYTES[:4].astype("float32") / 255]
BATCHED = tf.TensorSpec((None, 8, 8, 1), tf.uint8)
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
    "a batch of none in a data set": (
        lambda m: m.fit(from_specs(BATCHED, BYTES[:0], BYTES), shuffle=False, verbose=0),
        ["holds no images", "dataset.filter"],
    ),
    "an evaluation of a batch of none": (
        lambda m: m.evaluate(from_specs(BATCHED, BYTES[:4], BYTES[:0]), verbose=0),
        ["holds no images", "dataset.filter"],
    ),
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
    "predict of a list": (lambda m: m.predict([BYTES]), ["timesteps", "sample", "evaluate"]),
    "predict of a data set": (lambda m: m.predict(dataset(FLOATS)), ["timesteps", "sample"]),
    "predict of images and labels": (
        lambda m: m.predict(dataset(FLOATS, LABELS)),
        ["timesteps", "sample"],
    ),
    "fit before compile": (lambda m: DDPM(m.network).fit(BYTES), ["DDPM", "call compile first"]),
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
