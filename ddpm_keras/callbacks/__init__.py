"""Callbacks for `fit`: pictures, validation of every weight set, quality, history, checkpoints."""

from .checkpoints import Checkpoints, Diverged, StopOnDivergence
from .history import HistoryLog
from .progress import Progress
from .quality import QualityMonitor
from .samples import SampleGrid
from .snapshots import PowerFunctionSnapshots
from .tensorboard import TensorBoardScalars
from .trajectory import Trajectory
from .validation import ValidationLoss

__all__ = [
    "Checkpoints",
    "Diverged",
    "HistoryLog",
    "PowerFunctionSnapshots",
    "Progress",
    "QualityMonitor",
    "SampleGrid",
    "StopOnDivergence",
    "TensorBoardScalars",
    "Trajectory",
    "ValidationLoss",
]
