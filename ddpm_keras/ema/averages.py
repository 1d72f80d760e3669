"""The averages themselves: any number of them beside one set of weights, updated in the graph.

An average moves once per true optimizer step, always in float32 and always in the form

    ema <- ema + (1 - beta_n) * (theta - ema)

where theta are the weights after the step and n counts the averages already made. It starts as an
exact copy of the weights. Raw weights are never overwritten by an average.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from .. import names
from ..aliases import PathLike
from ..keras_internals import in_stateless_scope
from ..scalars import count, flag, positive, whole
from .decays import Decay, named_decays
from .groups import as_variables, label, tf_variable
from .moving import MovingAverages
from .power_function import PowerFunctionDecay
from .weight_sets import WeightSet, fresh_network

logger = logging.getLogger("ddpm_keras")

# A run is called too short for an average that still holds more than this share of its start.
MAX_INITIAL_SHARE = 0.05


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMA(MovingAverages):
    """Any number of moving averages of one set of weights, updated in the graph.

    Trainable weights are averaged; all others (integer counters, tables, the moving statistics of
    BatchNormalization) are taken from the network as they are. The averages are float32 whatever
    the policy, non-trainable, and known to no optimizer. As an attribute of a Keras model the `EMA`
    is saved and loaded with it.

    Args:
        decays: A float, a decay, a sequence of them, or a dict name -> float or decay. A float is a
            `ConstantDecay`, named by its digits: 0.999 is "0.999".
        update_every: Move the averages only at every k-th optimizer step, by the product of the k
            betas (for a constant decay beta^k). That leaves out k - 1 of every k weights: an
            approximation that saves time, exact only if the weights stand still in between.
        average_statistics: Average the moving statistics of BatchNormalization (any non-trainable
            floating weight) instead of copying them.
        snapshot_widths: Relative widths of power-function averages to keep beside the others, for
            `callbacks.PowerFunctionSnapshots`. They are not weight sets of their own.

    Example:

    ```python
    ema = EMA((0.99, 0.999))
    ema.build(model.weights)
    for batch in batches:              # in one's own training loop, also inside a tf.function
        train(batch)                   # one optimizer step
        ema.update(model.weights)
    ema.assign_to("0.999", another_model.weights)
    ```
    """

    def __init__(
        self,
        decays: Any,
        update_every: int = 1,
        average_statistics: bool = False,
        snapshot_widths: Sequence[float] = (),
    ):
        self._decays = named_decays(decays)
        self._names = tuple(self._decays)
        self.update_every = count(update_every, "update_every")
        self.average_statistics = flag(average_statistics, "average_statistics")
        for decay in self._decays.values():
            if decay.slots and decay.every_steps < self.update_every:
                raise ValueError(
                    f"{decay!r} takes weights more often than update_every={update_every} looks at "
                    f"them: take them every {update_every} steps, or less often."
                )
        self._set_snapshot_widths(snapshot_widths)

    def _set_snapshot_widths(self, widths):
        several = isinstance(widths, (tuple, list))
        rules = [PowerFunctionDecay(width) for width in widths] if several else []
        self.snapshot_widths = tuple(rule.sigma_rel for rule in rules)
        if not several or len(set(self.snapshot_widths)) < len(rules):
            raise ValueError(
                "snapshot_widths are distinct relative widths in a tuple, such as (0.05, 0.1); "
                f"got {widths!r}."
            )
        hidden = {names.snapshot_average(rule.sigma_rel): rule for rule in rules}
        self._keep((*self._names, *hidden), (*self._decays.values(), *hidden.values()))

    @classmethod
    def get(cls, ema: Any) -> EMA | None:
        """An `EMA` from any form the `ema` argument of a model takes; None stays None."""
        if ema is None or isinstance(ema, cls):
            return ema
        if isinstance(ema, dict) and "class_name" in ema:
            return keras.saving.deserialize_keras_object(ema)
        return cls(ema)

    def get_config(self) -> dict[str, Any]:
        return {
            "decays": {
                name: keras.saving.serialize_keras_object(decay)
                for name, decay in self._decays.items()
            },
            "update_every": self.update_every,
            "average_statistics": self.average_statistics,
            "snapshot_widths": self.snapshot_widths,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    def __reduce__(self) -> Any:
        """Of `copy.deepcopy` and `pickle`; averages that are built belong to weights."""
        if self.built:
            raise ValueError(
                "Averages belong to the weights that they are of, and cannot be copied without: "
                "copy or pickle the model that holds them, or EMA.from_config(ema.get_config()) "
                "for the same rules."
            )
        return type(self).from_config, (self.get_config(),)

    # Names and rules.

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the averages, in the order given."""
        return self._names

    @property
    def decays(self) -> dict[str, Decay]:
        """The decay of each average: dict name -> decay."""
        return dict(self._decays)

    def _index(self, name):
        name = str(name)
        if name not in self._keys:
            known = ", ".join(self._names) or "none"
            raise ValueError(f"No average is called {name!r}: there are {known}.")
        return self._keys.index(name)

    @property
    def last_move(self) -> int:
        """The step, as `num_updates` counts, at which the averages last moved, an int."""
        return self._last_move(self.num_updates)

    def _last_move(self, steps):
        return steps - steps % self.update_every

    def age(self, name: str) -> int:
        """How many updates this average has seen: `num_updates`, less if it started later."""
        index = self._index(name)
        return self.num_updates - int(self._starts.numpy()[index]) if self.built else 0

    def beta(self, name: str) -> float:
        """beta_n of the next update of this average, a float."""
        return float(self._rules[self._index(name)](self.age(name)))

    def effective_window(self, name: str) -> float:
        """How many of the last steps this average rests on now, a float."""
        last = max(self.age(name) - 1, 0)  # the number of the update that was made last
        return float(self._rules[self._index(name)].effective_window(last))

    def initial_share(self, name: str) -> float:
        """Share of the weights it started from that this average still holds, a float."""
        rule = self._rules[self._index(name)]
        return rule.initial_share(self._moves(name, self.num_updates))

    def describe(self, steps: int, steps_per_epoch: float | None = None) -> list[str]:
        """One line for each average: its rule, its window and what is left of the initial weights.

        Args:
            steps: Length of the run in optimizer steps, at least 0.
            steps_per_epoch: Optimizer steps in an epoch, positive, to give windows in epochs too.

        Returns:
            A list of strings.
        """
        lines, steps = [], whole(steps, "steps", 0)
        if steps_per_epoch is not None:
            steps_per_epoch = positive(steps_per_epoch, "steps_per_epoch")
        for name, decay in self._decays.items():
            window, share = self._reach(name, steps)
            epochs = f" ({window / steps_per_epoch:,.1f} epochs)" if steps_per_epoch else ""
            lines.append(
                f"{names.average(name)}: {decay!r}, effective window {window:,.0f} steps{epochs} "
                f"at the end; after {steps:,} steps the initial weights count {share:.2%}"
            )
        return lines

    def _reach(self, name, steps):
        """(effective window, share of the weights it started from) of an average after a run."""
        decay, moves = self._decays[name], self._moves(name, steps)
        return float(decay.effective_window(max(moves - 1, 0))), decay.initial_share(moves)

    def _moves(self, name, steps):
        """How many updates an average has seen after a run of so many steps."""
        start = self.num_updates - self.age(name)  # later than 0 if it was not there before
        return max(self._last_move(steps) - start, 0)

    def warnings(self, steps: int) -> list[str]:
        """One line for each average that a run of `steps` optimizer steps is too short for.

        Args:
            steps: Length of the run in optimizer steps, at least 0.

        Returns:
            A list of strings, empty when every average is one and has left its start behind.
        """
        lines, steps = [], whole(steps, "steps", 0)
        for name, decay in self._decays.items():
            window, share = self._reach(name, steps)
            doubt = decay.doubt(self._moves(name, steps))
            if share > MAX_INITIAL_SHARE:
                doubt = (
                    f"its window is {window:,.0f} steps, so after {steps:,} steps the initial "
                    f"weights still count {share:.0%}; use a smaller decay or a warm-up."
                )
            if doubt:
                lines.append(f"{names.average(name)}: {doubt}")
        return lines

    # Values.

    def variables(self, name: str) -> list[Any]:
        """The weights of an average: a list aligned with the variables given to `build`.

        Averaged weights are float32 tensors with the values of this moment (in a graph: of the
        moment it runs); weights that are not averaged are the network's own variables. Where other
        weights were put in place of those of the last `fit`, a warning says that the averages do
        not follow before the next step.
        """
        self._check_built()
        rule = self._index(name)
        if tf.executing_eagerly() and not in_stateless_scope():
            self.settle()
            self._say_replaced()
        result = list(self._sources)
        for group in self._groups:
            for position, value in group.split(group.averages[rule].value).items():
                result[position] = value
        return result

    def add_snapshots(self, widths: Sequence[float]) -> bool:
        """Keeps power-function averages of these relative widths too, from the first step on.

        Args:
            widths: Relative widths. Those that are kept already are left alone.

        Returns:
            True if averages were added, so that a training function traced before is out of date.
        """
        missing = [float(w) for w in widths if float(w) not in self.snapshot_widths]
        if not missing:
            return False
        if self.num_updates:
            raise ValueError(
                f"The power-function averages {missing} were not kept from the first step on, and "
                f"{self.num_updates:,} steps are done: use "
                f"EMA(..., snapshot_widths={tuple(widths)}) from the start."
            )
        sources = self._sources
        self._set_snapshot_widths((*self.snapshot_widths, *missing))
        if sources:
            self.build(sources)
        return True

    def snapshot_variables(self, width: float) -> list[Any]:
        """The weights of a power-function average kept for snapshots; see `variables`."""
        return self.variables(names.snapshot_average(width))

    def assign_to(self, name: str, variables: Sequence[Any]) -> None:
        """Writes an average into other variables, such as the weights of a second network.

        Args:
            name: Name of the average.
            variables: Aligned with the variables given to `build`, with the same shapes. What
                layers computed of their weights before, as `Normalization` does, stays: `export`
                computes it anew.
        """
        values = self.variables(name)
        variables = as_variables(variables)
        shapes = [tuple(v.shape) for v in variables]
        expected = [tuple(v.shape) for v in values]
        if shapes != expected:
            raise ValueError(
                f"The {len(expected)} averaged weights {expected} do not fit the {len(shapes)} "
                f"variables {shapes}: give those of a network built the same way."
            )
        own = {id(v) for v in self._sources}
        if any(id(v) in own for v in variables):
            raise ValueError(
                "An average never overwrites the weights in training: give another network's."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(tf.cast(tf_variable(value), variable.dtype))

    def export(self, model: keras.Model, name: str, path: PathLike | None = None) -> keras.Model:
        """A fresh model that holds an average, to ship; the given one stays as it is.

        Args:
            model: The model with the weights given to `build`, or a part of it with some of them.
                Its other weights (of layers that are not averaged, statistics of
                BatchNormalization) are copied.
            name: Name of the average.
            path: Also save the model here (a name ending in ".keras").

        Returns:
            The model, built from the config of `model` and not compiled.

        Raises:
            ValueError: No weight of the model is averaged, one was put in the place of one that is,
                or one is not finite.
        """
        if not isinstance(model, keras.layers.Layer):
            raise ValueError(f"model is the Keras model that was trained; got {model!r:.60}.")
        averages = dict(zip(map(id, self._sources), self.variables(name), strict=True))
        if not any(id(v) in averages for v in model.weights):
            raise ValueError(
                f"No weight of {model.name!r} is averaged here: give the model that was trained."
            )
        self._check_not_replaced(model)
        values = [averages.get(id(v), v) for v in model.weights]
        for line in self.warnings(self.num_updates):
            if line.startswith(f"{names.average(name)}: "):
                logger.warning(line)
        return fresh_network(model, WeightSet(names.average(name), values), path)

    def _check_not_replaced(self, model):
        """Refuses a model with new variables in the places of averaged ones: it would hold both."""
        own = {id(v) for v in model.weights}
        gone = {label(v) for v in self._sources if id(v) not in own}
        for weight in model.weights:
            if id(weight) not in self._position and label(weight) in gone:
                raise ValueError(
                    f"{label(weight)} is another variable than the one that is averaged, as after "
                    "quantize: export the average first, and change what it gives."
                )
