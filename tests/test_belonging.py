"""Files of another run are found in a run's directory, said by name, and not used."""

import shutil

import keras
import numpy as np
import pytest

from ddpm_keras import checksums, files
from ddpm_keras.app import history, models
from ddpm_keras.app.run_directory import Run
from ddpm_keras.ema import snapshots
from ddpm_keras.errors import UsageError
from ddpm_keras.reading import seals

ROWS = [{"step": step, "loss": 1 / step} for step in (2, 4, 6)]


@pytest.fixture(autouse=True)
def said_anew():
    checksums.say_once.cache_clear()


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam")
    return model


def make(path, name, model=None, steps=()):
    """A run of this id, with checkpoints that hold their step."""
    run = Run(path)
    run.write_config({"run": name, "options": {}, "first_steps": 6})
    for step in steps:
        model.set_weights([np.full((2, 1), step), np.zeros(1)])
        run.append_history({"step": step, "loss": 0.5})
        run.save_checkpoint(model, step, keep=9)
    return run


def weight(model):
    return model.get_weights()[0][0, 0]


@pytest.mark.parametrize("name", ["aa", ""], ids=["named", "of an older version"])
def test_a_checkpoint_of_another_run_is_passed_over_and_kept_aside(tmp_path, model, name):
    other = make(tmp_path / "other", "bb", model, [9])
    run = make(tmp_path / "run", name, model, [2, 4])
    for file in other.checkpoints.iterdir():
        shutil.copy(file, run.checkpoints)
    with pytest.warns(UserWarning, match="step-00000009 is of another run; going on from step 4"):
        assert run.restore(model) == 4
    assert weight(model) == 4 and run.check_checkpoints() == 4
    run.clear_checkpoints()
    assert run.checkpoint_steps == [2, 4]
    assert (run.checkpoints / "step-00000009.weights.h5.damaged").is_file()
    assert other.restore(model) == 9


def test_with_checkpoints_of_another_run_alone_nothing_goes_on(tmp_path, model):
    other = make(tmp_path / "other", "bb", model, [9])
    run = make(tmp_path / "run", "aa")
    shutil.copytree(other.checkpoints, run.checkpoints)
    with pytest.raises(UsageError, match="no checkpoint .* is whole and of this run"):
        run.restore(model)
    with pytest.raises(UsageError, match="step-00000009 of .* is of another run; name another"):
        run.restore_step(model, 9)


def test_a_damaged_checkpoint_is_removed_when_training_goes_on_before_it(tmp_path, model):
    run = make(tmp_path / "run", "aa", model, [2, 4])
    (run.checkpoints / "step-00000004.weights.h5").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="step-00000004 is damaged .*; going on from step 2"):
        run.restore(model)
    run.clear_checkpoints()
    assert run.checkpoint_steps == [2] and len(list(run.checkpoints.iterdir())) == 2


def test_a_copy_of_a_run_and_a_renamed_one_go_on(tmp_path, model):
    run = make(tmp_path / "run", "aa", model, [2, 4])
    copy = Run(shutil.copytree(run.path, tmp_path / "a copy é"))
    link = tmp_path / "link"
    link.symlink_to(copy.path)
    for each in (copy, Run(link), Run(run.path.rename(tmp_path / "renamed"))):
        assert each.restore(model) == 4 and len(each.read_history()) == 2


# Other files


def of_other_run(run, path):
    """A copy of a run that is another one, with other files of the same names."""
    other = Run(shutil.copytree(run.path, path))
    rows = run.read_history()
    other.write_config(run.config | {"run": "bb"})
    other.write_history(rows)
    for archive in (other.model, other.network, other.trajectory, *other.snapshots.glob("*.npz")):
        seals.seal(archive)
    files.write_record(other.evaluation, {"weights": {}})
    return other


