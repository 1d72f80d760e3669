"""Callbacks for `fit`: pictures, validation of every weight set, quality, history, checkpoints."""

from .checkpoints import Checkpoints, Diverged, StopOnDivergence
from .history import HistoryLog
from .progress import Progress
from .samples import SampleGrid
from .tensorboard import TensorBoardScalars
from .validation import ValidationLoss

__all__ = [
    "Checkpoints",
    "Diverged",
    "HistoryLog",
    "Progress",
    "SampleGrid",
    "StopOnDivergence",
    "TensorBoardScalars",
    "ValidationLoss",
]
