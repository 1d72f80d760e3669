"""The callback that stores power-function averages: what its files hold, whatever the training."""

import os

import keras
import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras import EMA, EMAModel, posthoc
from ddpm_keras.callbacks import PowerFunctionSnapshots


def small_model(ema=(0.9,), normalised=False):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3)]
    if normalised:
        layers.append(keras.layers.BatchNormalization())
    model = EMAModel(keras.Sequential([keras.Input((4,)), *layers]), ema=ema)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    return model


def small_fit(model, directory, epochs=2, initial_epoch=0, **arguments):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 4)), random.normal(size=(40, 3))
    callback = PowerFunctionSnapshots(directory, **{"every_steps": 4, **arguments})
    return model.fit(
        *(x.astype("float32"), y.astype("float32")),
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )


def contents(directory):
    result = {}
    for snapshot in posthoc.list_snapshots(directory):
        with np.load(snapshot.path, allow_pickle=False) as file:
            result[snapshot.step] = {key: file[key] for key in file.files}
    return result


def assert_same_files(directory, other):
    ours, theirs = contents(directory), contents(other)
    assert ours.keys() == theirs.keys()
    for step, arrays in ours.items():
        assert arrays.keys() == theirs[step].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, theirs[step][key])


def test_snapshots_hold_the_averages_and_nothing_half_written(tmp_path):
    model = small_model(normalised=True)
    small_fit(model, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        f"snapshot-{step:08d}.npz" for step in (0, 4, 8, 12, 16, 20)
    ]
    last = contents(tmp_path)[20]
    kernel = model.ema.snapshot_variables(0.1)[0]
    np.testing.assert_array_equal(last["1_0"], kernel)
    made = posthoc.synthesize(tmp_path, sigma_rel=0.1)
    assert len(made.values) == len(model.network.weights)
    np.testing.assert_array_equal(made.values[-1], model.network.weights[-1])  # moving variance
    assert model.weight_sets == ("raw", "ema_0.9")  # the others stay out of sight


def test_snapshots_do_not_depend_on_steps_per_execution(tmp_path):
    small_fit(small_model(), tmp_path / "one")
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-2), "mse", steps_per_execution=4)
    small_fit(model, tmp_path / "four", every_steps=4)
    one, four = contents(tmp_path / "one"), contents(tmp_path / "four")
    assert {0, 4, 8, 20} <= four.keys()
    for step in one.keys() & four.keys():
        np.testing.assert_array_equal(one[step]["0_0"], four[step]["0_0"])


def test_a_resumed_run_writes_the_same_snapshots(tmp_path):
    small_fit(small_model(), tmp_path / "whole", epochs=3)
    model = small_model()
    small_fit(model, tmp_path / "parts", epochs=1)
    model.save(tmp_path / "model.keras")
    small_fit(model, tmp_path / "parts", epochs=3, initial_epoch=1)  # goes on, then is thrown away
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    small_fit(resumed, tmp_path / "parts", epochs=3, initial_epoch=1)
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert parts.keys() - whole.keys() == {10}  # the end of the first fit
    for step, arrays in whole.items():
        np.testing.assert_array_equal(arrays["0_0"], parts[step]["0_0"])


def test_snapshots_of_another_run_are_not_mixed_in(tmp_path):
    small_fit(small_model(), tmp_path)
    before = contents(tmp_path)
    other = small_model()
    other.network.set_weights([w + 1 for w in other.network.get_weights()])
    with pytest.raises(ValueError, match="another run"):
        small_fit(other, tmp_path)
    assert contents(tmp_path).keys() == before.keys()
    small_fit(small_model(), tmp_path)  # the same run from its start
    assert contents(tmp_path).keys() == before.keys()


def test_a_snapshot_by_the_name_of_another_step_is_refused(tmp_path):
    small_fit(small_model(), tmp_path, epochs=1)
    (tmp_path / "snapshot-00000004.npz").replace(tmp_path / "snapshot-00000007.npz")
    with pytest.raises(ValueError, match="snapshot-00000007.npz is not a snapshot .*: remove it"):
        posthoc.list_snapshots(tmp_path)


def test_averages_must_be_kept_from_the_first_step(tmp_path):
    model = small_model()
    model.fit(np.zeros((4, 4)), np.zeros((4, 3)), verbose=0)
    with pytest.raises(ValueError, match="from the first step on"):
        small_fit(model, tmp_path)
    with pytest.raises(ValueError, match="fit an EMAModel or a DDPM with an EMA"):
        small_fit(small_model(ema=None), tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        PowerFunctionSnapshots(tmp_path, every_steps=0)
    with pytest.raises(ValueError, match="float16"):
        small_fit(small_model(), tmp_path, dtype="bfloat16")


@pytest.mark.parametrize("target", [{"sigma_rel": 0.1}, {"decay": 0.999}])
def test_a_layer_thawed_between_two_snapshots_was_its_own_average_until_then(tmp_path, target):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, trainable=False), keras.layers.Dense(3)]
    network = keras.Sequential([keras.Input((4,)), *layers])
    model = EMAModel(network, EMA({"wanted": 0.999}, snapshot_widths=(0.05, 0.1)))
    for trainable in (False, True):
        layers[0].trainable = trainable
        model.compile("sgd", "mse")
        small_fit(model, tmp_path)
    name = "snapshot_0.1" if "sigma_rel" in target else "wanted"
    found = posthoc.synthesize(tmp_path, **target).values
    for value, tracked, now in zip(found, model.ema.variables(name), network.weights, strict=True):
        scale = np.abs(np.array(tracked) - now).max()
        assert np.abs(value - tracked).max() < 0.05 * scale + 1e-6


def test_snapshots_without_any_other_average(tmp_path):
    model = small_model(ema=EMA(()))
    assert model.resolve("ema") == "raw"
    small_fit(model, tmp_path, every_steps=None)
    assert len(posthoc.list_snapshots(tmp_path)) == 21  # a sixteenth of 20 steps is one
    assert posthoc.synthesize(tmp_path, decay=0.9).predicted_error < 0.01


def test_snapshots_with_averages_that_move_every_few_steps(tmp_path):
    model = small_model(ema=EMA(0.9, update_every=3))
    small_fit(model, tmp_path)
    assert max(contents(tmp_path)) == 18  # when they last moved


def test_snapshots_of_two_trainings_are_not_mixed(tmp_path):
    for part in ("a", "b"):
        small_fit(small_model(), tmp_path / part)
    both = [each for part in ("a", "b") for each in posthoc.list_snapshots(tmp_path / part)]
    words = ["both of step 0", "one training"]
    assert_refused(lambda: posthoc.synthesize(both, sigma_rel=0.1), words)
    assert_refused(lambda: posthoc.supported_widths(both), words)
