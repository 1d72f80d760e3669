"""What the commands share: exit status, one-line errors, and the loading of TensorFlow."""

import contextlib
import importlib
import json
import os
import sys

from ..errors import UsageError
from . import interrupt, invocation

WRONG_USE, DIVERGED, INTERRUPTED = 2, 3, 130


def run(main):
    """Runs `main(argv)` and turns what goes wrong into an exit status.

    Returns:
        0 done; 2 the command line or the input is wrong; 3 training diverged; 130 interrupted.
    """
    interrupt.install()
    try:
        return main(sys.argv[1:])
    except UsageError as error:
        print(f"{invocation.called()}: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(f"\n{invocation.called()}: interrupted.", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def input_errors():
    """Reports a `ValueError` of the block as wrong input: one line, exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from error


def load_tensorflow():
    """Imports TensorFlow with all processors, without the notes that it prints on the way.

    Left to itself, TensorFlow with oneDNN takes two processors for the two threads of one core, and
    computes on one of them.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(os.cpu_count()))
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.list_physical_devices()  # looks for a GPU, and complains of its absence
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def is_chief():
    """Whether this process writes the run directory: the first worker of TF_CONFIG, or alone.

    Raises:
        UsageError: TF_CONFIG is not what TensorFlow understands.
    """
    try:
        settings = json.loads(os.environ.get("TF_CONFIG") or "{}")
        task, cluster = settings.get("task"), settings.get("cluster", {})
        if not task:
            return True
        return task["type"] == "chief" or (int(task["index"]) == 0 and "chief" not in cluster)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}.'
        ) from None
