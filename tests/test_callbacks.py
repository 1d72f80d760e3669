"""What the callbacks write, and that `fit` with all of them trains as without."""

import itertools
import types

import keras
import numpy as np
import pytest
from networks import small_network
from PIL import Image
from refusals import assert_refused

from ddpm_keras import DDPM, callbacks, images, samplers
from ddpm_keras.app.recorders import Checkpoints, HistoryLog
from ddpm_keras.app.run_directory import Run

CONFIG = {
    "seed": 3,
    "learning_rate": 1e-2,
    "evaluate": True,
    "ema": (0.5, 0.9),
    "dataset": "digits",
}


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """(model, run, initial weights) after two epochs of five steps with every callback."""
    keras.utils.set_random_seed(0)
    network = small_network()
    initial = network.get_weights()
    run = Run(tmp_path_factory.mktemp("callbacks") / "run")
    model = DDPM(network, ema=(0.5, 0.9))
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(
        digits.train[:80],
        epochs=2,
        batch_size=16,
        verbose=0,
        shuffle=False,
        callbacks=[
            callbacks.StopOnDivergence(),
            callbacks.ValidationLoss(digits.held_out[:40], repeats=2),
            callbacks.SampleGrid(
                run.samples, 4, samplers.DDIM(steps=2), seed=3, log_dir=run.tensorboard
            ),
            HistoryLog(run, every_steps=2, batch_size=16),
            callbacks.TensorBoardScalars(run.tensorboard, CONFIG),
            Checkpoints(run),
        ],
    )
    return model, run, initial


@pytest.fixture
def trained(finished):
    """(model, run) of `finished`."""
    return finished[:2]


def test_callbacks_leave_training_as_it_is(finished, network, digits):
    model, _, initial = finished
    alone = DDPM(keras.models.clone_model(network), ema=(0.5, 0.9))
    alone.network.set_weights(initial)
    alone.compile(keras.optimizers.Adam(1e-2))
    alone.fit(digits.train[:80], epochs=2, batch_size=16, verbose=0, shuffle=False)
    for name in model.weight_sets:
        for a, b in zip(model.weight_values(name), alone.weight_values(name), strict=True):
            np.testing.assert_array_equal(np.array(a), np.array(b))


def test_history_has_a_row_an_interval_and_validation_at_each_epoch(trained):
    model, run = trained
    rows = run.read_history()
    assert [row["step"] for row in rows] == [2, 4, 5, 6, 8, 10]
    assert [row["step"] for row in rows if "val_loss_raw" in row] == [5, 10]
    assert rows[-1]["val_loss_ema_0.9"] != rows[-1]["val_loss_raw"]
    for row in rows:
        assert row["loss"] > 0 and row["grad_norm"] > 0 and row["images_per_second"] > 0
        assert (row["beta_ema_0.9"], row["window_ema_0.9"]) == (0.9, 10.0)
        assert (row["beta_ema_0.5"], row["window_ema_0.5"]) == (0.5, 2.0)
        assert row["initial_share_ema_0.5"] == pytest.approx(0.5 ** row["step"], rel=1e-6)
    assert [row["epoch"] for row in rows] == [1, 1, 1, 2, 2, 2]
    assert rows[-1]["learning_rate"] == pytest.approx(0.01, rel=1e-7)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert model.ema.num_updates == 10


def test_history_holds_what_was_measured_of_each_weight_set_to_seven_digits(trained, digits):
    model, run = trained
    last = run.read_history()[-1]
    for name in model.weight_sets:
        loss = model.validation_loss(digits.held_out[:40], repeats=2, weights=name)
        assert last[f"val_loss_{name}"] == pytest.approx(loss, rel=6e-7)


def test_rates_in_the_history_are_those_of_its_rows(network, digits, tmp_path, monkeypatch):
    """With a clock that goes on by a second a row: 3 batches of 16 images in each."""
    clock = types.SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("ddpm_keras.app.recorders.time", clock)
    model = DDPM(network, ema=None)
    model.compile(keras.optimizers.SGD(1e-2))
    run = Run(tmp_path)
    log = HistoryLog(run, every_steps=3, batch_size=16)
    model.fit(digits.train[:128], batch_size=16, verbose=0, callbacks=[log])
    rows = run.read_history()
    assert [row["step"] for row in rows] == [3, 6, 8]
    assert [row["images_per_second"] for row in rows] == [48, 48, 32]
    assert [row["seconds"] for row in rows] == [1, 2, 3]


