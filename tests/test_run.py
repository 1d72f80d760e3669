"""The run directory: whole files only, checkpoints that are checked, history that can be cut."""

import keras
import numpy as np
import pytest

from ddpm_keras import files
from ddpm_keras.app import consistency
from ddpm_keras.app.run_directory import Run, fresh_path, newest
from ddpm_keras.errors import UsageError


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.write_config({"options": {}})
    return run


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam")
    return model


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "value.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["value.txt"]


def test_names_are_numbered(tmp_path):
    assert fresh_path(tmp_path, "digits").name == "digits"
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits-2").mkdir()
    assert fresh_path(tmp_path, "digits").name == "digits-3"


def test_newest_run(tmp_path):
    with pytest.raises(UsageError, match="--run-dir"):
        newest(tmp_path)
    Run(tmp_path / "b").write_config({})
    Run(tmp_path / "a").write_config({})
    import os

    os.utime(tmp_path / "b" / "config.json", (1, 1))
    assert newest(tmp_path).name == "a"


def test_only_a_run_is_opened(tmp_path):
    with pytest.raises(UsageError, match="config.json"):
        Run.open(tmp_path)


def test_a_run_is_named_once(run):
    run.write_config({})
    again = Run(run.path / ".." / run.path.name)
    with pytest.raises(UsageError, match="named twice"):
        consistency.check_distinct([run, again])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"run": "b", "options": {"seed": 1}}, None),
        ({"run": "b", "data": {"fingerprint": "other"}}, None),
        ({"run": "a", "options": {"seed": 1}}, "two is a copy of .*one; name one"),
        ({"run": "b"}, "two is the training of .*one again.* or train another --seed"),
        ({"run": "b", "options": {"seed": 0, "run_dir": "two"}}, "is the training of"),
    ],
)
def test_a_training_counts_once_among_several(tmp_path, changed, message):
    config = {"run": "a", "options": {"seed": 0}, "data": {"fingerprint": "same"}}
    runs = []
    for name, each in (("one", config), ("two", config | changed)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        runs.append(Run(tmp_path / name))
        runs[-1].write_config(each)
    if message is None:
        consistency.check_distinct(runs)
    else:
        with pytest.raises(UsageError, match=message):
            consistency.check_distinct(runs)


def test_checkpoints_are_kept_and_restored(run, model):
    for step in (1, 2, 3):
        model.set_weights([np.full((2, 1), step), np.zeros(1)])
        run.save_checkpoint(model, step, keep=2)
    assert len(list(run.checkpoints.iterdir())) == 4
    model.set_weights([np.zeros((2, 1)), np.zeros(1)])
    assert run.restore(model) == 3
    assert model.get_weights()[0][0, 0] == 3


def test_a_damaged_checkpoint_is_passed_over(run, model):
    for step in (1, 2):
        model.set_weights([np.full((2, 1), step), np.zeros(1)])
        run.save_checkpoint(model, step)
    damaged = run.checkpoints / "step-00000002.weights.h5"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        assert run.restore(model) == 1
    assert model.get_weights()[0][0, 0] == 1


def test_a_checkpoint_without_its_record_does_not_count(run, model):
    run.save_checkpoint(model, 1)
    (run.checkpoints / "step-00000001.json").unlink()
    assert run.restore(model) == 0


def test_history_takes_new_columns_and_survives_a_torn_line(run):
    run.append_history({"step": 10, "loss": 0.5})
    run.append_history({"step": 20, "loss": 0.25, "val_loss_raw": 0.3})
    run.append_history({"step": 30, "loss": 0.125})
    rows = run.read_history()
    assert rows == [
        {"step": 10, "loss": 0.5},
        {"step": 20, "loss": 0.25, "val_loss_raw": 0.3},
        {"step": 30, "loss": 0.125},
    ]
    with open(run.history, "a") as file:
        file.write("40,0.0")
    with pytest.warns(UserWarning, match="line 5"):
        assert run.read_history() == rows
