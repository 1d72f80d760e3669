"""What averages are stored in: weights joined in groups, and the small functions on variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_trainings import small_network

from ddpm_keras.ema import WeightSet, groups, optimizer_average
from ddpm_keras.ema.weight_sets import check_finite, fresh_network, with_values


def variables(*shapes):
    """Keras variables of these shapes, each filled with its own place from 1 on."""
    return [keras.Variable(np.full(shape, i + 1.0)) for i, shape in enumerate(shapes)]


def test_a_value_is_cast_only_where_the_variable_is_of_another_precision():
    value = keras.Variable([1.0, 2.0])
    same = groups.like(keras.Variable([0.0, 0.0]), value)
    assert same is value.value
    other = groups.like(keras.Variable([0.0, 0.0], dtype="bfloat16"), value)
    assert other.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(other, tf.float32), [1, 2])


def test_messages_call_a_keras_variable_by_its_path_and_a_tensorflow_variable_by_its_name():
    layer = keras.layers.Dense(1, name="last")
    layer.build((None, 2))
    assert groups.label(layer.kernel) == "last/kernel"
    assert groups.label(tf.Variable(1.0, name="free")) == "free:0"


@pytest.mark.parametrize(
    "path, other, same",
    [
        ("last/kernel", "last/kernel", True),
        ("model/last/kernel", "last/kernel", True),
        ("last/kernel", "model/last/kernel", True),
        ("first/kernel", "last/kernel", False),
        ("my_last/kernel", "last/kernel", False),  # a name that ends alike is another layer
    ],
)
def test_paths_of_one_variable_may_or_may_not_hold_the_model(path, other, same):
    assert groups.is_same_path(path, other) is same


def test_a_fingerprint_is_the_same_however_it_is_computed(monkeypatch):
    several = variables((2, 3), (4,), (5,))
    found = set()
    for size in (1, 6, 7, 1000):
        monkeypatch.setattr(groups, "GROUP_SIZE", size)
        found.add(groups.fingerprint(several))
    assert len(found) == 1


def test_a_fingerprint_sees_every_bit_and_its_place():
    a, b = variables((2,), (3,))
    a.assign([1.0, 2.0])
    first = groups.fingerprint([a, b])
    assert first == groups.fingerprint([a, b]) != groups.fingerprint([b, a])
    ulp = np.nextafter(np.float32(1), np.float32(2))
    for others in ([ulp, 2.0], [2.0, 1.0], [-1.0, 2.0], [-2.0, -1.0], [2.0, ulp]):
        a.assign(others)
        assert groups.fingerprint([a, b]) != first
    a.assign([1.0, 2.0])
    assert groups.fingerprint([a, b]) == first
    bits = np.float32([1.0, 2.0]).view(np.int32).astype(object)
    assert groups.fingerprint([a]) == bits[0] + 3 * bits[1]
    assert groups.fingerprint([]) == 0


def test_groups_are_filled_up_to_their_size(monkeypatch):
    monkeypatch.setattr(groups, "GROUP_SIZE", 6)
    sources = variables((2, 2), (2,), (7,), (1,))
    made = groups.in_groups([0, 1, 2, 3], sources)
    assert [group.positions for group in made] == [(0, 1), (2,), (3,)]
    np.testing.assert_array_equal(made[0].weights_now(), [1, 1, 1, 1, 2, 2])
    assert groups.in_groups([2, 0], sources)[1].weights == [sources[0]]
    split = made[0].split(tf.range(6.0))
    np.testing.assert_array_equal(split[0], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(split[1], [4, 5])


def test_a_window_starts_with_the_same_weights_in_the_rows_in_use():
    np.testing.assert_array_equal(
        groups.rows(tf.constant([3.0, 4.0]), 1, 3), [[3, 4], [0, 0], [0, 0]]
    )


@pytest.mark.parametrize(
    "weights, can",
    [
        ([1e38, -1e37], True),
        ([1e38, 1e38], False),  # their distance from an average could be infinite
        ([np.inf], False),
        ([np.nan], False),
    ],
)
def test_only_finite_weights_with_finite_differences_are_averaged(weights, can):
    assert bool(groups.can_be_averaged(tf.constant(weights))) is can


def test_the_average_of_an_optimizer_inside_a_loss_scale_optimizer_is_found():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="bfloat16")])
    inner = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    outer = keras.optimizers.LossScaleOptimizer(inner)
    outer.build(network.trainable_weights)
    average = optimizer_average(outer, network.weights)
    assert average.name == "optimizer"
    assert [v.dtype for v in average.values] == [v.dtype for v in network.weights]


def test_a_weight_set_that_is_not_finite_is_refused_by_its_name_and_weight():
    weights = small_network().weights
    values = [np.array(w) for w in weights]
    check_finite("good", weights, values)
    values[1][0] = np.inf
    with pytest.raises(ValueError, match=rf"'bad' .*\({weights[1].path}\)"):
        check_finite("bad", weights, values)
    values[0][0], values[2][0] = np.nan, np.nan
    with pytest.raises(ValueError, match=rf"\({weights[0].path} and 2 others\)"):
        check_finite("bad", weights, values)


def test_a_step_with_other_values_assigns_nothing_but_metrics():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    model.compile("sgd", "mse", metrics=["mae"])
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))  # the metrics are made
    kernel, bias = model.weights
    before = kernel.numpy()
    count = model.metrics[0].variables[1]

    def step():
        bias.assign([7.0])
        count.assign(5.0)
        return float(keras.ops.squeeze(kernel))

    result = with_values(model, [(kernel, np.array([[3.0]], "float32"))], step)
    assert result == 3.0
    np.testing.assert_array_equal(kernel, before)
    assert float(bias[0]) != 7.0 and float(count) == 5.0


def test_a_fresh_network_is_saved_only_as_a_keras_file(tmp_path):
    network = small_network()
    weights = WeightSet("other", [np.array(w) + 1 for w in network.weights])
    bad = WeightSet("bad", [np.full(w.shape, np.nan) for w in network.weights])
    with pytest.raises(ValueError, match="The weight set 'bad' holds numbers that are not finite"):
        fresh_network(network, bad)
    with pytest.raises(ValueError, match=r"\.keras file; got 'net\.h5'"):
        fresh_network(network, weights, "net.h5")
    fresh = fresh_network(network, weights, tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    for model in (fresh, loaded):
        for variable, value in zip(model.weights, weights.values, strict=True):
            np.testing.assert_array_equal(variable, value)
