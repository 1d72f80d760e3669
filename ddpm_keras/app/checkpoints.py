"""The checkpoints of a run: written, checked, gone on from.

A checkpoint counts only with its record, a JSON file that is written after it and holds its
SHA-256.
"""

import functools
import hashlib
import time
import warnings
from pathlib import Path
from typing import Any

from .. import checksums, files, names
from ..checked import build
from ..errors import UsageError
from ..reading import owners
from . import history, inventory, run_record


class Checkpointed:
    """A `run_directory.Run` as far as its checkpoints go."""

    path: Path
    checkpoints: Path
    history: Path
    model: Path
    config: Any
    options: Any

    def save_checkpoint(self, model, step, keep=2):
        """Saves weights, averages, optimizer and counters, then removes all but the last `keep`.

        Args:
            model: a built `keras.Model`.
            step: optimizer steps made so far.
            keep: number of checkpoints to keep, at least 1.
        """
        from ..keras_internals import weights_file  # with TensorFlow, which a model has loaded

        self.write_checkpoint(weights_file(model), step, self.noted(model), keep)

    def noted(self, model, unfinished=None):
        """What the record of a checkpoint says besides, a dict; see `run_record.Checkpoint`."""
        return {
            "metrics": metric_values(model),
            "rows": history.length(self.history),
            "files": inventory.of(self),
            "unfinished": unfinished,
        }

    def write_checkpoint(self, weights, step, noted, keep=2):
        """Writes a checkpoint as `save_checkpoint` does, of a state that was copied before.

        Args:
            weights: what `keras_internals.weights_file` gave at that step.
            step, keep: as of `save_checkpoint`.
            noted: what `noted` gave.
        """
        with files.atomic_path(self.checkpoints / names.checkpoint(step)) as temporary:
            temporary.write_bytes(weights)
        checksum = hashlib.sha256(weights).hexdigest()
        record = {"step": step, "sha256": checksum, "time": time.time(), **noted}
        files.write_record(self.checkpoints / names.checkpoint_record(step), record)
        for path in self._records()[:-keep]:
            _remove_checkpoint(path)

    def note_checkpoint(self, step, noted):
        """Writes the record of a checkpoint anew, with what `noted` gave since."""
        path = self.checkpoints / names.checkpoint_record(step)
        files.write_record(path, files.read_record(path) | noted)

    def has_checkpoint(self, step):
        """Whether there is a checkpoint of a step; damaged ones are cleared before going on."""
        return (self.checkpoints / names.checkpoint_record(step)).is_file()

    def unfinished(self, step):
        """What the epoch that ends at this step has still to do; see `run_record.Checkpoint`."""
        path = self.checkpoints / names.checkpoint_record(step)
        return files.read_record(path).get("unfinished") if path.exists() else None

    def check_checkpoints(self):
        """Refuses to go on with a run that has lost its state.

        Returns:
            The step of the newest checkpoint that is whole; 0 where there was none yet.

        Raises:
            UsageError: there is none, though there was one.
        """
        records = self._records()
        whole = next((path for path in reversed(records) if not _wrong(path)), None)
        if whole is not None:
            return names.parse_checkpoint(whole.name)
        # Older versions made no checkpoint before the end of the first epoch.
        without = 0 if "first_steps" in self.config else self.options.epoch_steps
        if records or self.model.is_file() or self._last_logged() > without:
            raise UsageError(
                f"no checkpoint in {self.checkpoints} is whole and of this run; restore one, or "
                "begin a new run."
            )
        return 0

    def _last_logged(self):
        """The last step of history.csv, 0 without one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever goes on with the run will hear of damage
            return max((row["step"] for row in history.read(self.history)), default=0)

    def restore(self, model):
        """Loads the newest checkpoint that is whole into `model`.

        Returns:
            The optimizer steps it stands at; 0, with nothing loaded, where there was none yet.

        Raises:
            UsageError: as of `check_checkpoints`.
        """
        step = self.check_checkpoints()
        records = self._records()
        for path in records:
            reason = _wrong(path)
            if reason:
                told = checksums.told(path.stem, reason)
                warnings.warn(f"{told}; going on from step {step}.", stacklevel=2)
        if records:
            record = self.checkpoints / names.checkpoint_record(step)
            model.load_weights(_weights_of(record))
            set_metrics(model, files.read_record(record).get("metrics", {}))
        return step

    def clear_checkpoints(self):
        """Removes checkpoints that are damaged, and renames those of another run."""
        for path in self._records():
            reason = _wrong(path)
            if reason == owners.OTHER:
                for file in filter(Path.is_file, (path, _weights_of(path))):
                    file.replace(file.with_name(f"{file.name}.damaged"))
            elif reason:
                _remove_checkpoint(path)

    def restore_step(self, model, step):
        """Loads the checkpoint of a step into `model`.

        Raises:
            UsageError: it is damaged.
        """
        record = self.checkpoints / names.checkpoint_record(step)
        reason = _wrong(record)
        if reason:
            told = checksums.told(f"{record.stem} of {self.path}", reason)
            raise UsageError(f"{told}; name another --step.")
        model.load_weights(_weights_of(record))

    @property
    def checkpoint_steps(self):
        """The steps of the checkpoints of trained weights, by their names, ascending."""
        return list(filter(None, (names.parse_checkpoint(path.name) for path in self._records())))

    @property
    def last_step(self):
        """The step of the newest checkpoint, by its name; 0 where there is none."""
        return max(self.checkpoint_steps, default=0)

    def _records(self):
        """The records of the checkpoints, oldest first."""
        found = self.checkpoints.glob("*.json")
        return sorted(path for path in found if names.parse_checkpoint(path.name) is not None)

    def _newest_record(self):
        """The newest `run_record.Checkpoint` that can be read, or None."""
        for path in reversed(self._records()):
            try:
                return build(run_record.Checkpoint, files.read_record(path))
            except ValueError:
                continue
        return None


def metric_values(model):
    """What the metrics of a model have summed up, a dict name -> list of floats.

    Each replica of this process has sums of its own.
    """
    return {each.name: [float(part.numpy()) for part in _parts(each)] for each in model.metrics}


def set_metrics(model, values):
    """Makes the metrics of a model go on from what `metric_values` gave."""
    for each in model.metrics:
        for part, value in zip(_parts(each), values.get(each.name, ()), strict=False):
            part.assign(value)


def _parts(metric):
    """The variables of a metric, of each replica of this process."""
    from ..keras_internals import local_parts  # with TensorFlow, which a model has loaded

    return [part for variable in metric.variables for part in local_parts(variable)]


def _weights_of(record):
    """The file of the weights that the record of a checkpoint is of."""
    return record.with_name(names.checkpoint(names.parse_checkpoint(record.name)))


def _remove_checkpoint(record):
    record.unlink()
    _weights_of(record).unlink(missing_ok=True)


def _wrong(path):
    """What is wrong with the checkpoint of a record, None if nothing is."""
    weights = _weights_of(path)
    try:
        record = build(run_record.Checkpoint, files.read_record(path))
    except (ValueError, OSError) as error:
        return str(error)
    if record.step != names.parse_checkpoint(path.name):
        return f"its record is of step {record.step}"
    if not weights.is_file():
        return "it has no weights"
    status = weights.stat()
    known = _sha256(weights, status.st_size, status.st_mtime_ns)
    return None if known == record.sha256 else "its checksum is another"


@functools.lru_cache(8)
def _sha256(path, size, time):
    """The SHA-256 of a file, which is computed again only where its size or time has changed."""
    return files.sha256(path)
