"""Unusual command lines, places and outputs that are right, and must work."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from refusals import TINY, call_command

from ddpm_keras import checksums
from ddpm_keras.app import consistency
from ddpm_keras.app.run_directory import Run

ROOT = Path(__file__).parents[1]


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Runs a command in `tmp_path`, which must succeed; returns its `Outcome`."""

    def call(script, *arguments):
        outcome = call_command(
            script, *arguments, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
        )
        assert outcome.status == 0, outcome
        assert "Traceback" not in outcome.err
        assert not [path for path in tmp_path.rglob(".partial*")]
        return outcome

    return call


def drawn(path):
    with np.load(path) as file:
        return file["images"]


# How images can be asked for: the number of images, and the arguments of sample.py.
SAMPLES = [
    (3, "run --num 3 --out a.npz"),
    (3, "--num=3 --out=a.npz run"),
    (3, "--num 3 --out a.npz -- run"),
    (10, "--seed 4294967295 run --num 1_0 --out a.npz"),
    (2, "run/ --num 2 --out new/folders/a.npz"),
    (2, "./run/../run --num 2 --steps 20 --out a.npz"),
    (2, "run --num 2 --steps 20 --sampler dpm --out a.npz"),
    (2, "run --num 2 --sampler ddpm --weights raw --out a.npz"),
    (1, "run --num 1 --guidance 1 --out é✓/ü.npz"),
    (1, f"run --num 1 --out {'n' * 240}.npz"),
    (1, "run --num 1 --precision bfloat16 --strategy mirrored --out a.npz"),
    (2, "run/model.keras --num 2 --weights ema_0.5 --out a.npz"),
    (2, "run --num 2 --sigma-rel 0.08 --out a.npz"),
    (2, "run --num 2 --decay 0.9 --step 4 --out a.npz"),
    (2, "run --num 2 --weights posthoc_sigma_0.05@2 --guide raw@3 --guidance 2 --out a.npz"),
    (2, "run/network-ema.keras --num 2 --weights raw --out a.npz"),
]


@pytest.mark.parametrize(("number", "arguments"), SAMPLES)
def test_images_are_drawn(number, arguments, call, tiny_run, tmp_path):
    (tmp_path / "run").symlink_to(tiny_run)
    call("sample.py", *arguments.split())
    (path,) = (path for path in tmp_path.rglob("*.npz") if "run" not in path.parts)
    assert drawn(path).shape == (number, 8, 8, 1)


