"""What config.json and the records of checkpoints hold: the types, the ranges, and nothing else.

The options within config.json are checked as a command line is, see `options.stored_options`.
"""

import re
from dataclasses import dataclass, field

from ..checked import Checked, bounded
from ..choices import PRECISIONS

_OF_RUN = re.compile(r"(samples|snapshots|tensorboard)/[^/\0]{1,255}|trajectory\.npz")


@dataclass(frozen=True)
class Images(Checked):
    """The images of a run; see `dataset.record`. Older versions say less."""

    name: str = ""
    path: str | None = None
    data_dir: str | None = None
    fingerprint: str | None = None
    num_train: int | None = bounded(1, default=None)
    num_held_out: int | None = bounded(0, default=None)
    image_shape: tuple[int, ...] = ()
    num_classes: int | None = bounded(1, default=None)
    provenance: str = ""


@dataclass(frozen=True)
class Precision(Checked):
    """What `precision.of_run` gave: a dtype policy, and seconds of a step by those measured."""

    policy: str
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if self.policy not in filter(None, PRECISIONS.values()):
            raise ValueError(f"policy is {self.policy!r:.80}, which there is not")


@dataclass(frozen=True)
class Config(Checked):
    """config.json; see `training.begin`.

    Attributes:
        run: the id of the run, by which its files are told from those of another.
        command: the command line that began it.
        averages: the rule of each average, by the name of its weight set.
        begun: when that was, local time such as 2026-05-01T12:00:00; older versions do not say.
        options: of that training, by name.
        data: the images.
        precision: in which it computes.
        parameters: of the network.
        weight_sets: the names of all that are trained or tracked.
        first_steps: of the training as it was begun; `--resume --steps` may have changed them.
        replicas, workers: that train together, and the processes they are in.
        finished: optimizer steps of model.keras and network-ema.keras, which a run that goes on
            leaves as they are until its end; None before there are any.
        versions: of what it was made with, by name.
    """

    run: str = ""
    command: str = ""
    begun: str = ""
    averages: dict[str, str] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    data: Images = field(default_factory=Images)
    precision: Precision | None = None
    parameters: int | None = bounded(1, default=None)
    weight_sets: tuple[str, ...] = ()
    first_steps: int | None = bounded(1, default=None)
    replicas: int | None = bounded(1, default=None)
    workers: int | None = bounded(1, default=None)
    finished: int | None = bounded(0, default=None)
    versions: dict[str, object] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if not re.fullmatch("[0-9a-f]{0,64}", self.run):
            raise ValueError(f"run is {self.run!r:.80}, not up to 64 hexadecimal digits")


@dataclass(frozen=True)
class Checkpoint(Checked):
    """The record of a checkpoint.

    Attributes:
        step: optimizer steps made.
        sha256: of the file of weights.
        time: when it was written, in seconds since 1970.
        metrics: what the metrics have summed up since they were reset, by name.
        rows: of history.csv by then.
        files: that there were by then, by `inventory.of`.
        unfinished: of the end of an epoch, before pictures and validation: the row of history.csv
            that they add to, or {} for none. None for any other checkpoint.
    """

    step: int = bounded(0)
    sha256: str
    time: float = bounded(0)
    metrics: dict[str, object] = field(default_factory=dict)
    rows: int = bounded(0, default=0)
    files: dict[str, int] = field(default_factory=dict)
    unfinished: dict[str, object] | None = None

    def __post_init__(self):
        super().__post_init__()
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r:.80}, not 64 hexadecimal digits")
        for name, size in self.files.items():
            if not _OF_RUN.fullmatch(name) or size < 0:
                raise ValueError(f"files has {name!r:.80} of {size} bytes, which no run leaves")
