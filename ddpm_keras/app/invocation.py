"""How this process was called, so that every command it prints can be typed as it stands."""

import os
import shlex
import sys

from .. import files


def program(job):
    """Name of `job` as its user calls it: "train.py", or "ddpm-keras train" once installed."""
    launcher = _launcher()
    return f"{launcher} {job}" if launcher else f"{job}.py"


def command(job, *arguments):
    """The line that does `job`, "train" or "sample" say, from where this process was called.

    Args:
        job: name of a command.
        *arguments: its arguments; anything with a `str`.
    """
    words = program(job).split() if _launcher() else ["python", program(job)]
    return shlex.join([*words, *map(files.typed, arguments)])


def command_again(argv):
    """The command that was given, to be repeated with `argv`."""
    return command(called().removesuffix(".py").rpartition(" ")[2], *argv)


def called():
    """Name of this command for its messages: "train.py" or "ddpm-keras train"."""
    return os.path.basename(sys.argv[0])


def _launcher():
    """What stands before the job: "ddpm-keras", "python -m ddpm_keras", or "" for a script."""
    return called().rpartition(" ")[0]
