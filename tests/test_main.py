"""The installed command: `ddpm-keras JOB ...`, in a checkout by `python -m ddpm_keras JOB ...`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import SCRIPTS, Outcome, assert_refused_in_one_line

from ddpm_keras.app import invocation
from ddpm_keras.app.main import JOBS, main

ROOT = Path(__file__).parents[1]

LAUNCHERS = ("ddpm-keras", "python -m ddpm_keras")


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """`call(arguments, launcher)`: the outcome of the command in an empty folder."""

    def outcome(arguments, launcher="ddpm-keras"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ddpm-keras", *arguments])
        return Outcome(main(launcher), *capfd.readouterr())

    return outcome


WRONG = [
    ([], "ddpm-keras", ["train, sample, evaluate, report"]),
    (["trian"], "ddpm-keras", ["'trian'", "did you mean train?"]),
    (["--steps", "3"], "ddpm-keras", ["'--steps'", "name one of"]),
    (["train.py"], "ddpm-keras", ["did you mean train?"]),
    (["train", "--stesp", "3"], "ddpm-keras train", ["--stesp", "--steps?"]),
    (["train", "--steps"], "ddpm-keras train", ["see ddpm-keras train --help."]),
    (["train", "--resume"], "ddpm-keras train", []),
    (["sample"], "ddpm-keras sample", ["name one source"]),
    (["sample", "nowhere"], "ddpm-keras sample", ["there is no nowhere", "ddpm-keras train makes"]),
    (["evaluate"], "ddpm-keras evaluate", ["name run directories"]),
    (["evaluate", "nowhere"], "ddpm-keras evaluate", ["nowhere", "ddpm-keras train made"]),
    (["report"], "ddpm-keras report", ["name run directories"]),
    (["report", "nowhere"], "ddpm-keras report", ["nowhere", "ddpm-keras train made"]),
    (["report", "--open"], "ddpm-keras report", ["--open"]),
]


@pytest.mark.parametrize("arguments, program, words", WRONG)
def test_wrong_command_lines_are_refused_by_the_name_they_were_called(
    arguments, program, words, call, tmp_path
):
    assert_refused_in_one_line(call(arguments), program, words, tmp_path)


def test_every_script_is_a_job():
    assert set(SCRIPTS) == set(JOBS) - {"report"} == {path.stem for path in ROOT.glob("*.py")}


FULL = [
    (["--help"], 2, "output cannot be written"),
    (["--version"], 2, "output cannot be written"),
    (["report", "--help"], 2, "output cannot be written"),
    (["trian"], 2, "did you mean train?"),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("arguments, status, words", FULL)
def test_a_full_disk_is_one_line_before_there_is_a_job(arguments, status, words):
    command = [sys.executable, "-m", "ddpm_keras", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr


def test_an_interrupt_while_a_command_is_imported_shows_no_traceback():
    code = "import ddpm_keras, os, signal; os.kill(os.getpid(), signal.SIGINT)"
    variables = os.environ | {"DDPM_KERAS_LAZY": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and not done.stderr


def test_help_names_every_job_and_version_is_told(call):
    import ddpm_keras

    for launcher in LAUNCHERS:
        outcome = call(["--help"], launcher)
        assert outcome.status == 0 and outcome.out.startswith(f"usage: {launcher} JOB")
        assert all(f"  {job} " in outcome.out for job in JOBS)
    assert call(["--version"]).out == f"ddpm-keras {ddpm_keras.__version__}\n"


SECTIONS = {
    "train": [
        *("options", "data", "network", "diffusion", "averages", "optimisation"),
        *("the run directory", "the end"),
    ],
    "sample": [
        *("positional arguments", "options", "what to draw", "how to draw it"),
        "something else than images from noise",
    ],
    "evaluate": [
        *("positional arguments", "options", "two folders instead of runs", "the measure"),
        *("weight sets", "drawing"),
    ],
    "report": ["positional arguments", "options"],
}


@pytest.mark.parametrize("job", JOBS)
def test_help_of_a_job_is_grouped_and_loads_no_tensorflow(job):
    command = [sys.executable, "-X", "importtime", "-m", "ddpm_keras", job, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m ddpm_keras {job} [options]")
    lines = done.stdout.splitlines()
    assert [x[:-1] for x in lines if x.endswith(":") and x[0] != " "] == SECTIONS[job]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"tensorflow", "keras", "matplotlib"}


CALLED = {
    "/home/me/code/train.py": ("train.py", "python sample.py runs/a"),
    "train.py": ("train.py", "python sample.py runs/a"),
    "ddpm-keras train": ("ddpm-keras train", "ddpm-keras sample runs/a"),
    "python -m ddpm_keras train": (
        "python -m ddpm_keras train",
        "python -m ddpm_keras sample runs/a",
    ),
}


@pytest.mark.parametrize("called", CALLED)
def test_printed_commands_can_be_typed_as_they_stand(called, monkeypatch):
    program, sample = CALLED[called]
    monkeypatch.setattr(sys, "argv", [called])
    assert invocation.called() == invocation.program("train") == program
    assert invocation.command("sample", Path("runs/a")) == sample
    assert invocation.command("sample", "my run").endswith("'my run'")
    assert invocation.command("sample", Path("-x"), "--num", -1).endswith(" ./-x --num -1")
    prefix = "python train.py" if program == "train.py" else program
    assert invocation.command_again(["--ema", "0.9"]) == f"{prefix} --ema 0.9"


def test_a_report_names_the_commands_as_the_run_was_called(tmp_path):
    from ddpm_keras import report
    from ddpm_keras.app.run_directory import Run
    from ddpm_keras.files import write_json

    for trained, command in (
        ("python train.py --steps 5", "python evaluate.py"),
        ("ddpm-keras train --steps 5", "ddpm-keras evaluate"),
        ("python -m ddpm_keras train", "python -m ddpm_keras evaluate"),
    ):
        run = tmp_path / "run"
        write_json(run / "config.json", {"command": trained, "options": {}, "data": {}})
        page = report.write(Run.open(run)).read_text(encoding="utf-8")
        assert f"{command} {run}" in page
