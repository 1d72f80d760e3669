"""Callbacks for `fit`: pictures, validation and quality of every weight set, their paths."""

from .averages import EvaluateAverages
from .divergence import Diverged, StopOnDivergence
from .quality import QualityMonitor
from .samples import SampleGrid
from .snapshots import PowerFunctionSnapshots
from .stopping import EarlyStopping
from .tensorboard import TensorBoardScalars
from .trackers import MLflowScalars, WandbScalars
from .trajectory import Trajectory
from .validation import ValidationLoss

__all__ = [
    "Diverged",
    "EarlyStopping",
    "EvaluateAverages",
    "MLflowScalars",
    "PowerFunctionSnapshots",
    "QualityMonitor",
    "SampleGrid",
    "StopOnDivergence",
    "TensorBoardScalars",
    "Trajectory",
    "ValidationLoss",
    "WandbScalars",
]
