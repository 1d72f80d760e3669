"""Exponential moving averages of weights: decays, averages, and a Keras model that keeps them."""

from .averages import EMA, WeightSet, optimizer_average
from .decays import (
    ConstantDecay,
    Decay,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
)
from .model import EMAModel

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
    "optimizer_average",
]