def test_samples_of_every_weight_set(trained):
    model, run = trained
    names = {path.name for path in run.samples.iterdir()}
    assert "epoch-0002.png" in names and "epoch-0002-ema_0.5.png" in names
    assert len(names) == 2 * (1 + len(model.weight_sets))
    expected = {
        name: images.grid(model.sample(4, name, samplers.DDIM(steps=2), seed=3))
        for name in model.weight_sets
    }
    assert len({picture.tobytes() for picture in expected.values()}) == 3
    for name, picture in expected.items():
        with Image.open(run.samples / f"epoch-0002-{name}.png") as drawn:
            np.testing.assert_array_equal(np.asarray(drawn), np.asarray(picture))
    with Image.open(run.samples / "epoch-0002.png") as drawn:
        together = images.side_by_side(expected)
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(together))
    assert run.last_epoch() == 2


def test_tensorboard_overlays_weight_sets(trained):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    model, run = trained
    events = EventMultiplexer().AddRunsFromDirectory(str(run.tensorboard)).Reload()
    for name in model.weight_sets:
        tags = events.GetAccumulator(name).Tags()
        assert "val_loss" in tags["tensors"] and "samples" in tags["tensors"]
        assert [event.step for event in events.Tensors(name, "val_loss")] == [5, 10]
    assert {"loss", "grad_norm"} <= set(events.GetAccumulator("train").Tags()["tensors"])


def test_tensorboard_holds_the_configuration(trained):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    _, run = trained
    events = EventMultiplexer().AddRunsFromDirectory(str(run.tensorboard)).Reload()
    (event,) = events.Tensors(".", "configuration")
    (card,) = event.tensor_proto.string_val
    assert "| ema | 0.5 0.9 |" in card.decode() and "| learning_rate | 0.01 |" in card.decode()

    tag = metadata.SESSION_START_INFO_TAG
    content = events.SummaryMetadata(".", tag).plugin_data.content
    session = metadata.parse_session_start_info_plugin_data(content)
    values = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in session.hparams.items()
    }
    assert values == CONFIG | {"ema": "0.5 0.9"}
    assert values["evaluate"] is True


def test_checkpoints_restore_everything(trained, network):
    model, run = trained
    again = DDPM(keras.models.clone_model(network), ema=(0.5, 0.9))
    again.compile(keras.optimizers.Adam(1e-2))
    again.optimizer.build(again.trainable_variables)
    assert run.restore(again) == 10
    for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_divergence_stops_before_a_checkpoint_is_replaced(network, digits, tmp_path):
    run = Run(tmp_path / "run")
    model = DDPM(network, ema=0.9)
    model.compile(keras.optimizers.SGD(1e30))
    options = {"batch_size": 16, "verbose": 0}
    options["callbacks"] = [callbacks.StopOnDivergence(), Checkpoints(run)]
    with pytest.raises(callbacks.Diverged, match="step"):
        model.fit(digits.train[:160], **options)
    options["callbacks"][-1].wait()
    assert [path.name for path in run.checkpoints.glob("*.json")] == ["step-00000000.json"]


WRONG = {
    "averages of a text": (
        lambda: callbacks.EvaluateAverages("held out"),
        ["validation_data", "held out"],
    ),
    "averages of two lengths": (
        lambda: callbacks.EvaluateAverages((np.zeros(40), np.zeros(3))),
        ["validation_data", "[40, 3]"],
    ),
    "averages of nothing": (
        lambda: callbacks.EvaluateAverages((np.zeros((0, 2)), np.zeros(0))),
        ["validation_data", "no rows"],
    ),
    "pictures nowhere": (lambda: callbacks.SampleGrid(None), ["directory", "path", "None"]),
    "pictures for TensorBoard at 3": (
        lambda: callbacks.SampleGrid("x", log_dir=3),
        ["log_dir", "path", "3"],
    ),
    "scalars nowhere": (lambda: callbacks.TensorBoardScalars(""), ["log_dir", "path"]),
    "a configuration of names alone": (
        lambda: callbacks.TensorBoardScalars("x", config=["steps"]),
        ["config", "dict", "steps"],
    ),
    "snapshots nowhere": (
        lambda: callbacks.PowerFunctionSnapshots(None),
        ["directory", "path", "None"],
    ),
    "a path in a text file": (lambda: callbacks.Trajectory("path.txt"), [".npz", "path.txt"]),
    "a path of a number": (lambda: callbacks.Trajectory(3), ["path", "3"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_callback_is_given_is_refused_at_once(case):
    call, words = WRONG[case]
    assert_refused(call, words)
