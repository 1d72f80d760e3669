"""Decays of a moving average: rules n -> beta_n, n counting the averages already made."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import kinds, names
from ..choices import EMA_RULES, EMA_SCHEDULES
from ..configured import Configured
from ..scalars import count, positive

logger = logging.getLogger("ddpm_keras")
tnp = tf.experimental.numpy


def as_float64(n):
    """The arithmetic (NumPy, or its TensorFlow twin) to use on n, and n in float64."""
    if isinstance(n, keras.Variable):
        n = n.value
    if isinstance(n, (tf.Tensor, tf.Variable)):
        return tnp, tf.cast(n, tf.float64)
    return np, np.asarray(n, np.float64)


class Decay(Configured):
    """A rule n -> beta_n, n = 0, 1, ... counting the averages already made.

    A subclass gives `rate(n)` = 1 - beta_n. That number, not beta_n, is what the update needs: in
    float32 the 1 - 0.9999 of a rounded 0.9999 is already wrong in its fourth digit. Calls accept an
    integer, an array or a TensorFlow tensor of float64, and answer in float64. Each argument of its
    `__init__` is kept as an attribute of that name, by which two decays are told apart and saved.
    """

    scales = True  # whether it is an exponential average, which `scaled` makes another of
    takes_beta = True  # whether `for_run` makes another decay of another beta
    slots = 0  # past weights that it keeps, being their mean; it is then like `windows.LAWA`
    every_steps = 1  # optimizer steps from one of them to the next

    @classmethod
    def for_run(cls, beta: float, steps: int) -> Decay:
        """The decay that `--ema-schedule` makes of one `--ema` in a run of `steps` steps."""
        return cls(beta)

    def rate(self, n: Any) -> Any:
        """1 - beta_n, float64, same shape as `n`."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(n) = 1 - beta_n.")

    def __call__(self, n: Any) -> Any:
        """beta_n, float64, same shape as `n`."""
        return 1.0 - self.rate(n)

    @property
    def name(self) -> str:
        """The name of an average with this decay unless the user gives one."""
        rule = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__.removesuffix("Decay"))
        return "_".join([rule.lower(), *map(str, self.get_config().values())])

    def effective_window(self, n: Any) -> Any:
        """How many of the last steps the average rests on after update n: 1 / (1 - beta_n)."""
        with np.errstate(divide="ignore"):
            return 1.0 / self.rate(n)

    def initial_share(self, steps: int) -> float:
        """The share of the initial weights left after `steps` updates: the product of betas."""
        rates = self.rate(np.arange(steps))
        with np.errstate(divide="ignore"):  # a rate of 1 forgets all: log 0 = -inf, exp -> 0
            return float(np.exp(np.sum(np.log1p(-rates))))

    def later_share(self, steps: int) -> np.ndarray:
        """What share of the average after `steps` updates stems from later steps than each.

        Returns:
            float64 of shape (steps + 1,): at place i the share of the weights after steps i + 1 to
            `steps`, falling from 1 - (the share of the initial weights) to 0.
        """
        with np.errstate(divide="ignore"):  # a rate of 1 forgets all: log 0 = -inf
            logs = np.log1p(-self.rate(np.arange(steps)))
        return -np.expm1(np.concatenate([np.cumsum(logs[::-1])[::-1], [0.0]]))

    def doubt(self, steps: int) -> str | None:
        """Why this is no average after a run of so many updates, one line; "" if it is one."""
        return ""

    def scaled(self, kappa: float) -> Decay:
        """The same average for batches `kappa` times as large, whose steps are kappa times fewer.

        One step then stands for kappa of before, so its beta is beta_(kappa n)^kappa. The learning
        rate is not part of it: the paper multiplies it by kappa with SGD, by its root with Adam.

        Args:
            kappa: Batch size to come divided by that of before, positive.

        Returns:
            A `Decay`; what it is is also logged.

        Raises:
            ValueError: The rule has no decay to scale, or `kappa` is not positive.

        Reference:
            Busbridge et al. 2023, "How to Scale Your EMA", definition 1.2.
        """
        kappa = positive(kappa, "kappa")
        scaled = self._scaled(kappa)
        logger.info("For batches %g times as large, %r becomes %r.", kappa, self, scaled)
        return scaled

    def _scaled(self, kappa):
        return ScaledDecay(self, kappa)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class ConstantDecay(Decay):
    """beta_n = beta, as in Ho et al. 2020 (0.9999).

    Args:
        beta: The decay, at least 0 and below 1. Its window is 1 / (1 - beta) steps.
    """

    def __init__(self, beta: float):
        self.beta = kinds.beta(beta)

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        return xp.zeros_like(n) + (1.0 - self.beta)

    def initial_share(self, steps: int) -> float:
        return self.beta**steps

    def _scaled(self, kappa):
        return type(self)(self.beta**kappa)

    @property
    def name(self) -> str:
        return str(self.beta)


