"""Exponential moving averages of weights: decays, averages, and a Keras model that keeps them."""

from . import posthoc
from .averages import EMA
from .decays import (
    ConstantDecay,
    Decay,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
    by_rules,
)
from .model import EMAModel
from .weight_sets import WeightSet, optimizer_average

__all__ = [
    "EMA",
    "ConstantDecay",
    "Decay",
    "EMAModel",
    "LinearRampDecay",
    "PowerFunctionDecay",
    "PowerWarmupDecay",
    "StepDecay",
    "WarmupDecay",
    "WeightSet",
    "by_rules",
    "optimizer_average",
    "posthoc",
]
