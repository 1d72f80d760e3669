"""Shared by the tables of wrong inputs: a call or a command that must be refused in one line."""

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
import warnings

import pytest

SCRIPTS = ("train", "sample", "evaluate")

# A training of seconds, which evaluates nothing.
TINY = (
    "--steps 6 --epoch-steps 3 --log-every-steps 2 --batch-size 8 --timesteps 20 "
    "--channel-multipliers 1 --attention-resolutions --ema 0.5 0.9 --ema-schedule constant "
    "--validation-images 8 --num-images 8 --snapshots 3 --quality-every-epochs 0 --no-evaluate"
).split()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command ended with."""

    status: int
    out: str
    err: str


def call_command(script, *arguments, folder, monkeypatch, capfd):
    """Runs a top-level script in this process, in `folder`, as its user would.

    Args:
        script: "train.py", "sample.py" or "evaluate.py".
        arguments: of the command line, made strings.
        folder: the working directory; the cache is put below it.

    Returns:
        An `Outcome`.
    """
    capfd.readouterr()
    status = command_status(script, *arguments, folder=folder, monkeypatch=monkeypatch)
    return Outcome(status, *capfd.readouterr())


def command_status(script, *arguments, folder, monkeypatch=None):
    """The exit status of a top-level script, run in this process as by `call_command`."""
    with contextlib.ExitStack() as stack:
        patch = monkeypatch or stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("DDPM_KERAS_CACHE", str(folder / ".cache"))
        patch.setenv("DDPM_KERAS_LAZY", "1")  # which scripts set, for this process and its own
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        module = importlib.import_module(script.removesuffix(".py"))
        os.environ.pop("DDPM_KERAS_LAZY", None)  # of the script, for an import that is over
        for number in (signal.SIGINT, signal.SIGTERM):  # which commands take over
            stack.callback(signal.signal, number, signal.getsignal(number))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")  # as outside of tests
        return module.console.run(module.main)


def assert_refused_in_one_line(outcome, script, words, folder, before=()):
    """Exit status 2, one line that holds all `words`, and nothing written in `folder`."""
    lines = outcome.err.strip().splitlines()
    assert outcome.status == 2, outcome
    assert len(lines) == 1 and lines[0].startswith(f"{script}: "), outcome.err
    missing = [word for word in words if word not in lines[0]]
    assert not missing, f"{missing} not in: {lines[0]}"
    assert "Traceback" not in outcome.err
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - set(before)
    # Images that were prepared before the mistake was found are as good the next time.
    left = {name for name in left if name != ".cache" and not name.startswith(".cache/images")}
    assert not left, left


def assert_refused(call, words, error=ValueError):
    """`call()` raises `error` with a message of one line that holds all `words`."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert len(text.strip().splitlines()) == 1, text
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"