@keras.saving.register_keras_serializable(package="ddpm_keras")
class WarmupDecay(Decay):
    """beta_n = min(beta, (1 + n) / (10 + n)), the rule of `tf.train.ExponentialMovingAverage`.

    It reaches .999 at n = 8,989 and .9999 at n = 89,990.

    Args:
        beta: The decay reached in the end, at least 0 and below 1.
    """

    def __init__(self, beta: float):
        self.beta = kinds.beta(beta)

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        return xp.maximum(1.0 - self.beta, 9.0 / (10.0 + n))

    @property
    def name(self) -> str:
        return f"warmup_{self.beta}"


@keras.saving.register_keras_serializable(package="ddpm_keras")
class PowerWarmupDecay(Decay):
    """beta_n = min(beta, 1 - (1 + n / inv_gamma)^-power), the rule of diffusers and timm.

    Args:
        beta: The decay reached in the end, at least 0 and below 1.
        inv_gamma: Scale of n, positive.
        power: 2/3 reaches .999 after 31.6k steps and .9999 after 1M; 3/4 after 10k and 215k.
    """

    def __init__(self, beta: float, inv_gamma: float = 1.0, power: float = 2 / 3):
        self.beta = kinds.beta(beta)
        self.inv_gamma = positive(inv_gamma, "inv_gamma")
        self.power = positive(power, "power")

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        return xp.maximum(1.0 - self.beta, (1.0 + n / self.inv_gamma) ** -self.power)

    @property
    def name(self) -> str:
        return f"power_warmup_{self.beta}"