def test_an_existing_picture_and_an_empty_folder_are_written_to(call, tiny_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.png").write_text("old")
    call("sample.py", tiny_run, "--num", 2, "--out", "empty")
    call("sample.py", tiny_run, "--num", 2, "--out", "old.png")
    assert len(list((tmp_path / "empty").iterdir())) == 2
    assert (tmp_path / "old.png").read_bytes()[:4] == b"\x89PNG"


def test_the_network_alone_draws_what_the_run_draws(call, tiny_run, tmp_path):
    """Its file says how much noise a timestep has; of an older one, the run in its folder."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    call("sample.py", "run", "--num", 2, "--out", "expected.npz")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(run / "network-ema.keras", tmp_path / "elsewhere" / "says.keras")
    for path in (run / "network-ema.keras", tmp_path / "elsewhere" / "silent.keras"):
        keras.saving.load_model(run / "network-ema.keras").save(path)
    for path in ("elsewhere/says.keras", "run/network-ema.keras"):
        outcome = call("sample.py", path, "--num", 2, "--out", "a.npz")
        assert "linear, 20 timesteps, epsilon" in outcome.out
        assert "Warning" not in outcome.err
        np.testing.assert_array_equal(drawn(tmp_path / "a.npz"), drawn(tmp_path / "expected.npz"))
    outcome = call("sample.py", "elsewhere/silent.keras", "--num", 2, "--out", "a.npz")
    assert "Warning: elsewhere/silent.keras does not say what it was trained for" in outcome.err
    assert "linear, 1000 timesteps, epsilon" in outcome.out


def test_precision_is_that_of_the_computation(tiny_run):
    from ddpm_keras.app import devices, models

    model = models.load_model(Run(tiny_run))
    before = model.get_weights()
    images = np.full((4, 8, 8, 1), 40, np.uint8)
    whole = model.validation_loss(images)
    devices.compute_in("bfloat16", model.network)
    model.traced = type(model.traced)(model)
    assert 0 < abs(model.validation_loss(images) / whole - 1) < 0.05
    assert model.network.get_layer("conv_in").compute_dtype == "bfloat16"
    assert model.network.get_layer("timestep_embedding").compute_dtype == "float32"
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="--precision"):
        devices.compute_in("bfloat16", keras.Sequential([keras.layers.Dense(1)]))


# Trainings that are unusual: what is there before, and the arguments besides those of TINY.
def empty_run_folder(folder):
    (folder / "run").mkdir()


def log_in_run_folder(folder):
    (folder / "run").mkdir()
    (folder / "run" / "slurm-17.out").write_text("queued")


def linked_run_folder(folder):
    (folder / "elsewhere").mkdir()
    (folder / "run").symlink_to(folder / "elsewhere")


TRAININGS = [
    (
        log_in_run_folder,
        "--ema 0 0.9999999 0.99999999 --run-dir=./run/ --seed=4294967295 --no-flip --sampler dpm "
        "--sampling-steps 19",
    ),
    (
        linked_run_folder,
        "--run-dir run --ema-schedule step warmup ramp --clip-norm 0 --batch-size 2000 --steps 1 "
        "--snapshots 0",
    ),
    (
        empty_run_folder,
        "--run-dir run --conditional --attention-resolutions 8 --precision bfloat16 --batch-size 2 "
        "--accumulate 2 --sampling-steps 20",
    ),
]


@pytest.mark.parametrize(("prepare", "arguments"), TRAININGS)
def test_trainings(prepare, arguments, call, tmp_path):
    prepare(tmp_path)
    given = arguments.split()
    names = {word.split("=")[0] for word in given if word.startswith("--")}
    call("train.py", *without(TINY, names), *given)
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        assert np.isfinite([float(row["loss"]) for row in csv.DictReader(file)]).all()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    if "--ema 0 " in arguments:  # decays that would be alike in six digits
        model = keras.saving.load_model(tmp_path / "run" / "model.keras")
        assert len(set(model.weight_sets)) == 4
    assert config["options"]["steps"] in (1, 6)


def without(words, names):
    """A command line without some of its options and their values."""
    kept, keep = [], True
    for word in words:
        keep = word not in names if word.startswith("--") else keep
        kept += [word] if keep else []
    return kept


def test_resuming_what_is_done_what_was_moved_and_what_has_no_checkpoint(call, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "moved é")
    call("train.py", "--resume", "--run-dir", "moved é")
    (run / "report.html").write_text("of six steps")
    call("train.py", "--resume", "--run-dir", "moved é", "--steps", 8, "--seed", 0)
    assert "validation loss at step 8 is" in (run / "report.html").read_text()
    with open(tmp_path / "moved é" / "history.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3", "4", "6", "8"]


def test_a_damaged_checkpoint_or_model_is_made_good_by_resuming(call, tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").glob("*.h5"))[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    (tmp_path / "run" / "model.keras").write_bytes(b"")
    outcome = call("train.py", "--resume", "--run-dir", "run")
    assert "Warning: step-00000006 is damaged" in outcome.err and "step 3" in outcome.out
    assert len([line for line in outcome.err.splitlines() if "damaged" in line]) == 2
    a, b = (keras.saving.load_model(path / "model.keras") for path in (tmp_path / "run", tiny_run))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_damage_that_training_can_do_without_is_said_and_stepped_around(call, tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    for name in ("history.csv", "trajectory.npz", "samples/epoch-0001.png"):
        (run / name).write_bytes((run / name).read_bytes()[:-5])
    snapshot = run / "snapshots" / "snapshot-00000004.npz"
    data = bytearray(snapshot.read_bytes())
    data[1000] ^= 1
    snapshot.write_bytes(data)
    (run / "evaluation.json").write_text('{"weights": {}}')
    outcome = call("train.py", "--resume", "--run-dir", "run", "--steps", 8)
    said = [line for line in outcome.err.splitlines() if line.startswith("Warning: run/")]
    places = ["history.csv", "trajectory.npz", "evaluation.json", "epoch-0001.png", snapshot.name]
    for line, place in zip(said, places, strict=True):
        assert place in line and "damaged" in line
    with open(run / "history.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3", "4", "8"]
    assert (run / "trajectory.npz.damaged").exists() and not (run / "evaluation.json").exists()
    checksums.say_once.cache_clear()  # as in a process of its own
    outcome = call("sample.py", "run", "--sigma-rel", 0.1, "--num", 1, "--out", "a.npz")
    assert snapshot.name in outcome.err
    outcome = call("sample.py", "run", "--num", 1, "--out", "b.npz")
    assert "damaged" not in outcome.err


def test_evaluations(call, tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "one")
    shutil.copytree(tiny_run, tmp_path / "two")
    monkeypatch.setattr(consistency, "check_distinct", lambda runs: None)  # in place of a training
    settings = ["--num-images", 8, "--steps", 2]
    strategy = ["--strategy", "mirrored"]
    outcome = call("evaluate.py", "one", *settings, *strategy, "--weights", "ema", "--decay", "0.8")
    assert "posthoc_ema_0.8" in outcome.out
    assert len(list((tmp_path / "one" / "evaluation").glob("nearest-posthoc_ema_0.8-*.png"))) == 1
    assert "Nearest training images" in (tmp_path / "one" / "report.html").read_text()
    (classifier,) = (tmp_path / ".cache").glob("classifier-*.npz")
    classifier.write_bytes(classifier.read_bytes()[:-50])
    record = tmp_path / "one" / "evaluation.json"
    record.write_bytes(record.read_bytes()[:-50])
    mixed = ["one", "--weights", "raw", "ema_0.5", "--", "two"]
    outcome = call("evaluate.py", *settings, "--precision", "bfloat16", *mixed)
    assert "damaged" in outcome.out and "comparison.html" in outcome.out
    (line,) = [line for line in outcome.err.splitlines() if "one/evaluation.json" in line]
    assert "is damaged" in line and "it is kept as one/evaluation.json.damaged" in line
    assert record.exists()  # what was measured anew
    assert (tmp_path / "comparison.html").is_file()


# Standard streams that cannot take the output: shell redirections, status, and words of the error.
STREAMS = [
    ("--help | head -n 1", 0, ""),
    ("--help >&-", 0, ""),
    ("--help 2>&-", 0, ""),
    ("--help <&- >&- 2>&-", 0, ""),
    ("--steps 0 >&- 2>&-", 2, ""),
    ("--steps 0 2>/dev/full", 2, ""),
    ("--help >/dev/full", 2, "output cannot be written|No space left"),
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize(("arguments", "status", "words"), STREAMS)
def test_closed_and_full_streams(arguments, status, words, tmp_path):
    line = f"set -o pipefail; {sys.executable} {ROOT / 'train.py'} {arguments}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done
    assert len(done.stderr.splitlines()) == bool(words), done.stderr
    assert all(word in done.stderr for word in words.split("|"))
    assert not list(tmp_path.iterdir())


def test_work_outlives_its_reader_and_an_ascii_terminal(tiny_run, tmp_path):
    """As in `| head`, and where the terminal knows no é."""
    (tmp_path / "é").symlink_to(tiny_run)
    script = f"{sys.executable} {ROOT / 'sample.py'} é --num 2 --out é.npz 2>err | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, (tmp_path / "err").read_text()
    assert drawn(tmp_path / "é.npz").shape[0] == 2
    assert "rror" not in (tmp_path / "err").read_text()


def test_letters_that_a_terminal_does_not_know_are_spelled_out(tiny_run, tmp_path):
    script = [sys.executable, str(ROOT / "sample.py"), "é"]
    done = subprocess.run(
        script, cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"sample.py: there is no \\xe9")


def test_what_nobody_foresaw_is_one_line_and_a_file(monkeypatch, capfd, tmp_path):
    import tempfile

    def surprise(*arguments):
        raise KeyError("a\nsurprise")

    monkeypatch.setattr("ddpm_keras.app.cache.folder", surprise)
    make = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", lambda **names: make(dir=tmp_path, **names))
    work = tmp_path / "work"
    work.mkdir()
    outcome = call_command("train.py", folder=work, monkeypatch=monkeypatch, capfd=capfd)
    assert outcome.status == 1 and outcome.out == "" and len(outcome.err.splitlines()) == 1
    (report,) = tmp_path.glob("ddpm-keras-*.txt")
    assert outcome.err.startswith("train.py: KeyError") and str(report) in outcome.err
    assert report.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in report.read_text() and "surprise" in report.read_text()
    assert not list(work.iterdir())

    monkeypatch.setattr(tempfile, "mkstemp", lambda **names: make(dir=tmp_path / "no", **names))
    outcome = call_command("train.py", folder=work, monkeypatch=monkeypatch, capfd=capfd)
    assert outcome.status == 1 and "Traceback" in outcome.err


# Failures of files, disks and memory in the midst of the work.
FAILURES = [
    (OSError(28, "No space left on device"), "No space left"),
    (PermissionError(13, "Permission denied", "a/file"), "a/file|Permission denied"),
    (MemoryError(), "memory|--batch-size"),
]


@pytest.mark.parametrize(("error", "words"), FAILURES, ids=lambda value: str(value)[:20])
def test_failures_in_the_midst_of_the_work_are_one_line(error, words, monkeypatch, capfd, tmp_path):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("ddpm_keras.app.training.begin", fail)
    outcome = call_command("train.py", *TINY, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1, outcome
    assert all(word in outcome.err for word in words.split("|"))
