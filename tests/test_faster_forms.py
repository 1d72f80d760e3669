"""Convolutions, attention and rounding in the form that is faster: equal to the plain one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from ddpm_keras.networks import attention as attentions
from ddpm_keras.networks import compiled
from ddpm_keras.networks.bfloat16 import narrowed
from ddpm_keras.networks.convolutions import Conv2D, Pointwise

WAYS = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "XLA": lambda f: tf.function(f, autograph=False, jit_compile=True),
}


def numbers(seed, shape, dtype="float32"):
    return tf.cast(np.random.default_rng(seed).normal(size=shape), dtype)


def with_gradients(function, inputs, watched, up):
    with tf.GradientTape() as tape:
        tape.watch(watched)
        y = function(*inputs)
    return [y, *tape.gradient(y, watched, tf.cast(up, y.dtype))]


def assert_close(found, expected, tolerance):
    for one, right in zip(found, expected, strict=True):
        one, right = (tf.cast(each, tf.float32).numpy() for each in (one, right))
        assert_allclose(one, right, rtol=tolerance, atol=tolerance * np.abs(right).max())


# Convolutions.


def doubled(kernel_size):
    return keras.Sequential(
        [keras.layers.UpSampling2D(2), keras.layers.Conv2D(5, kernel_size, padding="same")]
    )


CONVOLUTIONS = {
    "pointwise": (Pointwise, 1, keras.layers.Conv2D),
    "doubling": (Conv2D, 3, lambda units, size, padding: doubled(size)),
}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_equals_that_of_keras_with_its_gradients(name, way, policy):
    kind, size, plain = CONVOLUTIONS[name]
    x = numbers(0, (2, 4, 6, 3), keras.DTypePolicy(policy).compute_dtype)
    layer, reference = kind(5, size, padding="same", dtype=policy), plain(5, size, padding="same")
    layer.build(x.shape), reference.build(x.shape)
    layer.set_weights([numbers(1, (size, size, 3, 5)), numbers(2, (5,))])
    reference.set_weights(layer.get_weights())
    exact = reference(tf.cast(x, tf.float32))
    assert layer(x).shape == exact.shape == layer.compute_output_shape(x.shape)

    def gradients(layer, x):
        watched = [x, *(weight.value for weight in layer.trainable_weights)]
        return with_gradients(layer, [x], watched, numbers(3, exact.shape))

    found = way(lambda x: gradients(layer, x))(x)
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 2e-2}[policy]
    assert_close(found, gradients(reference, tf.cast(x, tf.float32)), tolerance)


def test_a_doubling_convolution_is_found_in_files_by_the_name_of_that_of_keras():
    assert Conv2D.__name__ == keras.layers.Conv2D.__name__
    layer = Conv2D(5, 3, padding="same", name="up")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is Conv2D


# Attention.


def plain_attention(queries, keys, values):
    weights = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True))
    return tf.matmul(weights, values)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("places", [8, 64])  # plain within, and compiled
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_attention_equals_the_plain_form_with_its_gradients(way, places, dtype, tolerance):
    inputs = [numbers(seed, (3, places, 16)) * 0.5 for seed in range(3)]
    inputs = [tf.cast(tf.cast(each, dtype), tf.float32) for each in inputs]
    up = numbers(4, inputs[0].shape)
    expected = with_gradients(plain_attention, inputs, inputs, up)
    given = [tf.cast(each, dtype) for each in inputs]
    found = way(lambda *given: with_gradients(attentions.attention, given, list(given), up))(*given)
    assert {each.dtype for each in found} == {tf.as_dtype(dtype)}
    assert_close(found, expected, tolerance)


def test_second_derivatives_of_attention_equal_those_of_the_plain_form():
    inputs = [numbers(seed, (2, 64, 16)) * 0.5 for seed in range(3)]

    @tf.function(autograph=False)
    def slopes(function):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            found = with_gradients(function, inputs, inputs, numbers(4, inputs[0].shape))
            penalty = tf.add_n([tf.reduce_sum(tf.square(each)) for each in found[1:]])
        return outer.gradient(penalty, inputs)

    found = slopes(lambda *given: attentions.attention(*given))
    assert_close(found, slopes(plain_attention), 1e-4)


def test_a_softmax_of_half_precision_that_is_not_exact_is_computed_in_float32(monkeypatch):
    scores = numbers(0, (2, 256), "bfloat16") * 3
    exact = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), tf.bfloat16)
    for answer in (attentions._softmax_is_exact(tf.bfloat16), False):
        monkeypatch.setattr(attentions, "_softmax_is_exact", lambda _, answer=answer: answer)
        assert_array_equal(tf.function(attentions._softmax, autograph=False)(scores), exact)


# Rounding.


@compiled.compiled
def rounded(_, y):
    assert compiled.is_compiled()
    return narrowed(y, tf.bfloat16)


def test_rounding_by_whole_numbers_equals_that_of_tensorflow():
    words = np.random.default_rng(0).integers(0, 2**32, 2**20, np.uint32)
    words[: 2**16] = np.arange(2**16, dtype=np.uint32) << 16 | 0x8000  # half-way, all of them
    words[2**16 : 2**16 + 6] = 0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F7FFFFF, 1
    y = tf.constant(words.view(np.float32).reshape(64, -1))
    found, expected = (
        tf.cast(each, tf.float32).numpy() for each in (rounded(None, y), tf.cast(y, tf.bfloat16))
    )
    y = y.numpy()
    assert_array_equal(np.isnan(found), np.isnan(y))
    finite = ~np.isnan(y) & (np.abs(y) >= np.finfo(np.float32).tiny)  # the least XLA takes for 0
    assert_array_equal(found[finite], expected[finite])


def test_a_gradient_goes_through_the_rounding():
    y = numbers(0, (2, 2048))
    found = with_gradients(lambda y: rounded(None, y), [y], [y], numbers(1, y.shape, "bfloat16"))
    assert_array_equal(found[1], tf.cast(numbers(1, y.shape, "bfloat16"), tf.float32))
