"""What is gone from the directory of a run since its last checkpoint is missed, and said once."""

import shutil
import warnings

import pytest
from PIL import Image
from refusals import TINY, command_status
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from ddpm_keras import checksums, files, images, names
from ddpm_keras.app import inventory, run_record
from ddpm_keras.app.run_directory import Run
from ddpm_keras.callbacks import events
from ddpm_keras.checked import build


@pytest.fixture(autouse=True)
def said_anew():
    checksums.say_once.cache_clear()


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run(shutil.copytree(tiny_run, tmp_path / "run"))


def cut_at_a_record(folder):
    (path,) = folder.iterdir()
    records = list(events._read(path, False))
    path.write_bytes(b"".join(records[:-1]))


def remove(pattern):
    return lambda run: sorted(run.path.glob(pattern))[0].unlink()


GONE = {
    "a picture": (remove("samples/epoch-*-raw.png"), "samples/epoch-0001-raw.png,"),
    "the real images": (remove("samples/real.png"), "samples/real.png,"),
    "the first snapshot": (remove("snapshots/*.npz"), "snapshots/snapshot-00000000.npz,"),
    "the last snapshot": (
        lambda run: sorted(run.snapshots.iterdir())[-1].unlink(),
        "snapshots/snapshot-00000006.npz,",
    ),
    "the trajectory": (remove("trajectory.npz"), "trajectory.npz,"),
    "events": (lambda run: shutil.rmtree(run.tensorboard), "tensorboard/ema_0.9, .* and 1 more,"),
    "the last event": (
        lambda run: cut_at_a_record(run.tensorboard / "raw"),
        "bytes of tensorboard/raw,",
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_is_gone_is_said_once(what, run):
    harm, words = GONE[what]
    run.note_state()
    harm(run)
    with pytest.warns(UserWarning, match=f"run has lost .*{words} which were there at step 6"):
        run.note_state()
    run.note_state()


@pytest.mark.parametrize("pattern", ["samples/real.png", "snapshots/*.npz", "trajectory.npz"])
def test_what_is_empty_is_not_gone(pattern, run):
    """Who reads it says that it is damaged, and once is enough."""
    sorted(run.path.glob(pattern))[0].write_bytes(b"")
    run.note_state()


def test_the_last_record_names_all_that_a_run_ends_with(tmp_path):
    """The last snapshot is written after the last checkpoint where it is not due before."""
    odd = ["--steps", "7", *TINY[2:], "--run-dir", "run"]
    assert command_status("train.py", *odd, folder=tmp_path) == 0
    run = Run(tmp_path / "run")
    record = files.read_record(run.checkpoints / names.checkpoint_record(7))
    assert "snapshots/snapshot-00000007.npz" in record["files"]
    assert record["files"] == inventory.of(run)


def test_what_comes_after_a_checkpoint_is_not_missed(run):
    images.save(Image.new("RGB", (3, 3)), run.samples / "epoch-0009-raw.png")
    events.append(run.tensorboard / "raw", 9, [scalar_pb("loss", 1.0)])
    run.note_state()
    events.cut(run.tensorboard / "raw", 6)
    (run.samples / "epoch-0009-raw.png").unlink()
    run.note_state()


def other_run(run, path):
    """An empty run of another id."""
    other = Run(path)
    other.write_config(run.config | {"run": "bb"})
    return other


def test_a_picture_of_another_run_is_told(run, tmp_path):
    other = other_run(run, tmp_path / "other")
    name = "epoch-0001-raw.png"
    images.save(Image.new("RGB", (3, 3)), other.samples / name)
    assert checksums.damage(other.samples / name) is None
    for folder in (tmp_path, run.samples):
        shutil.copy(other.samples / name, folder)
    assert checksums.is_whole(tmp_path / name)  # where no run is
    with pytest.warns(UserWarning, match=f"{name} is of another run; going on without it"):
        assert not checksums.is_whole(run.samples / name)


def test_events_of_another_run_are_put_aside(run, tmp_path):
    other = other_run(run, tmp_path / "other")
    for each in (run, other):
        shutil.rmtree(each.tensorboard / "raw", ignore_errors=True)
        events.append(each.tensorboard / "raw", 1, [scalar_pb("loss", 1.0)])
    (own,), (foreign,) = ((each.tensorboard / "raw").iterdir() for each in (run, other))
    events.cut(other.tensorboard / "raw", 1)
    foreign.rename(own.parent / foreign.name)
    with pytest.warns(UserWarning, match=f"{foreign.name} is of another run; kept as .*/raw/ev"):
        events.cut(own.parent, 1)
    kept = foreign.name.replace("tfevents", "of-another-run")
    assert sorted(path.name for path in own.parent.iterdir()) == sorted([own.name, kept])


@pytest.mark.parametrize("left", [{"../x": 1}, {"samples/a": -1}, {"/etc/x": 1}, {"samples/": 1}])
def test_a_record_names_what_a_run_leaves_alone(left):
    record = {"step": 1, "sha256": "0" * 64, "time": 1.0, "files": left}
    with pytest.raises(ValueError, match="which no run leaves"):
        build(run_record.Checkpoint, record)


def test_a_record_of_an_older_version_misses_nothing(run):
    for path in run._records():
        record = checksums.read_record(path)
        path.write_text(checksums.record_text(path, record | {"files": {}}))
    shutil.rmtree(run.samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.note_state()
