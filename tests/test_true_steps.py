"""A step is one move of the weights by the optimizer: that is counted, shown and written."""

import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import assert_refused

from ddpm_keras import DDPM, EMA, callbacks
from ddpm_keras.app import recorders
from ddpm_keras.app.run_directory import Run
from ddpm_keras.ema import EMAModel
from ddpm_keras.ema.snapshots import list_snapshots

BATCHES, BATCH = 8, 4


def small(ema=(0.5,), optimizer=None, accumulation_steps=1, **compile_arguments):
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    time = keras.layers.Dense(1)(keras.ops.cast(t, "float32")[:, None] / 1000)
    net = keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(x + time[:, None, None, :]))
    model = DDPM(net, ema=EMA.get(ema), accumulation_steps=accumulation_steps)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), **compile_arguments)
    return model


def accumulating(steps):
    return keras.optimizers.Adam(1e-3, gradient_accumulation_steps=steps)


# name: (how the model is made, steps of 8 batches, steps of the rows of every 2nd step)
WAYS = {
    "plain": (lambda: small(), 8, [2, 4, 6, 8]),
    "accumulation in the optimizer": (lambda: small(optimizer=accumulating(2)), 4, [2, 4]),
    "accumulation inside of a loss scale": (
        lambda: small(optimizer=keras.optimizers.LossScaleOptimizer(accumulating(2), 2.0)),
        *(4, [2, 4]),
    ),
    "accumulation in the model": (lambda: small(accumulation_steps=2), 8, [2, 4, 6, 8]),
    "update_every": (lambda: small(EMA(0.5, update_every=3)), 8, [2, 4, 6, 8]),
    "steps_per_execution": (lambda: small(steps_per_execution=4), 8, [4, 8]),
    "an uneven steps_per_execution": (lambda: small(steps_per_execution=3), 8, [3, 6, 8]),
    "both": (lambda: small(optimizer=accumulating(2), steps_per_execution=4), 4, [2, 4]),
}


def fit(model, digits, epochs=1, initial_epoch=0, watch=()):
    return model.fit(
        digits.train[: BATCHES * BATCH],
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        epochs=epochs,
        initial_epoch=initial_epoch,
        callbacks=list(watch),
    )


