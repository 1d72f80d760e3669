"""What a run survives: a second process, signals, what killed ones leave, changes on resume."""

import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import TINY, call_command

from ddpm_keras import DDPM, UNet
from ddpm_keras.app import epoch_end, interrupt, training
from ddpm_keras.app.alone import LOCK, alone, tidy
from ddpm_keras.app.recorders import Checkpoints, StillThere
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError

SOAK = Path(__file__).parent / "soak"
sys.path.insert(0, str(SOAK))
import runs  # noqa: E402


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run, of six steps."""
    return Run(shutil.copytree(tiny_run, tmp_path / "run"))


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# One process a run directory


@pytest.mark.parametrize(
    "command",
    ["train.py --resume --run-dir run", "train.py --run-dir run", "evaluate.py run"],
)
def test_a_second_process_is_refused_in_one_line(command, run, tmp_path, monkeypatch, capfd):
    with alone(run.path):
        before = files(tmp_path)
        script, *arguments = command.split()
        outcome = call_command(
            script, *arguments, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
        )
        (line,) = outcome.err.splitlines()
        assert outcome.status == 2 and "run is in use by another process" in line
        assert files(tmp_path) == before


def test_a_directory_made_for_a_lock_goes_with_it_unless_something_was_written(tmp_path):
    path = tmp_path / "new" / "run"
    with alone(path, path):
        assert (path / LOCK).exists()
        with pytest.raises(UsageError, match="in use"), alone(path / ".." / "run"):
            pass
    assert files(tmp_path) == set()
    with alone(path):
        (path / "config.json").touch()
    assert files(path) == {"config.json"}


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    code = f"""
import os, signal
from ddpm_keras.app.alone import alone
with alone({str(tmp_path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"DDPM_KERAS_LAZY": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    assert files(tmp_path) == {LOCK}
    with alone(tmp_path):
        pass
    assert files(tmp_path) == set()


def test_where_there_are_no_locks_a_run_is_used_with_a_warning(tmp_path, monkeypatch):
    def acquire(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.warns(UserWarning, match="cannot be locked .No locks available.*once at a time"):
        with alone(tmp_path):
            pass


def test_a_lock_that_is_a_folder_is_no_lock(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.warns(UserWarning, match="cannot be locked"), alone(tmp_path):
        pass
    assert files(tmp_path) == {LOCK}


def test_what_a_killed_process_left_half_done_is_removed(run):
    before = files(run.path)
    (run.samples / ".partial-abc-epoch-0003.png").touch()
    (run.path / ".partial-abc-config.json").touch()
    (run.checkpoints / "step-00000009.weights.h5").touch()
    tidy(run)
    assert files(run.path) == before


# Signals


@pytest.fixture
def signals():
    """Takes over the signals as commands do."""
    kept = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup starts ignores it
    interrupt.install()
    yield
    interrupt.install()  # which forgets what has come
    for number, handler in kept.items():
        signal.signal(number, handler)


def send(number=signal.SIGINT, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_a_command_with_the_status_that_a_shell_expects(signals, number, status):
    with pytest.raises(KeyboardInterrupt):
        send(number)
    assert interrupt.status() == status


def test_signals_wait_for_the_end_of_what_is_held(signals):
    with interrupt.held():
        send(times=5)
        interrupt.check()
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()
    interrupt.check()


def test_signals_wait_for_a_safe_place_but_not_many(signals):
    with pytest.raises(KeyboardInterrupt) as at_once, interrupt.safe_places():
        send()  # there was no such place yet
    assert at_once.type is KeyboardInterrupt
    interrupt.install()
    with pytest.raises(interrupt.Interrupted), interrupt.safe_places():
        interrupt.stop_here()
        send(times=interrupt.PATIENCE)
        interrupt.check()  # as a bar does
        try:
            interrupt.stop_here()
        finally:
            send(times=5)  # while all is saved
    interrupt.install()
    with pytest.raises(KeyboardInterrupt) as impatient, interrupt.safe_places():
        interrupt.stop_here()
        send(times=interrupt.PATIENCE + 1)
    assert impatient.type is KeyboardInterrupt


def test_a_closed_terminal_does_not_end_what_nohup_started(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt.install()
    send(signal.SIGHUP)


# Going on


def resumed(arguments, monkeypatch, capfd, run, error=interrupt.Interrupted):
    """The outcome of going on with a run that is interrupted at once."""

    def fit(*_):
        raise error

    monkeypatch.setattr(training, "fit", fit)
    command = ["train.py", "--resume", "--run-dir", "run", *arguments.split()]
    return call_command(*command, folder=run.path.parent, monkeypatch=monkeypatch, capfd=capfd)


def test_what_changes_on_resume_is_stored(run, monkeypatch, capfd):
    before = run.config
    outcome = resumed("--steps 9 --keep 3", monkeypatch, capfd, run)
    assert outcome.status == 130, outcome
    assert "everything is saved. To go on:\n  python train.py --resume --run-dir run" in outcome.out
    assert (run.options.steps, run.options.keep, run.options.resume) == (9, 3, False)
    assert run.config["first_steps"] == before["first_steps"] == 6
    options = before["options"] | {"steps": 9, "keep": 3}
    assert run.config == before | {"options": options} and run.config["finished"] == 6


def test_a_run_goes_on_with_as_many_replicas_as_it_began_with(run, monkeypatch, capfd):
    run.write_config(run.config | {"replicas": 2})
    outcome = resumed("", monkeypatch, capfd, run)
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
    assert "run was begun on 2 replicas, and here are 1" in outcome.err


def test_a_run_that_was_moved_says_what_is_another(run, monkeypatch, capfd):
    run.write_config(run.config | {"versions": run.config["versions"] | {"processors": 999}})
    outcome = resumed("--steps 9", monkeypatch, capfd, run)
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("Note: ")]
    assert line.startswith("Note: processors was 999 and is ") and "round otherwise" in line


def test_a_disk_that_fails_is_told_in_one_line_with_the_way_on(run, monkeypatch, capfd):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/samples/epoch-0003.png")
    outcome = resumed("", monkeypatch, capfd, run, error)
    (line,) = outcome.err.splitlines()
    assert outcome.status == 2 and "run/samples/epoch-0003.png: No space left" in line
    assert "make room" in line and "python train.py --resume --run-dir run" in line


def test_a_folder_that_tensorboard_cannot_have_is_told_in_one_line(run, monkeypatch, capfd):
    shutil.rmtree(run.tensorboard)
    run.tensorboard.touch()
    outcome = call_command(
        *"train.py --resume --run-dir run --steps 7".split(),
        folder=run.path.parent, monkeypatch=monkeypatch, capfd=capfd,
    )  # fmt: skip
    lines = [line for line in outcome.err.splitlines() if line.startswith("train.py: ")]
    assert outcome.status == 2 and len(lines) == 1 and "tensorboard" in lines[0], outcome
    assert "Traceback" not in outcome.err


def test_nothing_is_recorded_before_the_first_checkpoint_is_there(tmp_path, network, monkeypatch):
    def write_checkpoint(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = DDPM(network, ema=0.9)
    model.compile("sgd")
    callback = Checkpoints(Run(tmp_path))
    callback.set_model(model)
    monkeypatch.setattr(Run, "write_checkpoint", write_checkpoint)
    with pytest.raises(OSError, match="No space left"):
        callback.on_train_begin()


def test_a_first_checkpoint_that_is_there_is_not_written_anew(tmp_path, network):
    """It would note pictures as made by step 0 that an interrupted training left."""
    model, run = DDPM(network, ema=0.9), Run(tmp_path)
    model.compile("sgd")
    records = []
    for picture in ("epoch-0001-raw.png", "epoch-0002-raw.png"):
        callback = Checkpoints(run)
        callback.set_model(model)
        callback.on_train_begin()
        run.samples.mkdir(exist_ok=True)
        (run.samples / picture).write_bytes(b"a picture")
        records.append((run.checkpoints / "step-00000000.json").read_bytes())
    assert records[0] == records[1] and b"epoch" not in records[0]


def test_a_run_that_is_removed_while_it_trains_is_not_made_again(tmp_path):
    run = Run(tmp_path / "run")
    run.write_config({})
    callback = StillThere(run)
    callback.on_train_begin()
    callback.on_epoch_end(0)
    shutil.rmtree(run.path)
    run.samples.mkdir(parents=True)  # made by what came in between
    with pytest.raises(UsageError, match="config.json was removed while it was needed"):
        callback.on_train_batch_end(0)


@pytest.mark.parametrize("place", ["ValidationLoss", "Checkpoints"])  # pictures were drawn before
def test_a_signal_does_not_wait_for_what_an_epoch_ends_with(
    place, tiny_run, tmp_path, monkeypatch, capfd
):
    class Signal(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert (tmp_path / "run" / "samples" / "epoch-0001.png").exists()
            send(signal.SIGTERM)
            pytest.fail("the end of an epoch went on")

    def watched(*arguments):
        found = observers(*arguments)
        at = [type(each).__name__ for each in found].index(place)
        return [*found[:at], Signal(), *found[at:]]

    observers = training.observers
    monkeypatch.setattr(training, "observers", watched)
    call = functools.partial(call_command, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    outcome = call("train.py", *TINY, "--run-dir", "run")
    assert outcome.status == 143 and "Interrupted at step 3; everything is saved" in outcome.out
    monkeypatch.setattr(training, "observers", observers)
    outcome = call("train.py", "--resume", "--run-dir", "run")
    assert outcome.status == 0 and "damaged" not in outcome.err, outcome
    one, other = map(runs.contents, (tiny_run, tmp_path / "run"))
    for found in (one, other):
        found["model.keras"] = found["model.keras"][1]  # not the names of layers
    assert [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)] == []


def test_an_interrupt_of_a_report_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    import evaluate
    from ddpm_keras import report

    def interrupted(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    monkeypatch.setattr(evaluate, "measured", lambda run, options, again: "numbers")
    monkeypatch.setattr(report, "write", interrupted)
    assert evaluate.evaluate([Run(tmp_path)], None, ["a run"]) == 130
    assert "numbers" in (said := capsys.readouterr().out)
    assert said.endswith("To go on:\n  python evaluate.py 'a run'\n")


@pytest.mark.parametrize(
    ("path", "typed"), [("a b", "'a b/tensorboard'"), ("-c", "./-c/tensorboard")]
)
def test_where_to_look_can_be_typed(path, typed, tmp_path, monkeypatch):
    from ddpm_keras.app import training

    monkeypatch.chdir(tmp_path)
    run = Run(path)
    run.tensorboard.mkdir(parents=True)
    assert training.next_steps(run).endswith(f"\n      tensorboard --logdir {typed}")


def test_an_interval_of_the_history_that_was_interrupted_is_gone_on_with(tmp_path):
    from ddpm_keras.app.checkpoints import metric_values, set_metrics

    metric = keras.metrics.Mean("loss")
    model = types.SimpleNamespace(metrics=[metric])
    set_metrics(model, {"loss": [1.5, 3.0], "other": [1.0]})
    assert metric_values(model) == {"loss": [1.5, 3.0]}
    set_metrics(model, {})  # of a checkpoint before there were any
    assert metric_values(model) == {"loss": [1.5, 3.0]}


# The soak in small


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
@pytest.mark.parametrize("command", ["kills.py --kills 4", "full_disk.py --limits 1"])
def test_soak(command):
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(SOAK / script), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_an_epoch_ends_with_runs_in_the_graphs_that_fit_runs():
    """Else a pixel, or the last digit of a validation loss, is another after a resume."""
    model = DDPM(UNet((8, 8, 1), 4, (1,), attention_resolutions=()), timesteps=20)
    model.compile("adam")
    seen = []

    def look(epoch, logs):
        seen.append(tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer"))

    watch = keras.callbacks.LambdaCallback(on_epoch_end=look)
    model.fit(np.zeros((4, 8, 8, 1), np.uint8), batch_size=4, verbose=0, callbacks=[watch])
    epoch_end.finish(model, 0, [watch], None)
    assert seen == [True, True]
