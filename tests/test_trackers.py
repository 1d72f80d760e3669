"""--logger: each tracker gets every number of an epoch, once, and a run goes on where it was."""

import sys
import types

import numpy as np
import pytest
from refusals import TINY, command_status

from ddpm_keras import callbacks
from ddpm_keras.app import trackers
from ddpm_keras.app.options import train_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError

TRAIN = [*TINY[2:], "--run-dir", "run"]


class FakeWandb(types.ModuleType):
    """What of W&B's package is used, keeping what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace(name="wandb")
        self.runs, self.defined, self.finished = {}, [], 0

    def init(self, id, **settings):
        self.settings = settings
        self.rows = self.runs.setdefault(id, [])
        return self

    def define_metric(self, name, step_metric):
        self.defined.append((name, step_metric))

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def history_of_epochs(run):
    return [row for row in run.read_history() if "val_loss_raw" in row]


def test_wandb_gets_each_epoch_and_a_resumed_run_goes_on(wandb, tmp_path):
    train = [*TRAIN, "--logger", "wandb", "csv"]
    assert command_status("train.py", *train, "--steps", 3, folder=tmp_path) == 0
    resume = ["--resume", "--run-dir", "run", "--steps", 6]
    assert command_status("train.py", *resume, folder=tmp_path) == 0
    assert command_status("train.py", *resume, folder=tmp_path) == 0  # which trains no more
    run = Run(tmp_path / "run")
    (rows,) = wandb.runs.values()  # one run
    assert [row["step"] for row in rows] == [3, 6]
    for row, known in zip(rows, history_of_epochs(run), strict=True):
        for name in ("val_loss_raw", "val_loss_ema_0.9"):
            np.testing.assert_allclose(row[name], known[name], rtol=1e-5)
    assert wandb.defined[0] == ("*", "step") and wandb.finished == 2
    assert wandb.settings["resume"] == "allow" and wandb.settings["config"]["steps"] == 6
    assert wandb.settings["name"] == "run" and wandb.settings["project"] == "ddpm-keras"
    assert not run.tensorboard.exists()  # which was not asked for


def test_mlflow_gets_each_epoch_and_a_resumed_run_goes_on(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'ddpm-keras[loggers]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "")  # to be as it was afterwards
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    train = [*TRAIN, "--logger", "mlflow", "tensorboard"]
    assert command_status("train.py", *train, "--steps", 3, folder=tmp_path) == 0
    resume = ["--resume", "--run-dir", "run", "--steps", 6]
    assert command_status("train.py", *resume, folder=tmp_path) == 0
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    place = client.get_experiment_by_name("ddpm-keras").experiment_id
    (found,) = client.search_runs([place])
    assert found.info.status == "FINISHED" and found.data.params["batch_size"] == "8"
    run = Run(tmp_path / "run")
    for name in ("loss", "val_loss_raw", "val_loss_ema_0.9"):
        logged = client.get_metric_history(found.info.run_id, name)
        assert [each.step for each in logged] == [3, 6]
        if name != "loss":
            known = [row[name] for row in history_of_epochs(run)]
            np.testing.assert_allclose([each.value for each in logged], known, rtol=1e-5)
    assert run.tensorboard.is_dir()


def test_a_tracker_that_begins_no_run_is_told_before_a_step(wandb, tmp_path, monkeypatch, capfd):
    def refuse(**settings):
        raise RuntimeError("api_key not configured\n(no-tty)")

    monkeypatch.setattr(wandb, "init", refuse)
    train = [*TRAIN, "--logger", "wandb"]
    assert command_status("train.py", *train, folder=tmp_path) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "W&B" in line]
    assert "W&B begins no run (api_key not configured (no-tty)): see to that, or leave" in line


def test_numbers_that_a_tracker_does_not_take_do_not_end_a_training(wandb):
    def refuse(row):
        raise OSError("no network")

    tracker = callbacks.WandbScalars("project")
    tracker.set_model(types.SimpleNamespace(steps_made=7))
    tracker.on_train_begin()
    wandb.log = refuse
    with pytest.warns(UserWarning, match=r"W&B has not taken the numbers of step 7 \(no network"):
        tracker.on_epoch_end(0, {"loss": 1.0})


def test_a_missing_package_is_refused_in_one_line_with_its_cure(monkeypatch, tmp_path):
    find = trackers.importlib.util.find_spec
    monkeypatch.setattr(
        trackers.importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("wandb", "mlflow") else find(name, *rest),
    )
    for name in ("wandb", "mlflow"):
        options, _ = train_options(["--logger", "csv", name])
        with pytest.raises(UsageError, match=f"--logger {name} needs {name}: pip install {name}"):
            trackers.check(options)
    trackers.check(train_options([])[0])


def test_what_is_no_logger_is_refused():
    with pytest.raises(UsageError, match="--logger"):
        train_options(["--logger", "stone"])
    with pytest.raises(UsageError, match="--logger names csv twice"):
        train_options(["--logger", "csv", "csv"])


def test_tensorboard_is_the_default_and_nothing_else(tmp_path):
    (found,) = trackers.callbacks_of(Run(tmp_path), train_options([])[0])
    assert isinstance(found, callbacks.TensorBoardScalars)
    assert trackers.callbacks_of(Run(tmp_path), train_options(["--logger", "csv"])[0]) == []
