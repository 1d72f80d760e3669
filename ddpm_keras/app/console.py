"""What the commands share: exit status, one-line errors, and the loading of TensorFlow."""

import atexit
import contextlib
import gc
import importlib
import logging
import os
import sys
import tempfile
import traceback

from .. import backend, files
from ..errors import UsageError
from ..reading import bounds
from . import interrupt, invocation, output
from .cluster import WorkerLost

UNFORESEEN, WRONG_USE, DIVERGED = 1, 2, 3
_OPTIONAL = ("matplotlib", "pandas", "sklearn")  # a third of the time that importing Keras takes
WORKER_LOST = 75  # what sysexits.h calls EX_TEMPFAIL: it may be tried again


def run(main):
    """Runs `main(argv)` and turns what goes wrong into an exit status and one line.

    Returns:
        0 done; 1 nobody foresaw what went wrong, and the line names a file with the traceback; 2
        the command line or the input is wrong; 3 training diverged; 75 another worker was lost;
        128 + the number of the signal that has interrupted it: 130 of Ctrl-C, 143 of kill, 129 of a
        closed terminal.
    """
    interrupt.install()
    with output.guarded() as standard_output:
        status = _status(main)
        standard_output.flush()
        error = standard_output.error
        if error is None or isinstance(error, BrokenPipeError):  # as of `| head`, which has enough
            return status
        _complain(f"the output cannot be written ({error.strerror}); send it elsewhere.")
        return status or WRONG_USE


def _status(main):
    """The exit status of `main`, after one line on what went wrong."""
    try:
        with input_errors():
            bounds.most()  # of a wrong variable, which else every file would be said to be damaged
        return main(sys.argv[1:])
    except SystemExit as stop:  # of --help
        return stop.code or 0
    except UsageError as error:
        _complain(output.one_line(error))
        return WRONG_USE
    except WorkerLost as error:
        _complain(error)
        atexit.register(_end_at_once, WORKER_LOST)
        return WORKER_LOST
    except KeyboardInterrupt:
        print(f"\n{invocation.called()}: interrupted.", file=sys.stderr)
        return interrupt.status()
    except Exception as error:
        cause = _foreseen(error)
        _complain(output.one_line(cause) if cause else _unforeseen(error))
        return WRONG_USE if cause else UNFORESEEN


def _end_at_once(status):
    """Ends the process after its threads, in place of TensorFlow, which waits for what is lost."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _complain(words):
    print(f"{invocation.called()}: {words}", file=sys.stderr)


def _foreseen(error):
    """What to say where files, disks or memory fail, wherever it is; None for anything else."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "the memory does not suffice; use a smaller --batch-size or a smaller network."
    if isinstance(error, OSError) and error.errno is not None:
        return _file_error(error)
    return None


def _file_error(error):
    """An `OSError` in one line."""
    reason = error.strerror or type(error).__name__
    name = str(error.filename or "")
    place = name if len(name) < 300 else f"{name[:100]} ... {name[-100:]}"
    cure = "make room there" if error.errno in files.FULL else "give a place that can be written to"
    return f"{place}{': ' if place else ''}{reason}; {cure}."


def _unforeseen(error):
    """Puts the traceback into a file, which only its user can read, and says so."""
    text = "".join(traceback.format_exception(error))
    summary = output.one_line(f"{type(error).__name__}: {error}", 200)
    try:
        handle, path = tempfile.mkstemp(prefix="ddpm-keras-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{invocation.command_again(sys.argv[1:])}\n\n{text}")
    except OSError:
        return f"{summary}; please report it.\n{text}"
    return f"{summary}; nobody foresaw this: please report it with the file {path}."


@contextlib.contextmanager
def input_errors():
    """Reports a `ValueError` of the block as wrong input: one line, exit status 2."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(output.one_line(error)) from error
    except OSError as error:
        raise UsageError(_foreseen(error) or output.one_line(error)) from error


@contextlib.contextmanager
def disk_errors(again):
    """Reports an `OSError` of the block in one line that ends with the command to go on by."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise UsageError(f"{_file_error(error)} Then go on with {again}") from error


def load_tensorflow():
    """Imports TensorFlow with all processors, without the notes that it prints on the way.

    Left to itself, TensorFlow with oneDNN takes two processors for the two threads of one core, and
    computes on one of them.

    Raises:
        UsageError: Keras is to run on another backend.
    """
    backend.choose()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(os.cpu_count()))
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        tensorflow = sys.modules.get("tensorflow") or _import_tensorflow()
        tensorflow.config.list_physical_devices()  # looks for a GPU, and complains of its absence
        tensorflow.get_logger().setLevel("ERROR")
    except ImportError as error:
        raise UsageError(
            f"TensorFlow cannot be imported ({error}); install it with pip install tensorflow."
        ) from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import_tensorflow():
    with _collected_later(), _left_out(*_OPTIONAL):
        return importlib.import_module("tensorflow")


@contextlib.contextmanager
def _collected_later():
    """Keeps the garbage collector off what the block makes, all of which is there to stay.

    It would go through the growing heap of modules again and again, which is a part of what an
    import takes (docs/performance.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _left_out(*packages):
    """Has what is imported in the block do without these packages, unless they are there already.

    Keras and TensorFlow import them where they are installed, for what no command uses.
    """
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # None: an ImportError, as if not installed
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


@contextlib.contextmanager
def log_kept_back(name):
    """Keeps all but errors off the log of this name, where the rest is printed already."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
