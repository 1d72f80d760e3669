"""A run directory: configuration, history, checkpoints and what a run leaves behind.

Every file appears under its final name only when it is complete.
"""

import os
from pathlib import Path

from .. import checksums, files, names
from ..checked import build
from ..errors import UsageError
from . import history, inventory, invocation, run_record
from .checkpoints import Checkpointed
from .options import stored_options

# The files in samples, snapshots, tensorboard and checkpoints, which no others are taken for.
_PATTERNS = ("*.png", "snapshot-*.npz", "**/events.*", "step-*")


def _damaged(path, reason):
    """The error for a file of a run that cannot be read."""
    return UsageError(f"{checksums.told(path, reason)}; restore it, or begin a new run.")


def _leads_nowhere(path):
    """What to add on a link to something that is not there."""
    return ", but a link that leads nowhere" if path.is_symlink() and not path.exists() else ""


def fresh_path(root, name):
    """The first of root/name, root/name-2, root/name-3 ... that does not exist yet."""
    path, number = Path(root) / name, 1
    while path.exists():
        number += 1
        path = Path(root) / f"{name}-{number}"
    return path


def check_target(path, said):
    """Refuses to write in place of a file that a run has.

    Args:
        path: where something else is to be written.
        said: the option that says so.

    Raises:
        UsageError: in one line that names the option and the run.
    """
    path = Path(path)
    for folder in path.parents[:2]:
        run = Run(folder)
        if run.config_file.is_file() and path in run.own_files:
            raise UsageError(f"{said} {path} is a file of the run {folder}; name another place.")


def newest(root):
    """The run below `root` whose configuration was written last.

    Raises:
        UsageError: there is none.
    """
    configs = sorted(Path(root).glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UsageError(f"There is no run in {root}/ to continue; name one with --run-dir.")
    return configs[-1].parent


class Run(Checkpointed):
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
            UsageError: `path` is not a run directory, its config.json is damaged, or something else
                is where a file or a folder of it should be.
        """
        run = cls(path)
        run.check_places()
        if not run.config_file.is_file():
            raise UsageError(
                f"{path} is not a run directory (it has no config.json); "
                f"give one that {invocation.program('train')} made, such as runs/digits."
            )
        _ = run.config
        return run

    def check_places(self):
        """Refuses a run in which something else is where a file or a folder of it should be.

        Raises:
            UsageError: a pipe, a folder for a file, a link that leads nowhere ..., by its path.
        """
        for what, paths, is_right in (
            ("file", self.own_files, Path.is_file),
            ("folder", self.own_folders, Path.is_dir),
        ):
            for path in paths:
                if os.path.lexists(path) and not is_right(path):
                    raise UsageError(
                        f"{path} is no {what}{_leads_nowhere(path)}; put it back, or move away "
                        "what is there."
                    )

    @property
    def own_folders(self):
        """The places of its folders."""
        folders = (self.samples, self.snapshots, self.tensorboard, self.checkpoints)
        return (*folders, self.features, self.report_folder)

    @property
    def own_files(self):
        """The places of its files, and those that are in its folders."""
        known = [self.config_file, self.model, self.network, self.history, self.trajectory]
        known += [self.evaluation, self.card, self.report]
        for folder, pattern in zip(self.own_folders, _PATTERNS, strict=False):
            known += sorted(folder.glob(pattern))
        return known

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

    @property
    def snapshot_steps(self):
        """The steps of the snapshots that averages can be made of, ascending."""
        steps = (names.parse_snapshot(path.name) for path in self.snapshots.glob("*"))
        return sorted(step for step in steps if step)  # step 0 holds the initial weights alone

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