@keras.saving.register_keras_serializable(package="ddpm_keras")
class LinearRampDecay(Decay):
    """beta_n rises in a straight line from `start` to `end` over `steps` updates, then stays.

    Args:
        start: beta_0, at least 0 and below 1.
        end: The decay from n = `steps` on, at least 0 and below 1.
        steps: The length of the ramp, a positive number of optimizer steps.
    """

    def __init__(self, start: float, end: float, steps: int):
        self.start = kinds.beta(start, "start")
        self.end = kinds.beta(end, "end")
        self.steps = count(steps, "steps")
        if self.start > self.end:
            raise ValueError(
                f"start must be at most end, since the ramp rises; got {start} and {end}."
            )

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        progress = xp.minimum(n / self.steps, 1.0)
        return (1.0 - self.start) * (1.0 - progress) + (1.0 - self.end) * progress

    @classmethod
    def for_run(cls, beta: float, steps: int) -> Decay:
        return cls(0.0, beta, max(1, steps // 2))

    @property
    def name(self) -> str:
        return f"ramp_{self.end}"


@keras.saving.register_keras_serializable(package="ddpm_keras")
class StepDecay(Decay):
    """beta_n = 1 - 1 / (n + 1): the plain mean of the weights after every step (Polyak, SWA)."""

    takes_beta = False

    @classmethod
    def for_run(cls, beta: float, steps: int) -> Decay:
        return cls()

    def rate(self, n: Any) -> Any:
        _, n = as_float64(n)
        return 1.0 / (n + 1.0)

    def _scaled(self, kappa):
        return self  # of all steps, however many: the product of kappa betas is that of one

    @property
    def name(self) -> str:
        return "step"


@keras.saving.register_keras_serializable(package="ddpm_keras")
class ScaledDecay(Decay):
    """beta_n = beta_(kappa n)^kappa of another decay: what `Decay.scaled` makes where need be.

    Args:
        decay: A decay, or a float.
        kappa: Batch size divided by that of the decay, positive.

    Raises:
        ValueError: The rule has no decay to scale, or `kappa` is not positive.
    """

    takes_beta = False

    def __init__(self, decay: Decay, kappa: float):
        self.decay = as_decay(decay)
        self.kappa = positive(kappa, "kappa")
        if not self.decay.scales:
            raise ValueError(
                f"{self.decay!r} has no decay that beta^kappa could scale, since it is a mean over "
                f"given steps: give those of batches {self.kappa:g} times as large."
            )

    def rate(self, n: Any) -> Any:
        xp, n = as_float64(n)
        log1p, expm1 = (tf.math.log1p, tf.math.expm1) if xp is tnp else (np.log1p, np.expm1)
        with np.errstate(divide="ignore"):  # a rate of 1: log 0 = -inf, and 1 again
            return -expm1(self.kappa * log1p(-self.decay.rate(self.kappa * n)))

    def _scaled(self, kappa):
        return ScaledDecay(self.decay, self.kappa * kappa)

    def get_config(self) -> dict[str, Any]:
        return {
            "decay": keras.saving.serialize_keras_object(self.decay),
            "kappa": self.kappa,
        }

    def __repr__(self):
        return f"ScaledDecay({self.decay!r}, kappa={self.kappa!r})"

    @property
    def name(self) -> str:
        return f"{self.decay.name}_scaled_{names.number(self.kappa)}"


def by_rules(rules: Sequence[str], betas: Sequence[float], steps: int) -> dict[str, Decay]:
    """The decays that rules make of every beta, by the names of their averages.

    Each is called by its beta, after its rule where there are several; a rule that takes no beta,
    such as "step", gives one average of its own name.

    Args:
        rules: names in `choices.EMA_SCHEDULES`.
        betas: decays reached in the end, each at least 0 and below 1.
        steps: length of the run in optimizer steps.

    Returns:
        Dict name -> `Decay`, as `EMA` takes it.

    Raises:
        ValueError: an unknown rule, a beta out of range, or one that is given twice.
    """
    decays = {}
    for rule in rules:
        make = EMA_RULES.find(rule)
        if rule not in EMA_SCHEDULES:
            raise ValueError(
                f"A decay alone makes no {rule!r}: give EMA a {make.__name__} itself, or use one "
                f"of {', '.join(EMA_SCHEDULES)}."
            )
        prefix = f"{rule}_" if len(rules) > 1 else ""
        for beta in betas if make.takes_beta else (None,):
            name = rule if beta is None else f"{prefix}{names.number(beta)}"
            if name in decays:
                raise ValueError(
                    f"Two averages would both be called {name!r}: give each rule and decay once."
                )
            decays[name] = make.for_run(beta, steps)
    return decays


def as_decay(decay):
    if isinstance(decay, dict):
        decay = keras.saving.deserialize_keras_object(decay)
    if isinstance(decay, Decay):
        return decay
    if isinstance(decay, (int, float, np.number)) and not isinstance(decay, bool):
        return ConstantDecay(decay)
    raise ValueError(f"A decay is a float or a decay such as WarmupDecay(0.999); got {decay!r}.")


def _check_rates(rule):
    """Refuses a rule that would make an average something else than a mean of weights."""
    n = np.append(np.arange(100.0), (1e3, 1e4, 1e5, 1e6))
    with np.errstate(all="ignore"):
        rates = np.asarray(rule.rate(n))
    if rates.shape != n.shape:
        raise ValueError(
            f"{rule!r}: rate(n) must have the shape of n, {n.shape}, not {rates.shape}."
        )
    outside = ~((rates >= 0.0) & (rates <= 1.0))
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"{rule!r}: rate({n[first]:g}) is {rates[first]:g}; 1 - beta must lie from 0 to 1."
        )


def named_decays(decays):
    """Every accepted form of `EMA(decays)` as a dict name -> Decay, the names distinct."""
    if isinstance(decays, dict):
        called, rules = map(str, decays), map(as_decay, decays.values())
    else:
        if isinstance(decays, (set, frozenset)):
            raise ValueError(
                "decays is a set, which has no order, and the last average is the one that is "
                "used: give a tuple or a list."
            )
        if isinstance(decays, str) or not np.iterable(decays):
            decays = (decays,)
        rules = [as_decay(decay) for decay in decays]
        called = [rule.name for rule in rules]
    called, rules = list(called), list(rules)
    names.check_averages(called)
    for rule in rules:
        _check_rates(rule)
    return dict(zip(called, rules, strict=True))
