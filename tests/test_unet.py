"""The UNet: size as published, shapes, precision, serialisation, and errors that name the cure."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from refusals import assert_refused

from ddpm_keras import DDPM
from ddpm_keras.networks import UNet
from ddpm_keras.networks.layers import (
    AttentionBlock,
    GroupNorm,
    ResidualBlock,
    TimestepEmbedding,
    usual_groups,
)

TINY = {"base_channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1, "groups": 4}


def tiny(shape=(8, 8, 1), **options):
    return UNet(shape, **(TINY | {"attention_resolutions": (4,)} | options))


def randomise(network, seed=0):
    """Gives every weight a value, so that the zero-initialised layers take part."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0, 0.2, w.shape).astype("float32") for w in network.weights])
    return network


def normalisations(network):
    """dict of the number of channels -> numbers of groups, of all normalisations."""
    found = {}
    for layer in network.layers:
        norms = {
            GroupNorm: lambda layer: [layer],
            ResidualBlock: lambda layer: [layer.norm1, layer.norm2],
            AttentionBlock: lambda layer: [layer.norm],
        }.get(type(layer), lambda _: [])(layer)
        for norm in norms:
            channels = norm.gamma.shape[0]
            found.setdefault(channels, set()).add(norm.groups or usual_groups(channels))
    return found


def test_published_configuration_has_the_published_size_and_groups():
    network = UNet((32, 32, 3))
    assert network.count_params() == 35_746_307
    assert normalisations(network) == dict.fromkeys((128, 256, 384, 512), {32})


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (3, 1), (4, 1), (8, 2), (12, 3), (30, 6), (32, 8), (96, 24), (127, 1), (128, 32)]
    + [(132, 22), (148, 4), (384, 32), (8192, 32)],
)
def test_groups_that_are_not_given_have_four_channels_or_more(channels, groups):
    """EDM's min(32, channels // 4), where that divides the channels."""
    assert usual_groups(channels) == groups
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 3, 2, channels)).astype("float32")
    reference = keras.layers.GroupNormalization(groups, epsilon=1e-6)
    assert_allclose(GroupNorm()(x), reference(x), atol=1e-4)


@pytest.mark.parametrize(
    ("groups", "expected"), [(None, {8: {2}, 16: {4}, 24: {6}, 32: {8}}), (4, {4}), (8, {8})]
)
def test_groups_reach_every_normalisation(groups, expected):
    found = normalisations(tiny(groups=groups))
    assert set(found) == {8, 16, 24, 32}
    assert found == (expected if groups is None else dict.fromkeys(found, expected))


def follows_the_mean(groups):
    """Slope of the mean of the predicted noise over that of the noise given, at t = T-1."""
    keras.utils.set_random_seed(0)
    network = UNet((8, 8, 1), 8, (1,), 1, (), dropout=0.0, groups=groups)
    model = DDPM(network, ema=None)
    model.compile(keras.optimizers.Adam(1e-2))
    images = np.random.default_rng(0).integers(0, 256, (1024, 8, 8, 1), "uint8")
    model.fit(images, batch_size=64, epochs=3, verbose=0)
    noise = np.random.default_rng(1).normal(size=(512, 8, 8, 1)).astype("float32")
    epsilon = np.array(network([noise, np.full(512, 999)]))
    given, found = noise.mean((1, 2, 3)), epsilon.mean((1, 2, 3))
    return np.polyfit(given, found, 1)[0]


def test_a_trained_network_follows_the_mean_of_its_noise():
    """A channel that is a group of its own loses its mean: the network is told nothing of it."""
    assert 0.9 < follows_the_mean(groups=None) < 1.1
    assert follows_the_mean(groups=8) < 0.5


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 12, 3), (16, 4, 5)])
@pytest.mark.parametrize("multipliers", [(1, 2), (1, 1), (2, 1, 1)])
def test_any_channels_sides_and_repeated_multipliers(shape, multipliers):
    network = tiny(shape, channel_multipliers=multipliers, attention_resolutions=())
    result = network([np.zeros((2, *shape), "float32"), np.array([0, 999], "int32")])
    assert result.shape == (2, *shape)
    assert result.dtype == "float32"