@pytest.fixture
def clock(monkeypatch):
    """A second passes at each look at the clock, so that rates can be compared exactly."""
    ticks = itertools.count()
    monkeypatch.setattr(recorders, "time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))


@pytest.mark.parametrize("way", WAYS)
def test_everything_counts_true_steps(way, digits, tmp_path, clock):
    make, steps, rows_at = WAYS[way]
    model, run = make(), Run(tmp_path / "run")
    progress = recorders.Progress(steps, BATCH)
    watch = [
        progress,
        callbacks.Trajectory(tmp_path / "trajectory.npz", every_steps=2),
        recorders.HistoryLog(run, every_steps=2, batch_size=BATCH),
        callbacks.PowerFunctionSnapshots(tmp_path / "snapshots", every_steps=2),
        recorders.Checkpoints(run),
    ]
    fit(model, digits, watch=watch)
    assert model.steps_made == model.ema.num_updates == steps
    assert int(model.train_counter) == BATCHES
    assert int(model.optimizer.iterations) == steps
    rows = run.read_history()
    assert [row["step"] for row in rows] == rows_at
    seconds = np.diff([0.0] + [row["seconds"] for row in rows])
    images = sum(row["images_per_second"] * s for row, s in zip(rows, seconds, strict=True))
    assert images == pytest.approx(BATCHES * BATCH)
    with np.load(tmp_path / "trajectory.npz") as file:
        assert list(file["step"]) == rows_at
    assert progress.bar.n == progress.bar.total == steps
    assert progress.bar.unit_scale * steps == BATCHES * BATCH
    stored = sorted(path.stem for path in run.checkpoints.glob("*.json"))
    assert stored == ["step-00000000", f"step-{steps:08d}"]
    moves = [3, 6] if way == "update_every" else rows_at
    assert [s.step for s in list_snapshots(tmp_path / "snapshots")] == [0, *moves]


def test_a_step_that_is_not_made_has_no_row_of_its_own(digits, tmp_path):
    model, run = small(), Run(tmp_path / "run")
    noised = model._noised

    def spoiled(images, labels, key):
        batch = noised(images, labels, key)
        lost = model.train_counter.value >= 6
        return batch | {"target": tf.where(lost, np.inf, batch["target"])}

    model._noised = spoiled
    fit(model, digits, watch=[recorders.HistoryLog(run, every_steps=2, batch_size=BATCH)])
    rows = run.read_history()
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert model.steps_made == model.ema.num_updates == 6
    assert all(np.isfinite(row["grad_norm"]) and row["grad_norm"] > 0 for row in rows)


def short_run_lines(caplog):
    return [record.getMessage() for record in caplog.records if "window" in record.getMessage()]


# name: (model, epochs, initial_epoch, steps that the warning names)
LENGTHS = {
    "plain": (lambda: small((0.999,)), 2, 0, 16),
    "initial_epoch": (lambda: small((0.999,)), 5, 4, 8),
    "accumulation": (lambda: small((0.999,), accumulating(4)), 2, 0, 4),
    "accumulation, initial_epoch": (lambda: small((0.999,), accumulating(4)), 3, 2, 2),
    "steps_per_execution": (lambda: small((0.999,), steps_per_execution=4), 2, 0, 16),
    "update_every": (lambda: small(EMA(0.999, update_every=3)), 1, 0, 8),
}


@pytest.mark.parametrize("way", LENGTHS)
def test_a_short_run_is_as_long_as_its_true_steps(way, digits, caplog):
    make, epochs, initial_epoch, steps = LENGTHS[way]
    model = make()
    fit(model, digits, epochs, initial_epoch)
    (line,) = short_run_lines(caplog)
    assert f"after {steps} steps" in line
    assert model.ema.num_updates == steps


def test_the_warning_counts_the_steps_made_before(digits, caplog):
    model = small((0.9,))
    fit(model, digits)
    caplog.clear()
    fit(model, digits, epochs=5, initial_epoch=1)  # 8 steps and 32 more: .9^40 is 1.5%
    assert not short_run_lines(caplog)


def test_snapshots_by_default_are_a_sixteenth_of_the_true_steps(digits, tmp_path):
    model = small(optimizer=accumulating(2))
    watch = [callbacks.PowerFunctionSnapshots(tmp_path)]
    fit(model, digits, epochs=20, initial_epoch=12, watch=watch)  # 8 epochs of 4 steps
    assert [s.step for s in list_snapshots(tmp_path)] == list(range(0, 33, 2))


def test_snapshots_before_the_first_move_leave_the_initial_weights(digits, tmp_path):
    """With update_every, training may end before the averages have moved at all."""
    model = small(EMA(0.5, update_every=100))
    start = [np.array(w) for w in model.network.get_weights()]
    fit(model, digits, watch=[callbacks.PowerFunctionSnapshots(tmp_path, every_steps=2)])
    (snapshot,) = list_snapshots(tmp_path)
    assert snapshot.step == 0
    with np.load(snapshot.path) as file:
        np.testing.assert_array_equal(file["0_0"], start[0])


def test_describe_knows_when_the_averages_moved():
    ema = EMA(0.5, update_every=4)
    assert ema.describe(3)[0].endswith("after 3 steps the initial weights count 100.00%")
    assert ema.describe(7)[0].endswith("after 7 steps the initial weights count 6.25%")
    assert "100%" in ema.warnings(3)[0] and not ema.warnings(20)
    assert_refused(lambda: ema.describe(-1), ["steps", "at least 0"])


def test_an_average_that_starts_later_is_described_from_its_start(tmp_path):
    x, y = np.ones((8, 4), np.float32), np.ones((8, 1), np.float32)

    def model(ema):
        made = EMAModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), ema=ema)
        made.compile("adam", "mse")
        return made

    first = model(0.5)
    first.fit(x, y, batch_size=1, verbose=0)
    first.save_weights(tmp_path / "first.weights.h5")
    second = model((0.5, 0.6))
    second.optimizer.build(second.trainable_variables)
    with pytest.warns(UserWarning, match="starts anew"):
        second.load_weights(tmp_path / "first.weights.h5")
    older, newer = second.ema.describe(10)  # two steps after the load
    assert older.endswith(f"{0.5**10:.2%}") and newer.endswith(f"{0.6**2:.2%}")


def test_counters_are_saved_and_survive_a_new_optimizer(tmp_path, digits):
    model = small(optimizer=accumulating(2))
    fit(model, digits)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (again.steps_made, int(again.train_counter)) == (4, 8)
    again.compile(keras.optimizers.Adam(1e-4))
    fit(again, digits)
    assert (again.steps_made, int(again.train_counter), again.ema.num_updates) == (12, 16, 12)
