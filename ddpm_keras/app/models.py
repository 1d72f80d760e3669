"""The models that the commands read: of a run, or of a .keras file."""

import zipfile

from .. import (
    checksums,
    learning_rate,  # noqa: F401 (a saved optimizer may have one of its schedules)
)
from ..ddpm import DDPM
from ..errors import UsageError
from ..reading import keras_file
from . import devices, invocation


def load_model(run):
    """The model of a finished or interrupted run."""
    run.check_finished()
    run.note_state()
    again = invocation.command("train", "--resume", "--run-dir", run.path)
    cure = f"make it again with {again}"
    model = read_model(run.model, cure)
    if not isinstance(model, DDPM):
        raise UsageError(f"{run.model} holds a {type(model).__name__}, not a DDPM; {cure}.")
    return model


def load_to_draw(run, options):
    """The model of a run on the devices and in the precision of an `EvaluateOptions`."""
    with devices.strategy(options.strategy).scope():
        model = load_model(run)
    if options.precision:
        devices.compute_in(options.precision, model.network)
    return model


def read_model(path, cure):
    """The model of a .keras file.

    Raises:
        UsageError: it cannot be read; the line ends with the `cure`.
    """
    try:
        if not zipfile.is_zipfile(path):  # which Keras calls a file that is not there
            raise ValueError("it is cut short or no .keras file")
        checksums.check(path)
        return keras_file.load(path)
    except Exception as error:  # damaged files are refused in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{path} cannot be read as a model ({reason}); {cure}.") from None
