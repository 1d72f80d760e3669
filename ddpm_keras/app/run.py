"""A run directory: configuration, history, checkpoints and what a run leaves behind.

Every file appears under its final name only when it is complete. A checkpoint counts only with its
record, a JSON file that is written after it and holds its SHA-256.
"""

import csv
import json
import re
import time
import warnings
from pathlib import Path

from .. import files
from ..errors import UsageError
from . import invocation


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
        model: the file with raw weights, averages and optimizer.
        history: history.csv.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.samples = self.path / "samples"
        self.snapshots = self.path / "snapshots"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.keras"
        self.history = self.path / "history.csv"
        self.evaluation = self.path / "evaluation.json"

    @classmethod
    def open(cls, path):
        """A run that exists.

        Raises:
            UsageError: `path` is not a run directory.
        """
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise UsageError(
                f"{path} is not a run directory (it has no config.json); "
                f"give one that {invocation.program('train')} made, such as runs/digits."
            )
        return run

    @property
    def config(self):
        """The configuration, a dict with "options", "command", "versions" and "data"."""
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))

    def write_config(self, config):
        """Writes config.json."""
        files.write_json(self.path / "config.json", config)

    # Checkpoints

    def save_checkpoint(self, model, step, keep=2):
        """Saves weights, averages, optimizer and counters, then removes all but the last `keep`.

        Args:
            model: a built `keras.Model`.
            step: optimizer steps made so far.
            keep: number of checkpoints to keep, at least 1.
        """
        target = self.checkpoints / f"step-{step:08d}.weights.h5"
        with files.atomic_path(target) as temporary:
            model.save_weights(temporary, overwrite=True)
        record = {"step": step, "sha256": files.sha256(target), "time": time.time()}
        files.write_json(target.with_suffix("").with_suffix(".json"), record)
        for path in self._records()[:-keep]:
            path.unlink()
            path.with_suffix(".weights.h5").unlink(missing_ok=True)

    def restore(self, model):
        """Loads the newest checkpoint that is whole into `model`.

        Returns:
            The optimizer steps it stands at; 0, with nothing loaded, where there is no checkpoint.
        """
        for path in reversed(self._records()):
            record = json.loads(path.read_text(encoding="utf-8"))
            weights = path.with_suffix(".weights.h5")
            if weights.is_file() and files.sha256(weights) == record["sha256"]:
                model.load_weights(weights)
                return record["step"]
            warnings.warn(f"{weights} is damaged; going back to the one before.", stacklevel=2)
        return 0

    def _records(self):
        """The records of the checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*.json"))

    # Evaluation

    def read_evaluation(self):
        """evaluation.json, or None where the run has not been evaluated."""
        if not self.evaluation.is_file():
            return None
        return json.loads(self.evaluation.read_text(encoding="utf-8"))

    def add_evaluation(self, record):
        """Makes `record` the evaluation of the run; earlier ones are kept under "evaluations"."""
        earlier = (self.read_evaluation() or {}).get("evaluations", [])
        files.write_json(self.evaluation, record | {"evaluations": [*earlier, record]})

    # History

    def read_history(self):
        """The rows of history.csv as dicts of numbers, without cells that were not measured."""
        if not self.history.is_file():
            return []
        with open(self.history, newline="", encoding="utf-8") as file:
            rows = [{k: _number(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        return [row for row in rows if None not in row.values() and "step" in row]

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
        names = [re.fullmatch(r"epoch-(\d+)\.png", path.name) for path in self.samples.glob("*")]
        return max((int(match.group(1)) for match in names if match), default=0)


def _number(text):
    """A cell as a number, or None where a crash cut it short."""
    try:
        return int(text) if text.isdigit() else float(text)
    except (AttributeError, ValueError):
        return None
