"""Exponential moving averages of weights: decays, averages, and a Keras model that keeps them."""

from . import posthoc
from .averages import EMA
from .decays import (
    ConstantDecay,
    Decay,
    LinearRampDecay,
    PowerWarmupDecay,
    ScaledDecay,
    StepDecay,
    WarmupDecay,
    by_rules,
)
from .half_life import HalfLife
from .model import EMAModel
from .optimizer import EMAOptimizer
from .power_function import PowerFunctionDecay
from .weight_sets import WeightSet, optimizer_average
from .windows import LAWA, SWA, WSM

__all__ = [
    "EMA",
    "LAWA",
    "SWA",
    "WSM",
    "ConstantDecay",
    "Decay",
    "EMAModel",
    "EMAOptimizer",
    "HalfLife",
    "LinearRampDecay",
    "PowerFunctionDecay",
    "PowerWarmupDecay",
    "ScaledDecay",
    "StepDecay",
    "WarmupDecay",
    "WeightSet",
    "by_rules",
    "optimizer_average",
    "posthoc",
]
