"""Averages of a part of a run: from a step on, of the last few weights, of a share at the end.

Before its part begins such an average follows the weights.
"""

from typing import Any

import keras
import numpy as np

from .. import choices, kinds
from ..scalars import count, whole
from .decays import Decay, as_float64


class Window(Decay):
    """A mean over a part of the run. It is no exponential average, so no batch size scales it."""

    takes_beta = False
    scales = False


class Snapshots(Window):
    """A mean of the weights taken every `every_steps` from `start` on, or of the last of them.

    Attributes:
        most: how many of them it is the mean of at most.
    """

    start, every_steps, most = 0, 1, np.inf

    def taken(self, n):
        """How many times weights were taken in `n` updates, float64, same shape as `n`."""
        xp, n = as_float64(n)
        return xp.floor(xp.maximum(n - self.start, 0.0) / self.every_steps)

    def rate(self, n):
        xp, n = as_float64(n)
        taken = self.taken(n + 1.0)
        share = 1.0 / xp.clip(taken, 1.0, self.most)
        return xp.where((taken > self.taken(n)) | (taken < 1.0), share, 0.0)

    def effective_window(self, n):
        """How many of the last steps the average rests on after update n: those of each taken."""
        taken = np.minimum(self.taken(n + 1), self.most)
        return np.maximum(taken * self.every_steps, 1.0)

    def doubt(self, steps):
        first = self.start + self.every_steps
        if steps >= first:
            return ""
        return (
            f"it takes weights for the first time after step {first:,}, so that after {steps:,} "
            "steps it is a copy of the raw weights; give it an earlier step."
        )


@keras.saving.register_keras_serializable(package="ddpm_keras")
class SWA(Snapshots):
    """The mean of the weights after steps start + every_steps, start + 2 every_steps ... (SWA).

    `SWA(0)` is `StepDecay()`. With a cyclic learning rate, `every_steps` is the length of a cycle.

    Args:
        start: Steps that go before, at least 0: the average begins to be one after the next.
        every_steps: Optimizer steps from one weight that counts to the next.

    Reference:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
        algorithm 1.
    """

    def __init__(self, start: int, every_steps: int = 1):
        self.start = whole(start, "start", 0)
        self.every_steps = count(every_steps, "every_steps")

    @property
    def name(self) -> str:
        return f"swa_{self.start}" + (f"_{self.every_steps}" if self.every_steps > 1 else "")


@keras.saving.register_keras_serializable(package="ddpm_keras")
class LAWA(Snapshots):
    """The mean of the last `k` of the weights taken after every `every_steps`-th step (LAWA).

    The weights that may fall out of it again have to be kept: beside the average itself that takes
    4 k bytes a weight.

    Args:
        k: How many weights it is the mean of, once so many were taken.
        every_steps: Optimizer steps from one to the next; those of an epoch are usual.

    Reference:
        Kaddour 2022, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest
        Weight Averaging"; Sanyal et al. 2023, "Early Weight Averaging meets High Learning Rates for
        LLM Pre-training".
    """

    def __init__(self, k: int, every_steps: int):
        self.k = self.most = self.slots = count(k, "k")
        self.every_steps = count(every_steps, "every_steps")

    def later_share(self, steps: int) -> np.ndarray:
        edges, taken = np.arange(steps + 1), int(self.taken(steps))
        if taken == 0:  # a copy of the last weights
            return np.where(edges < steps, 1.0, 0.0)
        counted = self.every_steps * np.arange(taken, max(taken - self.k, 0), -1)
        return np.mean(edges[:, None] < counted, axis=1)

    @property
    def name(self) -> str:
        return f"lawa_{self.k}_{self.every_steps}"


# Share of the whole that weights up to a share s of the window have: 1 - the learning rate there.
_MERGED = {
    "linear": lambda xp, s: s,
    "cosine": lambda xp, s: xp.sin(np.pi / 2 * s) ** 2,
    "sqrt": lambda xp, s: s**0.5,
}


@keras.saving.register_keras_serializable(package="ddpm_keras")
class WSM(Window):
    """A mean over the last `share` of a run, in place of a decay of the learning rate (WSM).

    A mean of weights counts each gradient by the share of the weights that come after it: as much
    as a learning rate that falls by such a curve would have. Equal weights stand for one that falls
    in a straight line to zero. After `steps` the average stands still.

    Args:
        share: The part of the run, above 0 and at most 1.
        steps: Length of the run in optimizer steps.
        decay: The learning rate it stands for, s being the part of the window that is over:
            "linear" (1 - s, a plain mean), "cosine" ((1 + cos(pi s)) / 2) or "sqrt" (1 - sqrt(s)).

    Reference:
        Tian et al. 2025, "WSM: Decay-Free Learning Rate Schedule via Checkpoint Merging for LLM
        Pre-training": the weights are c_j = w_j - w_(j+1) for gradients that count w_j.
    """

    def __init__(self, share: float, steps: int, decay: str = "linear"):
        self.share = kinds.share(share)
        self.steps = count(steps, "steps")
        choices.check("decay of the learning rate", decay, choices.LR_DECAYS)
        self.decay = decay

    @property
    def length(self) -> Any:
        """Steps of the window, at least 1."""
        return max(1, round(self.share * self.steps))

    def _inside(self, xp, n):
        """How many steps of the window are over after n updates, 0 to `length`."""
        return xp.clip(n - (self.steps - self.length), 0.0, self.length)

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        before, after = (
            _MERGED[self.decay](xp, self._inside(xp, step) / self.length) for step in (n, n + 1.0)
        )
        begun = after > 0.0
        return xp.where(begun, (after - before) / xp.where(begun, after, 1.0), 1.0)

    def effective_window(self, n: Any) -> Any:
        """How many of the last steps the average rests on after update n."""
        _, n = as_float64(n)
        return np.maximum(self._inside(np, n + 1.0), 1.0)

    def doubt(self, steps: int) -> str | None:
        first = self.steps - self.length + 1
        if steps < first:
            return (
                f"its share of the run begins with step {first:,}, so that after {steps:,} steps "
                "it is a copy of the raw weights; give it the steps of this run."
            )
        if steps > self.steps:
            return (
                f"it stands still after the {self.steps:,} steps that it was made for; give it "
                "the steps of this run."
            )
        return ""

    @property
    def name(self) -> str:
        return f"wsm_{self.share}" + (f"_{self.decay}" if self.decay != "linear" else "")
