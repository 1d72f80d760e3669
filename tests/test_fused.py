"""Fused normalisation: equal to the plain form, values and derivatives, wherever it is compiled."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from ddpm_keras.networks import UNet, compiled, fused, masks
from ddpm_keras.networks.layers import GroupNorm, ResidualBlock

SHAPE, GROUPS = (3, 8, 8, 16), 4
KEY = tf.constant([5, 9], tf.uint32)


def numbers(seed, shape, scale=1.0, offset=0.0):
    return tf.constant(offset + scale * np.random.default_rng(seed).normal(size=shape), tf.float32)


X, ADDED = numbers(0, SHAPE, 2.0, 3.0), numbers(1, (SHAPE[0], SHAPE[3]))
GAMMA, BETA, UP = numbers(2, SHAPE[3:]), numbers(3, SHAPE[3:]), numbers(4, SHAPE)


def plain(norm, x, added, gamma, beta):
    """What Keras makes of it, operation by operation."""
    x = tf.cast(x, tf.float32) + tf.cast(added, tf.float32)[:, None, None, :]
    grouped = tf.reshape(x, (-1, *x.shape[1:3], norm.groups, x.shape[3] // norm.groups))
    mean, variance = tf.nn.moments(grouped, (1, 2, 4), keepdims=True)
    normalised = (grouped - mean) / tf.sqrt(variance + norm.epsilon)
    z = tf.reshape(normalised, tf.shape(x)) * gamma + beta
    y = keras.ops.silu(z) if norm.activation is fused.silu else z
    return y * masks.scaled_mask(tf.shape(x), KEY, norm.rate) if norm.rate else y


def with_gradients(function, inputs, up):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return [y, *tape.gradient(y, inputs, tf.cast(up, y.dtype))]


def of(norm):
    return lambda x, added, gamma, beta: norm(x, gamma, beta, added, KEY)


def in_graph(function):
    return tf.function(function, autograph=False)


def all_in_xla(function):
    return tf.function(function, autograph=False, jit_compile=True)


def in_plain_form(function):
    def call(*inputs):
        with compiled.plainly():
            return function(*inputs)

    return call


WAYS = {"eager": lambda f: f, "graph": in_graph, "XLA": all_in_xla, "plain": in_plain_form}


@pytest.mark.parametrize(
    ("way", "activation", "rate"),
    [(way, "silu", 0.3) for way in WAYS.values()]
    + [(in_graph, "linear", 0.0), (in_graph, "silu", 0.0)],
    ids=[*WAYS, "linear", "without dropout"],
)
def test_equals_the_plain_form_with_its_gradients(way, activation, rate):
    norm = fused.Norm(GROUPS, 1e-6, getattr(fused, activation), rate)
    inputs = [X, ADDED, GAMMA, BETA]
    expected = with_gradients(lambda *inputs: plain(norm, *inputs), inputs, UP)
    for found, right in zip(with_gradients(way(of(norm)), inputs, UP), expected, strict=True):
        assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


def test_bfloat16_is_right_within_its_rounding():
    norm = fused.Norm(GROUPS, 1e-6, fused.silu)
    half = [tf.cast(X, tf.bfloat16), tf.cast(ADDED, tf.bfloat16), GAMMA, BETA]
    expected = with_gradients(
        lambda *inputs: plain(norm, *inputs), [*(tf.cast(v, tf.float32) for v in half)], UP
    )
    found = with_gradients(of(norm), half, UP)
    assert [each.dtype for each in found] == [v.dtype for v in (half[0], *half)]
    for value, right in zip(found, expected, strict=True):
        error = np.abs(tf.cast(value, tf.float32) - right).max()
        assert error < 2**-7 * np.abs(right).max()


def test_a_mean_far_from_zero_costs_no_digits():
    far = fused.Norm(GROUPS, 1e-6)(X + 1000.0, GAMMA, BETA)
    assert_allclose(far, fused.Norm(GROUPS, 1e-6)(X, GAMMA, BETA), atol=2e-3)


def test_second_derivatives_equal_those_of_the_plain_form():
    norm = fused.Norm(GROUPS, 1e-6, fused.silu)

    @in_graph
    def slope_of_slope(function):
        with tf.GradientTape() as outer:
            outer.watch(X)
            with tf.GradientTape() as inner:
                inner.watch(X)
                y = tf.reduce_sum(function(X, ADDED, GAMMA, BETA) * UP)
            penalty = tf.reduce_sum(inner.gradient(y, X) ** 2)
        return outer.gradient(penalty, X)

    expected = slope_of_slope(lambda *inputs: plain(norm, *inputs))
    found = slope_of_slope(of(norm))
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_forward_mode_equals_a_difference():
    norm, direction = fused.Norm(GROUPS, 1e-6, fused.silu), numbers(5, SHAPE)
    with tf.autodiff.ForwardAccumulator(X, direction) as forward:
        y = in_plain_form(of(norm))(X, ADDED, GAMMA, BETA)
    ahead, behind = (of(norm)(X + d * direction, ADDED, GAMMA, BETA) for d in (1e-2, -1e-2))
    assert_allclose(forward.jvp(y), (ahead - behind) / 2e-2, atol=1e-3)


def test_any_map_any_batch_and_gradients_of_an_empty_one():
    norm = in_graph(of(fused.Norm(2, 1e-6, fused.silu)))
    for batch, height, width in [(1, 5, 7), (4, 5, 7), (0, 8, 8), (2, 1, 1)]:
        x = numbers(0, (batch, height, width, 32))
        inputs = [x, numbers(1, (batch, 32)), numbers(2, (32,)), numbers(3, (32,))]
        expected = plain(fused.Norm(2, 1e-6, fused.silu), *inputs)
        assert_allclose(with_gradients(norm, inputs, x)[0], expected, atol=1e-5)


# Dropout


def kept(key, rate=0.25, shape=(64, 32, 32, 8)):
    mask = masks.scaled_mask(tf.constant(shape), tf.constant(key, tf.uint32), rate).numpy()
    assert set(np.unique(mask)) == {0.0, np.float32(1 / (1 - rate))}
    return mask > 0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_kept_is_right(rate):
    found = kept((1, 64), rate)
    assert abs(found.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / found.size) ** 0.5


def test_masks_of_neighbours_in_any_direction_are_independent():
    """Places, channels, images, layers (first word) and steps (second word)."""
    mask = kept((1, 64)) - 0.75
    pairs = [(mask, kept(key) - 0.75) for key in [(2, 64), (0, 64), (1, 65), (1, 128), (64, 1)]]
    for axis, lag in itertools.product(range(4), (1, 2, 4)):
        size = mask.shape[axis]
        ahead = np.take(mask, range(lag, size), axis)
        pairs.append((ahead, np.take(mask, range(size - lag), axis)))
    for one, other in pairs:
        correlation = np.mean(one * other) / (0.25 * 0.75)
        assert abs(correlation) < 4.5 / one.size**0.5


def test_words_are_uniform_and_each_bit_of_the_place_moves_half_of_the_bits():
    places = tf.range(2**16, dtype=tf.int32)
    words = masks.mixed(tf.cast(places, tf.uint32)).numpy()
    assert len(np.unique(words)) == 2**16
    counts = np.bincount(words >> 24, minlength=256)
    assert ((counts - 256) ** 2 / 256).sum() < 360  # chi-squared of 255 degrees: 4.6 deviations
    for bit in range(16):
        flipped = words ^ words[np.arange(2**16) ^ (1 << bit)]
        share = np.unpackbits(flipped.view(np.uint8)).mean()
        assert abs(share - 0.5) < 0.01


def test_all_bits_of_a_state_are_in_its_key():
    states = [[7, 64], [7 + 2**32, 64], [-1, 64], [7, 64 + 2**40]]
    keys = {tuple(masks.key_of(tf.constant(state, tf.int64)).numpy()) for state in states}
    assert len(keys) == 4


def test_the_mask_is_a_function_of_the_state_of_the_generator():
    block = ResidualBlock(16, dropout=0.5)
    embedding = numbers(6, (3, 8))
    block(X, embedding)
    block.conv2.kernel.assign(numbers(7, block.conv2.kernel.shape))

    def result():
        return block(X, embedding, training=True).numpy()

    state = block.dropout.seed_generator.state
    before = state.numpy()
    first, second = result(), result()
    assert np.abs(first - second).max() > 1e-3
    state.assign(before)
    assert_array_equal(result(), first)


# Where it runs


def test_small_maps_and_machines_without_xla_take_the_plain_form(monkeypatch):
    compiling = compiled._compiled
    calls = []
    monkeypatch.setattr(compiled, "_compiled", lambda *a: calls.append(a) or compiling(*a))
    norm = fused.Norm(2, 1e-6)
    norm(X[..., :8], GAMMA[:8], BETA[:8])
    assert not calls
    right = norm(X, GAMMA, BETA)
    assert calls
    calls.clear()
    compiled.xla_works.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(tf, "function", lambda *_, **__: fail_to_compile)
        found = norm(X, GAMMA, BETA)
    compiled.xla_works.cache_clear()
    assert not calls
    assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def fail_to_compile(*_):
    raise tf.errors.UnimplementedError(None, None, "no XLA here")


def test_mixed_precision_leaves_gamma_and_beta_as_they_are():
    layer = GroupNorm(4, dtype="mixed_bfloat16")
    layer.build(SHAPE)
    layer.gamma.assign(np.full(16, 1.001, "float32"))  # which bfloat16 does not hold
    found = layer(tf.cast(X, tf.bfloat16))
    assert found.dtype == tf.bfloat16
    expected = GroupNorm(4)
    expected.build(SHAPE)
    expected.set_weights(layer.get_weights())
    right = expected(tf.cast(tf.cast(X, tf.bfloat16), tf.float32))
    assert_array_equal(found, tf.cast(right, tf.bfloat16))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    network = UNet((8, 8, 1), 16, (1,), 1, (8,), dropout=0.1)
    for weight in network.weights:
        weight.assign(np.random.default_rng(0).normal(0, 0.2, weight.shape))
    return network


NOISY = [
    np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32"),
    np.array([3, 900], "int32"),
]


def test_is_saved_and_loaded(network, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert_array_equal(loaded(NOISY), network(NOISY))


def test_is_exported_with_nothing_compiled_in_it(network, tmp_path):
    network.export(tmp_path / "network", verbose=False)
    assert b"_XlaMustCompile" not in (tmp_path / "network" / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load(str(tmp_path / "network"))
    assert_allclose(loaded.serve(NOISY), network(NOISY), atol=1e-4)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_is_computed_again_gives_the_same_gradients(policy):
    """With the masks of the dropout, and although Keras casts no weights in a backward pass."""

    def gradients(recompute):
        keras.utils.set_random_seed(0)
        options = {"dropout": 0.3, "recompute": recompute, "dtype": policy}
        unet = UNet((8, 8, 1), 8, (1,), 1, (8,), **options)
        random = np.random.default_rng(0)
        for weight in unet.weights:
            weight.assign(random.normal(0, 0.2, weight.shape))
        for index, state in enumerate(v for v in unet.variables if "seed_generator" in v.path):
            state.assign([index, 7])

        @in_graph
        def of_sum():
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(unet(NOISY, training=True) ** 2)
            return tape.gradient(total, [v.value for v in unet.trainable_variables])

        return of_sum()

    wanted = gradients(False)
    largest = max(np.abs(each).max() for each in wanted)  # those of the keys' biases are all 0
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 2e-2}[policy] * largest
    for found, right in zip(gradients(True), wanted, strict=True):
        assert_allclose(found, right, rtol=1e-5, atol=tolerance)


def test_a_chain_is_traced_once_for_all_shapes_and_keeps_them():
    traces = []

    @compiled.compiled
    def twice(_, x):
        traces.append(x)
        return x + x

    for shape in (None, 8, 8, 16), (5, 4, 4, 64):
        graph = in_graph(lambda x: twice(None, x)).get_concrete_function(tf.TensorSpec(shape))
        assert graph.output_shapes.as_list() == list(shape)
    assert len(traces) == 1
