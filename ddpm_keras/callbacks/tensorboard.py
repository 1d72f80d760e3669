"""Scalars for TensorBoard, grouped so that raw weights and averages share a chart."""

from collections.abc import Mapping
from typing import Any

from tensorboard.plugins.hparams.api import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb

from .. import names
from ..aliases import PathLike
from ..data.words import shown
from ..files import a_path
from ..quality import metrics
from . import events
from .needs import OfModel, told

_TRAIN = "train"  # the run of what belongs to no weight set


class TensorBoardScalars(OfModel):
    """Writes the logs of each epoch, one TensorBoard run for each weight set.

    `val_loss_raw` and `val_loss_ema_0.999` become the tag `val_loss` of the runs `raw` and
    `ema_0.999`, so that TensorBoard overlays them; what belongs to no weight set goes to `train`.
    The configuration goes to the directory itself, as a text card and as HParams, whose page then
    lists the numbers of every weight set below it. Training that starts again at an earlier step
    replaces what was written after it; files that other programs have written are left alone.

    Args:
        log_dir: the directory to give to `tensorboard --logdir`.
        config: dict name -> value of what the run was told, or None for no card.
    """

    def __init__(self, log_dir: PathLike, config: Mapping[str, Any] | None = None):
        super().__init__()
        self.log_dir = a_path(log_dir, "log_dir")
        self.config = {name: _plain(value) for name, value in told(config).items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        for run in (_TRAIN, *self.model.weight_sets):
            events.cut(self.log_dir / run, self.model.steps_made)
        if self.config:
            events.cut(self.log_dir, step=-1)
            events.append(self.log_dir, 0, [hparams_pb(self.config), self._card()])

    def _card(self):
        rows = "".join(f"| {name} | {value} |\n" for name, value in self.config.items())
        return text_pb("configuration", f"| option | value |\n| --- | --- |\n{rows}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        scalars = {}  # run -> its summaries
        for key, value in (logs or {}).items():
            run, tag = self._place(key)
            scalars.setdefault(run, []).append(scalar_pb(tag, value, _description(tag)))
        for run, summaries in scalars.items():
            events.append(self.log_dir / run, self.model.steps_made, summaries)

    def _place(self, key):
        """(run, tag) of a log entry."""
        what, weights = names.parse_column(key) or (key, None)
        return (weights, what) if weights in self.model.weight_sets else (_TRAIN, key)


def _description(tag):
    """What the number of a metric is called, and which way it is better; None for another tag."""
    number = "frechet" if tag == "quality" else tag.removeprefix("quality_")
    found = metrics.shown_numbers().get(number) if tag.startswith("quality") else None
    return found and f"{found.title}, {'lower' if found.lower_is_better else 'higher'} is better"


def _plain(value):
    """A value as HParams takes it: a number, or a line of text that any encoding has."""
    if isinstance(value, (bool, int, float)):
        return value
    return shown(" ".join(map(str, value)) if isinstance(value, (list, tuple)) else value)
