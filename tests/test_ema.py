"""The averages of any list of variables, and of a Keras optimizer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_trainings import compiled, numbers, small_network, task

from ddpm_keras.ema import (
    EMA,
    LAWA,
    ConstantDecay,
    EMAModel,
    PowerFunctionDecay,
    StepDecay,
    WarmupDecay,
    optimizer_average,
)


def test_update_needs_known_variables():
    known, unknown = keras.Variable([1.0]), keras.Variable([2.0])
    ema = EMA(0.9)
    with pytest.raises(ValueError, match="build"):
        ema.update([known])
    ema.build([known])
    with pytest.raises(ValueError, match=f"No average was built for {unknown.path}: call"):
        ema.update([unknown])
    with pytest.raises(ValueError, match="No average was built for .*, .*, .* and others"):
        ema.update([keras.Variable([2.0]) for _ in range(4)])
    with pytest.raises(ValueError, match="No average is called"):
        ema.variables("0.99")


def test_only_trainable_floats_are_averaged():
    weight = keras.Variable([1.0, 2.0])
    statistic = keras.Variable([3.0], trainable=False)
    counter = keras.Variable(4, dtype="int32", trainable=False)
    copied, averaged = EMA(0.5), EMA(0.5, average_statistics=True)
    for ema in (copied, averaged):
        ema.build([weight, statistic, counter])
    weight.assign([3.0, 4.0])
    statistic.assign([5.0])
    counter.assign(9)
    for ema in (copied, averaged):
        ema.update([weight])
    for actual, expected in zip(copied.variables("0.5"), ([2.0, 3.0], [5.0], 9), strict=True):
        np.testing.assert_array_equal(actual, expected)
    for actual, expected in zip(averaged.variables("0.5"), ([2.0, 3.0], [4.0], 9), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_step_that_was_not_made_changes_nothing():
    variable = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([variable])
    update = tf.function(lambda stepped: ema.update([variable], stepped))
    variable.assign([float("nan")])
    update(tf.constant(False))
    ema.update([variable], stepped=False)
    assert ema.num_updates == 0
    variable.assign([3.0])
    update(tf.constant(True))
    variable.assign([float("nan")])
    update(tf.constant(False))
    assert ema.num_updates == 1
    np.testing.assert_array_equal(ema.variables("0.5")[0], [2.0])


@pytest.mark.parametrize(
    "decay", [ConstantDecay(0.999), WarmupDecay(0.999), PowerFunctionDecay(0.05), StepDecay()]
)
def test_update_every_compensates_exactly_for_weights_that_stand_still(decay):
    """beta^k (the product of the k betas) at every k-th step: exact for constant weights."""
    start, value = 1.0, 3.0
    variable = keras.Variable([start])
    each, third = EMA({"a": decay}), EMA({"a": decay}, update_every=3)
    for ema in (each, third):
        ema.build([variable])
    variable.assign([value])
    for step in range(1, 10):
        each.update([variable])
        third.update([variable])
        if step % 3 == 0:
            np.testing.assert_allclose(each.variables("a")[0], third.variables("a")[0], rtol=1e-6)
    assert third.num_updates == 9
    before = numbers(third.variables("a"))
    third.update([variable])
    np.testing.assert_array_equal(before, numbers(third.variables("a")))


def test_large_networks_are_cut_into_groups(monkeypatch):
    variables = [keras.Variable(np.full((3,), i, np.float32)) for i in range(7)]
    one, many = EMA(0.5), EMA(0.5)
    one.build(variables)
    monkeypatch.setattr("ddpm_keras.ema.groups.GROUP_SIZE", 6)
    many.build(variables)
    assert len(one._groups) == 1 and len(many._groups) == 4
    for variable in variables:
        variable.assign(variable * 2)
    one.update(variables)
    many.update(variables)
    np.testing.assert_array_equal(numbers(one.variables("0.5")), numbers(many.variables("0.5")))


def test_assign_to_writes_elsewhere_only():
    variables = [keras.Variable([1.0]), keras.Variable([[2.0]])]
    ema = EMA(0.5)
    ema.build(variables)
    variables[0].assign([3.0])
    ema.update(variables)
    others = [keras.Variable([0.0], dtype="bfloat16"), keras.Variable([[0.0]])]
    ema.assign_to("0.5", others)
    np.testing.assert_array_equal(np.asarray(others[0], np.float32), [2.0])
    np.testing.assert_array_equal(others[1], [[2.0]])
    with pytest.raises(ValueError, match="never overwrites"):
        ema.assign_to("0.5", variables)
    with pytest.raises(ValueError, match="do not fit"):
        ema.assign_to("0.5", others[:1])


def test_describe_states_windows_and_what_is_left_of_the_start():
    ema = EMA({"0.999": 0.999, "w": WarmupDecay(0.9)})
    first, second = ema.describe(2000, steps_per_epoch=500)
    assert "1,000 steps (2.0 epochs)" in first and "13.52%" in first
    assert "10 steps" in second and "0.00%" in second
    for line, alone in zip((first, second), ema.describe(2000), strict=True):
        assert line.replace(" (2.0 epochs)", "").replace(" (0.0 epochs)", "") == alone
    assert len(ema.warnings(2000)) == 1 and "14%" in ema.warnings(2000)[0]
    assert ema.warnings(10_000) == []


def test_a_name_of_an_average_may_be_its_number():
    variable = keras.Variable([1.0])
    ema = EMA((0.9, 0.99), snapshot_widths=(0.05,))
    ema.build([variable])
    for _ in range(3):
        ema.update([variable])
    for name, share, window in ((0.9, 0.9**3, 10), ("0.99", 0.99**3, 100), ("snapshot_0.05", 0, 1)):
        assert ema.age(name) == 3
        assert ema.initial_share(name) == pytest.approx(share)
        assert ema.effective_window(name) == pytest.approx(window, rel=0.1)
    assert ema.beta(0.99) == pytest.approx(0.99)
    assert ema.describe(np.int64(2000)) == ema.describe(2000.0) == ema.describe(2000)


def test_other_weights_are_told_by_what_is_new_and_what_is_gone():
    first, second, third = (keras.Variable([1.0], name=name) for name in ("one", "two", "three"))
    ema = EMA(0.5)
    ema.build([first, second])
    ema.update([first, second])
    for given, words in (
        ([first], r"\(gone: two\)"),
        ([first, second, third], r"\(new: three\)"),
        ([third, first], r"\(new: three, gone: two\)"),
        ([second, first], r"\(another order\)"),
    ):
        with pytest.raises(ValueError, match=words):
            ema.build(given)


def moved():
    """A weight that went from 1 to 3, and its average, which has moved once."""
    variable = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([variable])
    variable.assign([3.0])
    ema.update([variable])
    return variable, ema


def test_reset_starts_anew_from_the_present_weights():
    variable, ema = moved()
    ema.reset()
    assert ema.num_updates == 0
    np.testing.assert_array_equal(ema.variables("0.5")[0], [3.0])


def test_until_the_first_update_an_average_is_a_copy_of_the_weights():
    network = small_network()
    model = EMAModel(network, ema=0.999)
    network.set_weights([w + 1 for w in network.get_weights()])
    for value, weight in zip(model.weight_values("ema"), network.weights, strict=True):
        np.testing.assert_array_equal(value, weight)


# A Keras optimizer's own average.


def test_optimizer_average_is_matched_by_variable():
    network = small_network()
    network.layers[0].trainable = False
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    with pytest.raises(ValueError, match="no average yet"):
        optimizer_average(optimizer, network.weights)
    optimizer.build(network.trainable_weights)
    kernel, bias = network.trainable_weights
    seen = []
    for _ in range(3):
        optimizer.apply([tf.ones_like(kernel), tf.ones_like(bias)])
        seen.append(kernel.numpy())
    network.layers[0].trainable = True
    average = optimizer_average(optimizer, network.weights)
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]  # it starts at the first step
    np.testing.assert_allclose(average.values[2], expected, atol=1e-6)
    np.testing.assert_array_equal(average.values[0], network.weights[0])
    np.testing.assert_array_equal(kernel, seen[2])
    with pytest.raises(ValueError, match="averages none of these"):
        optimizer_average(optimizer, small_network().weights)
    with pytest.raises(ValueError, match="without use_ema"):
        optimizer_average(keras.optimizers.SGD(), network.weights)


def test_optimizer_average_warns_of_micro_batches():
    network = small_network()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(network.trainable_weights)
    with pytest.warns(UserWarning, match="once per micro-batch"):
        optimizer_average(optimizer, network.weights)


def test_an_optimizer_that_would_overwrite_the_weights_is_refused():
    model = compiled(EMAModel(small_network(), ema=0.9), keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ValueError, match="use_ema=True overwrites"):
        model.fit(*task(), verbose=0)


# What averages say of themselves, in a run that goes on.


def test_windows_are_those_after_the_last_update():
    variable = keras.Variable([1.0])
    ema = EMA({"step": StepDecay(), "warm": WarmupDecay(0.999)})
    assert (ema.age("step"), ema.effective_window("step"), ema.initial_share("step")) == (0, 1, 1)
    ema.build([variable])
    for n in range(1, 4):
        ema.update([variable])
        assert ema.effective_window("step") == n == ema.age("step")
        assert ema.effective_window("warm") == pytest.approx((9 + n) / 9)
        assert ema.beta("warm") == pytest.approx((1 + n) / (10 + n))
    assert "effective window 10 steps" in ema.describe(10)[0]
    assert "effective window 1 steps" in ema.describe(0)[0]
    assert "the initial weights count 100.00%" in ema.describe(0)[0]


def test_an_average_that_began_later_counts_from_there():
    """As one that a file did not have."""
    variable = keras.Variable([1.0])
    ema = EMA({"a": 0.9, "b": 0.8}, update_every=2)
    ema.build([variable])
    ema._set_counters(6, [0, 2])
    assert (ema.age("a"), ema.age("b"), ema.last_move) == (6, 4, 6)
    assert ema.initial_share("b") == pytest.approx(0.8**4)
    first, second = ema.describe(11)  # the last move is that of step 10
    assert f"count {0.9**10:.2%}" in first and f"count {0.8**8:.2%}" in second
    assert [line[:6] for line in ema.warnings(16)] == ["ema_a:"]
    ema._set_counters(7, [0, 2])
    assert ema.last_move == 6


def test_weights_are_looked_at_as_often_as_they_are_taken():
    assert EMA(LAWA(2, every_steps=3), update_every=3).update_every == 3
    with pytest.raises(ValueError, match="more often than update_every=4 looks"):
        EMA(LAWA(2, every_steps=3), update_every=4)


def test_any_form_of_averages_is_taken_for_them():
    ema = EMA((0.5, 0.9), update_every=2)
    assert EMA.get(ema) is ema and EMA.get(None) is None
    again = EMA.get(keras.saving.serialize_keras_object(ema))
    assert (again.names, again.update_every) == (ema.names, 2)
    assert EMA.get({"a": 0.9}).names == ("a",) and EMA.get(0.9).names == ("0.9",)


def test_widths_of_snapshots_are_added_once_and_from_the_first_step_on():
    variable = keras.Variable([1.0])
    ema = EMA(0.9)
    assert ema.add_snapshots([0.05]) and not ema.add_snapshots([0.05])
    ema.build([variable])
    assert ema.add_snapshots([0.05, 0.1]) and ema.snapshot_widths == (0.05, 0.1)
    variable.assign([3.0])
    ema.update([variable])  # their first update copies
    assert [float(ema.snapshot_variables(width)[0][0]) for width in (0.05, 0.1)] == [3.0, 3.0]
    assert not ema.add_snapshots([0.1])
    with pytest.raises(ValueError, match=r"averages \[0.2\] were not kept .* 1 steps are done"):
        ema.add_snapshots([0.1, 0.2])


def test_four_weights_are_named_and_others_counted():
    weights = [keras.Variable([1.0], name=f"w{i}") for i in range(6)]
    ema = EMA(0.5)
    ema.build(weights[:1])
    ema.update(weights[:1])
    for count, words in ((5, r"\(new: w1, new: w2, new: w3, new: w4\)"), (6, "w4 and 1 more")):
        with pytest.raises(ValueError, match=words):
            ema.build(weights[:count])


def test_what_was_left_is_told_once_and_from_where_it_was_left():
    variable = keras.Variable([1.0])
    ema = EMA(0.5)
    ema.build([variable])
    ema.leave()  # before the first update, averages follow the weights
    variable.assign([2.0])
    ema.update([variable])
    np.testing.assert_array_equal(ema.variables("0.5")[0], [1.5])
    ema.leave()
    variable.assign([8.0])
    ema.leave()  # notes nothing new
    with pytest.warns(UserWarning, match="replaced since the last fit, and the averages are still"):
        ema.variables("0.5")
    np.testing.assert_array_equal(ema.variables("0.5")[0], [1.5])  # said once: warnings are errors
    with pytest.warns(UserWarning, match="replaced since the last fit: 0.5 start anew"):
        ema.start()
    np.testing.assert_array_equal(ema.variables("0.5")[0], [8.0])
    assert (ema.num_updates, ema.age("0.5")) == (1, 0)


def test_weights_that_are_put_back_are_those_that_were_left():
    variable, ema = moved()
    ema.leave()
    variable.assign([8.0])
    variable.assign([3.0])
    ema.start()
    variable.assign([4.0])
    ema.update([variable])
    np.testing.assert_array_equal(ema.variables("0.5")[0], [3.0])


def test_what_is_exported_is_said_to_be_too_young_alone(caplog):
    network = small_network()
    ema = EMA({"a": 0.9, "a_b": 0.99})
    ema.build(network.weights)
    ema.update(network.weights)
    ema.export(network, "a")
    assert [record.getMessage()[:7] for record in caplog.records] == ["ema_a: "]