def test_starts_as_almost_zero():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    assert np.abs(tiny()([x, np.array([3, 7])])).max() < 1e-3


def test_every_input_matters():
    network = randomise(tiny(num_classes=3))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    base = np.array(network([x, np.array([3]), np.array([0])]))
    assert np.abs(base - network([x * 1.1, np.array([3]), np.array([0])])).max() > 1e-4
    assert np.abs(base - network([x, np.array([4]), np.array([0])])).max() > 1e-4
    assert np.abs(base - network([x, np.array([3]), np.array([3])])).max() > 1e-4


def test_images_of_a_batch_do_not_mix():
    network = randomise(tiny())
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    t = np.array([1, 50, 900])
    alone = np.concatenate([network([x[i : i + 1], t[i : i + 1]]) for i in range(3)])
    assert_allclose(network([x, t]), alone, rtol=1e-5, atol=1e-5)


def test_group_norm_equals_keras_group_normalization():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(2, 5, 6, 12)).astype("float32")
    ours, reference = GroupNorm(4), keras.layers.GroupNormalization(4, epsilon=1e-6)
    ours.build(x.shape), reference.build(x.shape)
    weights = [np.linspace(-1, 2, 12, dtype="float32"), np.linspace(3, 4, 12, dtype="float32")]
    ours.set_weights(weights), reference.set_weights(weights)
    assert_allclose(ours(x), reference(x), rtol=1e-5, atol=2e-6)


def test_timestep_embedding_closed_form():
    t, width = np.array([0, 1, 500, 999]), 8
    angles = t[:, None] * np.exp(-np.log(10000.0) * np.arange(4) / 3)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    assert_allclose(TimestepEmbedding(width)(t), expected, atol=1e-4)


def test_dropout_only_in_training():
    network = randomise(tiny(dropout=0.5))
    inputs = [np.ones((1, 8, 8, 1), "float32"), np.array([5])]
    assert_allclose(network(inputs), network(inputs, training=False))
    assert np.abs(np.array(network(inputs, training=True)) - network(inputs)).max() > 1e-3


def test_mixed_precision_keeps_float32_weights_and_result():
    network = tiny(dtype="mixed_bfloat16")
    assert {w.dtype for w in network.weights} == {"float32"}
    assert network.get_layer("conv_in").compute_dtype == "bfloat16"
    reference = tiny()
    weights = randomise(reference).get_weights()
    network.set_weights(weights)
    inputs = [np.random.default_rng(1).normal(size=(2, 8, 8, 1)), np.array([5, 800])]
    result, expected = np.array(network(inputs)), np.array(reference(inputs))
    assert result.dtype == np.float32
    assert np.abs(result - expected).max() < 0.05 * np.abs(expected).max()


def test_saves_and_loads(tmp_path):
    network = randomise(tiny(num_classes=4, dtype="mixed_bfloat16"))
    network.save(tmp_path / "unet.keras")
    loaded = keras.saving.load_model(tmp_path / "unet.keras")
    assert isinstance(loaded, UNet)
    assert loaded.get_config() == network.get_config()
    inputs = [np.ones((1, 8, 8, 1), "float32"), np.array([5]), np.array([4])]
    np.testing.assert_array_equal(loaded(inputs), network(inputs))


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((30, 32, 3), {"channel_multipliers": (1, 2, 2, 2)}, ("30", "8", "24 or 32")),
        ((3, 4, 3), {"channel_multipliers": (1, 2, 2)}, ("3 is", "4", "use 4")),
        ((32, 32, 3), {"attention_resolutions": (14,)}, ("14", "nearest is 16")),
        ((32, 32), {}, ("(32, 32)", "height, width, channels")),
        ((8, 8, 1), {"base_channels": 30, "groups": 32}, ("30 channels", "32 groups", "2")),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shape, options, words):
    assert_refused(lambda: UNet(shape, **({"attention_resolutions": ()} | options)), words)
