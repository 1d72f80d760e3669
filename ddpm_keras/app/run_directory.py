"""A run directory: configuration, history, checkpoints and what a run leaves behind.

Every file appears under its final name only when it is complete. A checkpoint counts only with its
record, a JSON file that is written after it and holds its SHA-256.
"""

import csv
import json
import time
import warnings
from pathlib import Path

from .. import files, names
from ..errors import UsageError
from . import invocation
from .options import stored_options


def _damaged(path, reason):
    """The error for a file of a run that cannot be read."""
    return UsageError(f"{path} is damaged ({reason}); restore it, or begin a new run.")


def fresh_path(root, name):
    """The first of root/name, root/name-2, root/name-3 ... that does not exist yet."""
    path, number = Path(root) / name, 1
    while path.exists():
        number += 1
        path = Path(root) / f"{name}-{number}"
    return path


def newest(root):
    """The run below `root` whose configuration was written last.

    Raises:
        UsageError: there is none.
    """
    configs = sorted(Path(root).glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UsageError(f"There is no run in {root}/ to continue; name one with --run-dir.")
    return configs[-1].parent


class Run:
    """The files of one run.

    Args:
        path: the directory. Nothing is created before it is written to.

    Attributes:
        path: the directory, a `Path`.
        samples, snapshots, tensorboard, checkpoints: its sub-directories.
        features: the folder of what an evaluation keeps, to go on with.
        config_file, history, trajectory, evaluation: the records, each a file.
        model: the file with raw weights, averages and optimizer.
        network: the file of the averaged network, to ship.
        report, report_folder: the page, and its figures and tables as files of their own.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.samples = self.path / "samples"
        self.snapshots = self.path / "snapshots"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.features = self.path / "evaluation"
        self.config_file = self.path / "config.json"
        self.model = self.path / "model.keras"
        self.network = self.path / "network-ema.keras"
        self.history = self.path / "history.csv"
        self.trajectory = self.path / "trajectory.npz"
        self.evaluation = self.path / "evaluation.json"
        self.report = self.path / "report.html"
        self.report_folder = self.path / "report"

    @classmethod
    def open(cls, path):
        """A run that exists.

        Raises:
            UsageError: `path` is not a run directory.
        """
        run = cls(path)
        if not run.config_file.is_file():
            raise UsageError(
                f"{path} is not a run directory (it has no config.json); "
                f"give one that {invocation.program('train')} made, such as runs/digits."
            )
        return run

    @property
    def config(self):
        """The configuration, a dict with "options", "command", "versions" and "data".

        Raises:
            UsageError: config.json is damaged.
        """
        try:
            config = json.loads(self.config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _damaged(self.config_file, error) from None
        if not isinstance(config, dict):
            raise _damaged(self.config_file, "it holds no options")
        return config

    @property
    def options(self):
        """The `TrainOptions` of the run.

        Raises:
            UsageError: config.json is damaged, or of another version.
        """
        values = self.config.get("options")
        if not isinstance(values, dict):
            raise _damaged(self.config_file, "it holds no options")
        try:
            return stored_options(values)
        except UsageError as error:
            raise _damaged(self.config_file, str(error).rstrip(".")) from None

    @property
    def data(self):
        """What config.json says of the images: a dict with "fingerprint", "num_classes" ..."""
        data = self.config.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("fingerprint"), str):
            raise _damaged(self.config_file, "it does not say what the images were")
        return data

    def write_config(self, config):
        """Writes config.json."""
        files.write_json(self.config_file, config)

    # Checkpoints

    def save_checkpoint(self, model, step, keep=2):
        """Saves weights, averages, optimizer and counters, then removes all but the last `keep`.

        The record holds what the metrics have summed up since they were reset, too.

        Args:
            model: a built `keras.Model`.
            step: optimizer steps made so far.
            keep: number of checkpoints to keep, at least 1.
        """
        from ..keras_internals import weights_file  # with TensorFlow, which a model has loaded

        target = self.checkpoints / names.checkpoint(step)
        with files.atomic_path(target) as temporary:
            temporary.write_bytes(weights_file(model))
        record = {"step": step, "sha256": files.sha256(target), "time": time.time()}
        record["metrics"] = metric_values(model)
        files.write_json(self.checkpoints / names.checkpoint_record(step), record)
        for path in self._records()[:-keep]:
            path.unlink()
            _weights_of(path).unlink(missing_ok=True)

    def restore(self, model):
        """Loads the newest checkpoint that is whole into `model`.

        Returns:
            The optimizer steps it stands at; 0, with nothing loaded, where there is no checkpoint.

        Raises:
            UsageError: there are checkpoints, and none is whole.
        """
        records = self._records()
        whole = [path for path in records if _is_whole(path)]
        if records and not whole:
            raise UsageError(
                f"no checkpoint in {self.checkpoints} is whole; restore one, or begin a new run."
            )
        if not whole:
            return 0
        for path in records[records.index(whole[-1]) + 1 :]:
            warnings.warn(f"{path.stem} is damaged; going back to the one before.", stacklevel=2)
        model.load_weights(_weights_of(whole[-1]))
        record = _read_record(whole[-1])
        set_metrics(model, record.get("metrics", {}))
        return record["step"]

    def restore_step(self, model, step):
        """Loads the checkpoint of a step into `model`.

        Raises:
            UsageError: it is damaged.
        """
        record = self.checkpoints / names.checkpoint_record(step)
        if not _is_whole(record):
            raise UsageError(f"{record.stem} of {self.path} is damaged; name another --step.")
        model.load_weights(_weights_of(record))

    @property
    def checkpoint_steps(self):
        """The steps of the checkpoints of trained weights, by their names, ascending."""
        return list(filter(None, (names.parse_checkpoint(path.name) for path in self._records())))

    @property
    def last_step(self):
        """The step of the newest checkpoint, by its name; 0 where there is none."""
        return max(self.checkpoint_steps, default=0)

    @property
    def snapshot_steps(self):
        """The steps of the snapshots that averages can be made of, ascending."""
        steps = (names.parse_snapshot(path.name) for path in self.snapshots.glob("*"))
        return sorted(step for step in steps if step)  # step 0 holds the initial weights alone

    def _records(self):
        """The records of the checkpoints, oldest first."""
        found = self.checkpoints.glob("*.json")
        return sorted(path for path in found if names.parse_checkpoint(path.name) is not None)

    def check_finished(self):
        """Refuses a run that has no model yet.

        Raises:
            UsageError: in one line that says how to finish it.
        """
        if not self.model.is_file():
            raise UsageError(
                f"{self.path} has no model.keras yet; finish it with "
                + invocation.command("train", "--resume", "--run-dir", self.path)
            )

    def check_records(self):
        """Refuses damaged records of the training, which would be missed only at its end.

        Raises:
            UsageError: in one line that names the file.
        """
        self.read_history()
        self.read_trajectory()

    def check_new(self):
        """Refuses a directory that something of a run lies in already.

        Raises:
            UsageError: in one line that says how to go on.
        """
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{self.path} is no UTF-8, as TensorFlow needs it; name another --run-dir."
            ) from None
        if self.config_file.exists():
            raise UsageError(
                f"{self.path} holds a run already; add --resume to continue it, or name another "
                "--run-dir."
            )
        left = [self.checkpoints, self.snapshots, self.samples, self.tensorboard]
        left += [self.model, self.history, self.trajectory, self.evaluation]
        for path in filter(Path.exists, left):
            raise UsageError(
                f"{path} is there, of a run without its config.json; name another --run-dir."
            )

    # Evaluation

    def read_evaluations(self):
        """What evaluation.json holds, or None where the run has not been evaluated."""
        from ..quality.record import Evaluations  # with NumPy, which --help does without

        return Evaluations.read(self.evaluation)

    def evaluations_with(self, evaluation):
        """What evaluation.json holds, and a newer `Evaluation`; nothing is written."""
        return evaluation.after(self.read_evaluations())

    # History

    def read_history(self):
        """The rows of history.csv as dicts of numbers, without cells that were not measured."""
        if not self.history.is_file():
            return []
        try:
            with open(self.history, newline="", encoding="utf-8") as file:
                rows = [
                    {k: _number(v) for k, v in row.items() if v} for row in csv.DictReader(file)
                ]
        except (ValueError, csv.Error) as error:
            raise _damaged(self.history, error) from None
        return [row for row in rows if None not in row.values() and "step" in row]

    def read_trajectory(self):
        """The arrays of trajectory.npz, see `callbacks.Trajectory`; {} where there is none.

        Raises:
            UsageError: it is damaged.
        """
        if not self.trajectory.is_file():
            return {}
        from ..reading import npz  # with NumPy, which --help does without

        try:
            return npz.read(self.trajectory)
        except (OSError, ValueError) as error:
            raise _damaged(self.trajectory, error) from None

    def write_history(self, rows):
        """Writes history.csv anew; columns in the order of their first appearance."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with files.atomic_path(self.history) as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)

    def append_history(self, row):
        """Adds one row to history.csv, which is rewritten only when the row brings new columns."""
        columns = []
        if self.history.is_file():
            with open(self.history, newline="", encoding="utf-8") as file:
                columns = next(csv.reader(file), [])
        if set(row) <= set(columns):
            with open(self.history, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns, restval="").writerow(row)
        else:
            self.write_history([*self.read_history(), row])

    def last_epoch(self):
        """The number of the newest sample picture, or 0."""
        pictures = [names.parse_picture(path.name) for path in self.samples.glob("*")]
        whole = [epoch for epoch, weights in filter(None, pictures) if weights is None]
        return max(whole, default=0)


def metric_values(model):
    """What the metrics of a model have summed up, a dict name -> list of floats."""
    return {each.name: [float(v.numpy()) for v in each.variables] for each in model.metrics}


def set_metrics(model, values):
    """Makes the metrics of a model go on from what `metric_values` gave."""
    for each in model.metrics:
        for variable, value in zip(each.variables, values.get(each.name, ()), strict=False):
            variable.assign(value)


def _number(text):
    """A cell as a number, or None where a crash cut it short."""
    try:
        return int(text) if text.isdigit() else float(text)
    except (AttributeError, ValueError):
        return None


def _weights_of(record):
    """The file of the weights that the record of a checkpoint is of."""
    return record.with_name(names.checkpoint(names.parse_checkpoint(record.name)))


def _read_record(path):
    """The record of a checkpoint, a dict; {} where it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else {}


def _is_whole(path):
    """Whether the checkpoint of a record is there, as it was written."""
    weights, checksum = _weights_of(path), _read_record(path).get("sha256")
    return checksum is not None and weights.is_file() and files.sha256(weights) == checksum
