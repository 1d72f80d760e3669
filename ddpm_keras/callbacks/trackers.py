"""The numbers of each epoch for Weights & Biases and for MLflow, where these are installed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..aliases import PathLike
from ..data.words import reason
from ..errors import UsageError
from .needs import OfModel, told


class _Scalars(OfModel):
    """Writes the logs of each epoch at the optimizer step that they are of.

    Several calls of `fit` are one run of the tracker, which `close` ends.
    """

    needs = "steps_made"

    _called = "the tracker"
    _begun = False

    def __init__(self, identity):
        super().__init__()
        self._identity = identity

    def _begin(self):
        """Begins a run of the tracker, or goes on with it."""
        raise NotImplementedError

    def _write(self, numbers, step):
        """Tells it numbers by name, at an optimizer step."""
        raise NotImplementedError

    def _end(self):
        """Ends the run."""
        raise NotImplementedError

    @property
    def identity(self):
        """What the tracker knows the run by, or None."""
        return self._identity() if callable(self._identity) else self._identity

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._begun:
            try:
                self._begin()
            except Exception as error:  # of the network, a login, a store ...
                raise UsageError(
                    f"{self._called} begins no run ({reason(error)}): see to that, or leave "
                    f"{self._called} out."
                ) from error
            self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        numbers = {key: float(value) for key, value in (logs or {}).items() if value is not None}
        step = self.model.steps_made
        try:
            self._write(numbers, step)
        except Exception as error:  # a training is not to end by it
            told = f"{self._called} has not taken the numbers of step {step} ({reason(error)})"
            warnings.warn(f"{told}; going on without them.", stacklevel=2)

    def close(self) -> None:
        """Ends the run, if one was begun, and waits until the tracker has all of it.

        Where it has an identity, the next `fit` goes on with it.
        """
        if self._begun:
            self._end()
            self._begun = False


class WandbScalars(_Scalars):
    """Writes the logs of each epoch to Weights & Biases, against the optimizer step.

    Whatever W&B is told elsewhere holds: `wandb login`, `WANDB_MODE=offline`.

    Args:
        project: of W&B.
        name: of the run.
        config: dict name -> value of what the run was told.
        identity: of the run, letters and digits, or a function that gives it when training begins:
            where W&B knows it, that run goes on. None: a new one.
        directory: where W&B keeps its files.

    Raises:
        ImportError: wandb is not installed.
        ValueError: `project` is no name, or `config` no dict; when training begins, W&B begins no
            run.
    """

    _called = "W&B"

    def __init__(
        self,
        project: str,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        identity: str | Callable[[], str] | None = None,
        directory: PathLike | None = None,
    ):
        super().__init__(identity)
        config = _checked("project", project, config)
        self._wandb = importlib.import_module("wandb")
        self._settings = {
            **{"project": project, "name": name, "config": config},
            **{"dir": None if directory is None else str(directory), "resume": "allow"},
        }

    def _begin(self):
        self.run = self._wandb.init(id=self.identity, **self._settings)
        self.run.define_metric("*", step_metric="step")

    def _write(self, numbers, step):
        self.run.log(numbers | {"step": step})

    def _end(self):
        self.run.finish()


class MLflowScalars(_Scalars):
    """Writes the logs of each epoch to MLflow, at the optimizer step.

    Args:
        experiment: of MLflow.
        name: of the run.
        config: dict name -> value of what the run was told; its parameters.
        identity: of the run, or a function that gives it when training begins: where the experiment
            has one that was begun with it, that goes on. None: a new one.
        tracking_uri: where MLflow writes; None: as MLflow is told, such as by MLFLOW_TRACKING_URI.

    Raises:
        ImportError: mlflow is not installed.
        ValueError: `experiment` is no name, or `config` no dict; when training begins, MLflow
            begins no run.
    """

    _called = "MLflow"

    def __init__(
        self,
        experiment: str,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        identity: str | Callable[[], str] | None = None,
        tracking_uri: str | None = None,
    ):
        super().__init__(identity)
        self.config = _checked("experiment", experiment, config)
        self._mlflow = importlib.import_module("mlflow")
        self.experiment = experiment
        self.name = name
        self.tracking_uri = tracking_uri

    def _begin(self):
        if self.tracking_uri is not None:
            self._mlflow.set_tracking_uri(self.tracking_uri)
        client = self._mlflow.MlflowClient()
        known = client.get_experiment_by_name(self.experiment)
        place = known.experiment_id if known else client.create_experiment(self.experiment)
        identity = self.identity
        self.run_id = self._known_run(client, place, identity)
        if self.run_id is None:
            tags = {_IDENTITY: identity} if identity else {}
            self.run_id = client.create_run(place, tags=tags, run_name=self.name).info.run_id
            for key, value in self.config.items():
                client.log_param(self.run_id, key, value)
        self._client = client

    def _known_run(self, client, place, identity):
        if not identity:
            return None
        found = client.search_runs([place], f"tags.`{_IDENTITY}` = '{identity}'")
        return found[0].info.run_id if found else None

    def _write(self, numbers, step):
        for key, value in numbers.items():
            self._client.log_metric(self.run_id, key, value, step=step)

    def _end(self):
        self._client.set_terminated(self.run_id)


def _checked(argument, name, config):
    """The dict of a configuration, where the name under which numbers are kept is one."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{argument} must be a name; got {name!r}.")
    return told(config)


_IDENTITY = "ddpm_keras.run"  # a tag