def test_no_file_of_another_run_is_taken(tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run, tmp_path / "run"))
    assert len(run.config["run"]) == 16
    other = of_other_run(run, tmp_path / "other")
    for name in ("model.keras", "trajectory.npz", "history.csv", "evaluation.json"):
        shutil.copy(other.path / name, run.path)
    shutil.copytree(other.snapshots, run.snapshots, dirs_exist_ok=True)
    with pytest.raises(UsageError, match="model.keras .*is of another run"):
        models.load_model(run)
    with pytest.warns(UserWarning, match="trajectory.npz is of another run; going on without it"):
        assert run.read_trajectory() == {}
    with pytest.warns(UserWarning, match="snapshot-0.* is of another run; going on without it"):
        assert snapshots.list_snapshots(run.path) == []
    with pytest.warns(UserWarning, match="evaluation.json is of another run; going on without it"):
        assert run.whole_evaluations() is None
    with pytest.warns(UserWarning, match="history.csv is damaged in line 2, 3"):
        assert run.read_history() == []
    assert len(other.read_history()) == 4 and len(snapshots.list_snapshots(other.path)) >= 3
    models.load_model(other)


def test_a_file_that_left_its_run_is_read_anywhere(tiny_run, tmp_path):
    shutil.copy(tiny_run / "trajectory.npz", tmp_path)
    checksums.check(tmp_path / "trajectory.npz")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')  # of no run
    checksums.check(tmp_path / "trajectory.npz")


# A history that has lost rows


def history_of(run, rows):
    run.write_history(rows)
    return run


@pytest.mark.parametrize(("left", "gone"), [(ROWS[:2], 1), (ROWS[:1], 2), ([], 3), (ROWS[1:], 1)])
def test_rows_that_are_gone_are_missed(tmp_path, model, left, gone):
    run = history_of(make(tmp_path / "run", "aa"), ROWS)
    run.save_checkpoint(model, 6)
    assert run.read_history() == ROWS
    run.write_history(left)
    with pytest.warns(UserWarning, match=f"{gone} of its rows up to step 6 are gone") as said:
        assert run.read_history() == left
    assert len(said) == 1


def test_a_history_that_is_mended_tells_of_both_kinds_of_loss(tmp_path, model):
    run = history_of(make(tmp_path / "run", "aa"), ROWS)
    run.save_checkpoint(model, 6)
    run.write_history(ROWS[:2])
    run.history.write_bytes(run.history.read_bytes()[:-3])
    with pytest.warns(UserWarning) as said:
        history.mend(run.history, (6, 3))
    (text,) = (str(each.message) for each in said)
    assert text.endswith("damaged in line 3; left out. 1 of its rows up to step 6 are gone.")
    assert history.read(run.history, (6, 3)) == ROWS[:1]  # which says it no more


def test_rows_after_a_checkpoint_are_not_counted(tmp_path, model):
    run = history_of(make(tmp_path / "run", "aa"), ROWS[:2])
    run.save_checkpoint(model, 4)
    run.append_history(ROWS[2])
    assert run.read_history() == ROWS
    run.write_history([ROWS[0], ROWS[2]])
    with pytest.warns(UserWarning, match="1 of its rows up to step 4 are gone"):
        run.read_history()


def test_a_damaged_row_is_said_once(tmp_path, model):
    run = history_of(make(tmp_path / "run", "aa"), ROWS)
    run.save_checkpoint(model, 6)
    run.history.write_bytes(run.history.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="in line 4; left out") as said:
        run.read_history()
    assert len(said) == 1


# Bounds


def test_records_and_histories_are_read_within_bounds(tmp_path, monkeypatch):
    run = history_of(make(tmp_path / "run", "aa"), ROWS)
    monkeypatch.setenv("DDPM_KERAS_MAX_BYTES", "100")
    with pytest.raises(UsageError, match="history.csv would take .* DDPM_KERAS_MAX_BYTES"):
        run.read_history()
    with pytest.raises(UsageError, match="of text are read"):
        _ = run.config
    with pytest.warns(UserWarning, match="history.csv.damaged"):
        assert history.cut(run.history, 6) == []
