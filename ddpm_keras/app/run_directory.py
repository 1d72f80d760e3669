"""A run directory: configuration, history, checkpoints and what a run leaves behind.

Every file appears under its final name only when it is complete. A checkpoint counts only with its
record, a JSON file that is written after it and holds its SHA-256.
"""

import functools
import hashlib
import time
import warnings
from pathlib import Path

from .. import checksums, files, names
from ..checked import build
from ..errors import UsageError
from ..reading import owners
from . import history, inventory, invocation, run_record
from .options import stored_options


def _damaged(path, reason):
    """The error for a file of a run that cannot be read."""
    return UsageError(f"{checksums.told(path, reason)}; restore it, or begin a new run.")


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
        card: its model card.
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
        self.card = self.path / "README.md"
        self.report = self.path / "report.html"
        self.report_folder = self.path / "report"

    @classmethod
    def open(cls, path):
        """A run that exists.

        Raises:
            UsageError: `path` is not a run directory, or its config.json is damaged.
        """
        run = cls(path)
        if not run.config_file.is_file():
            raise UsageError(
                f"{path} is not a run directory (it has no config.json); "
                f"give one that {invocation.program('train')} made, such as runs/digits."
            )
        _ = run.config
        return run

    def note_state(self):
        """Says where the run is older than checksums, and what of it is gone."""
        record = self._newest_record()
        if record:
            inventory.tell_what_is_gone(self, record)
        if not checksums.is_sealed(self.config_file):
            print(f"Note: {self.path} is older than checksums: not all damage to it is found.")

    @property
    def config(self):
        """The configuration, a dict with "options", "command", "versions" and "data".

        Raises:
            UsageError: config.json is damaged.
        """
        try:
            config = files.read_record(self.config_file)
            build(run_record.Config, config)
        except ValueError as error:
            raise _damaged(self.config_file, error) from None
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

    def check_options(self):
        """Refuses a run whose `options` cannot be read."""
        _ = self.options

    @property
    def data(self):
        """What config.json says of the images: a dict with "fingerprint", "num_classes" ..."""
        data = self.config.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("fingerprint"), str):
            raise _damaged(self.config_file, "it does not say what the images were")
        return data

    def write_config(self, config):
        """Writes config.json."""
        files.write_record(self.config_file, config)

    def write_real(self, real, count):
        """Writes the picture of real images that samples are seen beside, unless it is there.

        Args:
            real: images, uint8 (N, height, width, channels).
            count: how many are shown, spread evenly.
        """
        from .. import images  # with NumPy, which --help does without

        path = self.samples / names.REAL_PICTURE
        if not path.exists() and len(real):
            places = [i * len(real) // count for i in range(min(count, len(real)))]
            images.save(images.grid(real[places]), path)

    # Checkpoints

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

    def step_around_damage(self):
        """Warns of each damaged file that training goes on without; `restore` of checkpoints.

        Records that training adds to, or that it ends with, are set aside.
        """
        self.note_state()
        history.mend(self.history, self._known_rows())
        reason = checksums.damage(self.trajectory) if self.trajectory.is_file() else None
        if reason:
            files.set_aside(self.trajectory, reason)
        self.mend_evaluations()
        for path in filter(Path.is_file, sorted(self.path.rglob("*"))):
            if path.parent != self.checkpoints:
                checksums.is_whole(path)

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
        left += [self.model, self.history, self.trajectory, self.evaluation, self.card]
        for path in filter(Path.exists, left):
            raise UsageError(
                f"{path} is there, of a run without its config.json; name another --run-dir."
            )

    # Evaluation

    def read_evaluations(self):
        """What evaluation.json holds, or None where the run has not been evaluated."""
        from ..quality.record import Evaluations  # with NumPy, which --help does without

        return Evaluations.read(self.evaluation)

    def whole_evaluations(self):
        """As `read_evaluations`; None, with a warning, where evaluation.json is damaged."""
        try:
            return self.read_evaluations()
        except UsageError as error:
            told = checksums.told(self.evaluation, error.__cause__)
            checksums.say_once(f"{told}; going on without it.")
            return None

    def mend_evaluations(self):
        """Sets evaluation.json aside where it is damaged, with a warning."""
        try:
            self.read_evaluations()
        except UsageError as error:
            files.set_aside(self.evaluation, error.__cause__)

    def evaluations_with(self, evaluation):
        """What evaluation.json holds, and a newer `Evaluation`; nothing is written."""
        return evaluation.after(self.read_evaluations())

    # History

    def read_history(self):
        """The rows of history.csv that are whole, see `history.read`.

        Raises:
            UsageError: it is too long.
        """
        try:
            return history.read(self.history, self._known_rows())
        except ValueError as error:
            raise UsageError(f"{error}.") from None

    def _known_rows(self):
        """(step, rows of history.csv up to it) by the newest record of a checkpoint."""
        record = self._newest_record()
        return (record.step, record.rows) if record else (0, 0)

    def _newest_record(self):
        """The newest `run_record.Checkpoint` that can be read, or None."""
        for path in reversed(self._records()):
            try:
                return build(run_record.Checkpoint, files.read_record(path))
            except ValueError:
                continue
        return None

    def write_history(self, rows):
        """Writes history.csv anew; columns in the order of their first appearance."""
        history.write(self.history, rows)

    def cut_history(self, step):
        """Leaves the rows up to a step in history.csv, and returns them; see `history.cut`."""
        return history.cut(self.history, step)

    def append_history(self, row):
        """Adds one row to history.csv, which is rewritten only when the row brings new columns."""
        history.append(self.history, row)

    def read_trajectory(self):
        """The arrays of trajectory.npz, see `callbacks.Trajectory`.

        {} where there is none, or, with a warning, where it is damaged.
        """
        from ..reading import npz  # with NumPy, which --help does without

        if not self.trajectory.is_file() or not checksums.is_whole(self.trajectory):
            return {}
        return npz.read(self.trajectory)

    def last_epoch(self):
        """The number of the newest sample picture, or 0."""
        pictures = [names.parse_picture(path.name) for path in self.samples.glob("*")]
        whole = [epoch for epoch, weights in filter(None, pictures) if weights is None]
        return max(whole, default=0)


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
