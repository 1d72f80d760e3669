"""The installed command: `ddpm-keras train ...`, `sample`, `evaluate` and `report`.

Each job is the script of its name. A checkout has `train.py`, `sample.py` and `evaluate.py` at its
top level; the wheel carries the same files beside this module.
"""

import difflib
import functools
import importlib.util
import os
import sys
from pathlib import Path

from ..errors import UsageError
from ..version import __version__
from . import console

JOBS = {
    "train": "train DDPM and its averages into a run directory",
    "sample": "draw images from a run, a .keras file or a diffusers folder",
    "evaluate": "measure every weight set of runs, and write their reports",
    "report": "write the reports of runs again from what their directories hold",
}


def main(launcher="ddpm-keras"):
    """Runs the job that the command line names.

    Args:
        launcher: how this command was called, for what it prints.

    Returns:
        The exit status, as of `console.run`; 2 for a job that does not exist.
    """
    job, arguments = "".join(sys.argv[1:2]), sys.argv[2:]
    sys.argv = [f"{launcher} {job}" if job in JOBS else launcher, *arguments]
    return console.run(functools.partial(_do, launcher, job))


def _do(launcher, job, arguments):
    """Does a job, or says what there is to say without one; the exit status."""
    if job in JOBS:
        return _script(job).main(arguments)
    if job not in ("-h", "--help", "--version"):
        raise UsageError(_unknown(job))
    print(f"ddpm-keras {__version__}" if job == "--version" else _help(launcher))
    return 0


def _script(job):
    """The script of a job, loaded as a module."""
    path = Path(__file__).with_name(f"{job}.py")
    if not path.exists():
        path = Path(__file__).parents[2] / path.name
    spec = importlib.util.spec_from_file_location(f"{__package__}.{job}", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    os.environ.pop("DDPM_KERAS_LAZY", None)  # for the import of the package, which is over
    return script


def _help(launcher):
    lines = [f"usage: {launcher} JOB [options]", "", "jobs:"]
    lines += [f"  {job:10}{does}" for job, does in JOBS.items()]
    return "\n".join([*lines, "", f"{launcher} JOB --help lists the options of a job."])


def _unknown(job):
    close = difflib.get_close_matches(job, JOBS, 1)
    cure = f"did you mean {close[0]}?" if close else f"name one of {', '.join(JOBS)}."
    return f"there is no job {job!r}; {cure}"
