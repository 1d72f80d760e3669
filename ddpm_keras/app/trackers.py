"""--logger: where the numbers of each epoch go besides history.csv, which every run has."""

import hashlib
import importlib.util
import os
from dataclasses import asdict

from .. import choices
from ..errors import UsageError

PROJECT = "ddpm-keras"  # of W&B, and the experiment of MLflow


def check(options):
    """Refuses a logger whose package is missing, before TensorFlow is loaded.

    Args:
        options: a `TrainOptions`.

    Raises:
        UsageError: in one line with the command that installs it.
    """
    for name in options.logger:
        package = choices.LOGGERS[name]
        if package and importlib.util.find_spec(package) is None:
            raise UsageError(f"--logger {name} needs {package}: pip install {package}.")


def callbacks_of(run, options):
    """The callbacks that `--logger` asks for, a list.

    Args:
        run: a `Run`.
        options: its `TrainOptions`.
    """
    return [made for name in options.logger if (made := _MAKERS[name](run, options)) is not None]


def close(observers):
    """Ends the runs of trackers among the callbacks of a training that is over."""
    for each in observers:
        if hasattr(each, "close"):
            each.close()


def _tensorboard(run, options):
    from .. import callbacks

    return callbacks.TensorBoardScalars(run.tensorboard, asdict(options) | {"resume": False})


def _wandb(run, options):
    from .. import callbacks

    return callbacks.WandbScalars(PROJECT, **_of_run(run, options), directory=run.path)


def _mlflow(run, options):
    """MLflow writes where it is told to; where it is told nothing, into files beside the run."""
    from .. import callbacks

    beside = (run.path.resolve().parent / "mlruns").as_uri()
    told = os.environ.get("MLFLOW_TRACKING_URI")
    if not told:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # as MLflow 3.7 and later want
    return callbacks.MLflowScalars(
        PROJECT, **_of_run(run, options), tracking_uri=None if told else beside
    )


def _of_run(run, options):
    """What trackers are told of a run; one that is begun anew at the same place is another."""
    from ..data.words import shown  # with NumPy, which --help does without

    path = run.path.resolve()

    def identity():  # once config.json is there; older versions did not name the run
        return run.config.get("run") or hashlib.sha256(str(path).encode()).hexdigest()[:16]

    told = {key: shown(v) if isinstance(v, str) else v for key, v in asdict(options).items()}
    return {"name": shown(path.name), "config": told, "identity": identity}


_MAKERS = {
    "csv": lambda run, options: None,  # history.csv is a part of every run
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
