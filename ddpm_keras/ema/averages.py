"""The averages themselves: any number of them beside one set of weights, updated in the graph.

An average moves once per true optimizer step, always in float32 and always in the form

    ema <- ema + (1 - beta_n) * (theta - ema)

where theta are the weights after the step and n counts the averages already made. It starts as an
exact copy of the weights. Raw weights are never overwritten by an average.
"""

import json
import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from .. import names
from ..keras_internals import Saveable, maybe_merge_call
from ..scalars import count, flag
from .decays import PowerFunctionDecay, as_decay, named_decays
from .groups import (
    can_be_averaged,
    in_groups,
    is_float,
    join,
    label,
    new_variable,
    rows,
    strategy_of,
    tf_variable,
)

# A run is called too short for an average that still holds more than this share of its start.
MAX_INITIAL_SHARE = 0.05


@keras.saving.register_keras_serializable(package="ddpm_keras")
class EMA(Saveable):
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

    def __init__(self, decays, update_every=1, average_statistics=False, snapshot_widths=()):
        self._decays = named_decays(decays)
        self._names = tuple(self._decays)
        self.update_every = count(update_every, "update_every")
        self.average_statistics = flag(average_statistics, "average_statistics")
        for decay in self._decays.values():
            if decay.slots and decay.every < self.update_every:
                raise ValueError(
                    f"{decay!r} takes weights more often than update_every={update_every} looks at "
                    f"them: take them every {update_every} steps, or less often."
                )
        self._set_snapshot_widths(snapshot_widths)

    def _set_snapshot_widths(self, widths):
        if not isinstance(widths, (tuple, list)) or len(set(widths)) < len(widths):
            raise ValueError(
                "snapshot_widths are distinct relative widths in a tuple, such as (0.05, 0.1); "
                f"got {widths!r}."
            )
        rules = [PowerFunctionDecay(width) for width in widths]
        self.snapshot_widths = tuple(rule.sigma_rel for rule in rules)
        hidden = {names.snapshot_average(rule.sigma_rel): rule for rule in rules}
        self._keys = (*self._names, *hidden)
        self._rules = (*self._decays.values(), *hidden.values())
        self._forget()

    def _forget(self):
        self.built = False
        self._sources = ()  # every variable of build(), in its order
        self._position = {}  # id(variable) -> its place in _sources
        self._groups = []
        self._pending = set()  # (rule, position) that start anew from weights still being loaded

    @classmethod
    def get(cls, ema):
        """An `EMA` from any form the `ema` argument of a model takes; None stays None."""
        if ema is None or isinstance(ema, cls):
            return ema
        if isinstance(ema, dict) and "class_name" in ema:
            return keras.saving.deserialize_keras_object(ema)
        return cls(ema)

    def get_config(self):
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
    def from_config(cls, config):
        return cls(**config)

    # Names and rules.

    @property
    def names(self):
        """The names of the averages, in the order given."""
        return self._names

    @property
    def decays(self):
        """The decay of each average: dict name -> decay."""
        return dict(self._decays)

    def _index(self, name):
        name = str(name)
        if name not in self._keys:
            raise ValueError(f"No average is called {name!r}: there are {', '.join(self._names)}.")
        return self._keys.index(name)

    @property
    def num_updates(self):
        """How many true optimizer steps have been counted, an int."""
        return int(self._steps.numpy()) if self.built else 0

    @property
    def last_move(self):
        """The step, as `num_updates` counts, at which the averages last moved, an int."""
        return self._last_move(self.num_updates)

    def _last_move(self, steps):
        return steps - steps % self.update_every

    def age(self, name):
        """How many updates this average has seen: `num_updates`, less if it started later."""
        index = self._index(name)
        return self.num_updates - int(self._starts.numpy()[index]) if self.built else 0

    def beta(self, name):
        """beta_n of the next update of this average, a float."""
        return float(self._rules[self._index(name)](self.age(name)))

    def effective_window(self, name):
        """How many of the last steps this average rests on now, a float."""
        return float(self._rules[self._index(name)].effective_window(self.age(name)))

    def describe(self, steps, steps_per_epoch=None):
        """One line for each average: its rule, its window and what is left of the initial weights.

        Args:
            steps: Length of the run in optimizer steps.
            steps_per_epoch: Optimizer steps in an epoch, to give windows in epochs too.

        Returns:
            A list of strings.
        """
        lines = []
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
        if steps < 0:
            raise ValueError(f"steps must be at least 0 optimizer steps; got {steps}.")
        start = self.num_updates - self.age(name)  # later than 0 if it was not there before
        return max(self._last_move(steps) - start, 0)

    def warnings(self, steps):
        """One line for each average that a run of `steps` optimizer steps is too short for.

        Args:
            steps: Length of the run in optimizer steps.

        Returns:
            A list of strings, empty when every average is one and has left its start behind.
        """
        lines = []
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

    # State.

    def build(self, variables):
        """Creates the averages as exact copies of the weights. Call it again after thawing a layer.

        Variables that have become trainable since get an average at their present value, which is
        exact, since they have not moved so far. Variables that are no longer trainable keep theirs.

        Args:
            variables: `model.weights` (or only its trainable ones): a list of variables that hold
                values. The averages are created under the strategy of these variables.
        """
        variables = list(variables)
        if not variables:
            raise ValueError("There is nothing to average: build the model first.")
        if self.built and [id(v) for v in variables] == [id(v) for v in self._sources]:
            return self._add_thawed()
        if self.built and self.num_updates:
            raise ValueError(
                "The model has other weights than the averages were built for "
                f"({', '.join(self._difference(variables)) or 'another order'}); "
                "make a new EMA for it, or keep the model as it was."
            )
        self._forget()
        self._sources = tuple(variables)
        self._position = {id(v): i for i, v in enumerate(variables)}
        with tf.init_scope(), strategy_of(variables[0]).scope():
            self._steps = self.track("steps", new_variable(0, "ema_steps", "int64"))
            starts = np.zeros(len(self._rules), np.int64)
            self._starts = self.track("starts", new_variable(starts, "ema_starts", "int64"))
        self.built = True
        self._add_thawed()

    def _add_thawed(self):
        self._add_averages(
            i
            for i, v in enumerate(self._sources)
            if is_float(v) and (v.trainable or self.average_statistics)
        )

    def _add_averages(self, positions):
        """Creates averages, as copies, of the weights at these places that have none yet."""
        known = set(self.averaged_positions)
        new = [i for i in positions if i not in known]
        if not new:  # inside a replica, variables may be looked up but not created
            return
        with tf.init_scope(), strategy_of(self._sources[0]).scope():
            for group in in_groups(new, self._sources):
                weights, number = group.weights_now(), len(self._groups)
                for index, (key, rule) in enumerate(zip(self._keys, self._rules, strict=True)):
                    average = new_variable(weights, f"ema_{key}_{number}")
                    group.averages.append(self.track(f"{key}_{number}", average))
                    if rule.slots:
                        window = rows(weights, self._filled(index), rule.slots)
                        window = new_variable(window, f"ema_{key}_{number}_window")
                        group.windows[index] = self.track(f"{key}_{number}_window", window)
                self._groups.append(group)

    def _filled(self, index):
        """How many past weights the window of an average holds, an int; 0 if it has none."""
        rule, age = self._rules[index], self.num_updates - int(self._starts.numpy()[index])
        return min(int(rule.taken(age)), rule.slots) if rule.slots else 0

    def _difference(self, variables):
        known, given = set(self._position), {id(v) for v in variables}
        added = [f"new: {label(v)}" for v in variables if id(v) not in known]
        return added + [f"gone: {label(v)}" for v in self._sources if id(v) not in given]

    def _check_built(self):
        if not self.built:
            raise ValueError("The averages do not exist yet: call ema.build(model.weights) first.")

    def reset(self):
        """Starts every average anew as a copy of the present weights, with its counter at 0."""
        self._check_built()
        self._steps.assign(0)
        self._starts.assign(np.zeros(len(self._rules), np.int64))
        self._settle()

    def _settle(self):
        """Copies the weights into averages that no update has moved yet, in case they changed.

        Weights may have been loaded or assigned after `build`; until its first update an average is
        by definition an exact copy of them.
        """
        fresh = self.num_updates == 0
        for group in self._groups:
            for index in range(len(self._rules)):
                anew = {i for i in group.positions if fresh or (index, i) in self._pending}
                if anew:
                    group.restart(index, anew, self._filled(index))
        self._pending = set()

    def variables(self, name):
        """The weights of an average: a list aligned with the variables given to `build`.

        Averaged weights are float32 tensors with the values of this moment (in a graph: of the
        moment it runs); weights that are not averaged are the network's own variables.
        """
        self._check_built()
        rule = self._index(name)
        if tf.executing_eagerly():
            self._settle()
        result = list(self._sources)
        for group in self._groups:
            for position, value in group.split(group.averages[rule].value).items():
                result[position] = value
        return result

    @property
    def sources(self):
        """The variables given to `build`, in their order."""
        return self._sources

    @property
    def averaged_positions(self):
        """The places in `sources` of the weights that are averaged; the others are copied."""
        return tuple(sorted(i for group in self._groups for i in group.positions))

    def add_snapshots(self, widths):
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

    def snapshot_variables(self, width):
        """The weights of a power-function average kept for snapshots; see `variables`."""
        return self.variables(names.snapshot_average(width))

    def assign_to(self, name, variables):
        """Writes an average into other variables, such as the weights of a second network.

        Args:
            name: Name of the average.
            variables: Aligned with the variables given to `build`, with the same shapes.
        """
        values = self.variables(name)
        variables = list(variables)
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

    # The update.

    def update(self, variables, stepped=True):
        """Moves every average once towards the weights as they are now.

        Call it once after each optimizer step, eagerly or in a `tf.function`, in a replica or not.
        All averaged weights move, also those frozen since `build` and no longer listed. If any of
        them is not finite, nothing moves or counts: no average ever takes in such a number.

        Args:
            variables: The weights in training; each must have been given to `build`.
            stepped: A bool or boolean tensor: whether the optimizer really moved the weights. If
                not (a skipped step, a micro-batch only accumulated), nothing moves or counts.
        """
        self._check_built()
        unknown = [label(v) for v in variables if id(v) not in self._position]
        if unknown:
            raise ValueError(
                f"No average was built for {', '.join(unknown[:3])}"
                f"{' and others' if len(unknown) > 3 else ''}: call ema.build(model.weights) first."
            )
        if not self._rules:
            return
        if self._pending:
            with tf.init_scope():
                self._settle()
        weights = [group.weights_now() for group in self._groups]
        usable = [tf.convert_to_tensor(stepped), *map(can_be_averaged, weights)]
        # A condition may not hold a merge of replicas, so merge first (as LossScaleOptimizer does).
        maybe_merge_call(
            self._count_and_move,
            strategy_of(self._sources[0]),
            tf.reduce_all(tf.stack(usable)),
            weights,
        )

    def _count_and_move(self, strategy, usable, weights):
        if isinstance(usable, tf.distribute.DistributedValues):
            usable = strategy.experimental_local_results(usable)[0]  # the same in every replica
        tf.cond(usable, lambda: self._count(strategy, weights), lambda: None)

    def _count(self, strategy, weights):
        steps = tf.convert_to_tensor(self._steps)
        if self.update_every == 1:
            self._move(strategy, weights, steps)
        else:
            due = tf.equal((steps + 1) % self.update_every, 0)
            tf.cond(due, lambda: self._move(strategy, weights, steps), lambda: None)
        strategy.extended.update(self._steps.value, lambda v: v.assign(steps + 1), group=False)

    def _move(self, strategy, weights, steps):
        rates = self._rates(steps)
        for group, joined in zip(self._groups, weights, strict=True):
            group.move(strategy, joined, rates)
        for index, rule in enumerate(self._rules):
            if rule.slots:
                self._take(strategy, weights, index, steps)

    def _take(self, strategy, weights, index, steps):
        """Puts the weights into the window of an average where they are due."""
        rule, n = self._rules[index], self._age_at(index, steps)
        taken = rule.taken(n + 1.0)
        due = taken > rule.taken(tf.maximum(n + 1.0 - self.update_every, 0.0))
        slot = tf.cast(taken - 1.0, tf.int64) % rule.slots
        filled = tf.cast(tf.minimum(taken, float(rule.slots)), tf.float32)

        def take():
            for group, joined in zip(self._groups, weights, strict=True):
                group.take(strategy, index, joined, slot, filled)

        tf.cond(due, take, lambda: None)

    def _age_at(self, index, steps):
        """How many updates an average has had after so many steps, in the graph, float64."""
        return tf.cast(steps - tf.convert_to_tensor(self._starts)[index], tf.float64)

    def _rates(self, steps):
        """1 - beta of this update for every average, float32 scalars, computed in float64."""
        rates = []
        for index, rule in enumerate(self._rules):
            n = self._age_at(index, steps)
            if self.update_every == 1:
                rate = rule.rate(n)
            else:  # 1 - the product of the last k betas
                past = n - tf.range(self.update_every, dtype=tf.float64)
                each = tf.where(past >= 0.0, rule.rate(tf.maximum(past, 0.0)), 0.0)
                rate = -tf.math.expm1(tf.reduce_sum(tf.math.log1p(-each)))
            rates.append(tf.cast(rate, tf.float32))
        return rates

    # Saving and loading.

    def save_own_variables(self, store):
        if not self.built:
            return
        self._settle()
        record = {
            "keys": list(self._keys),
            "rules": [keras.saving.serialize_keras_object(rule) for rule in self._rules],
            "starts": self._starts.numpy().tolist(),
            "positions": [group.positions for group in self._groups],
            "shapes": [group.shapes for group in self._groups],
            "steps": self.num_updates,
        }
        store["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
        for number, group in enumerate(self._groups):
            for rule, average in enumerate(group.averages):
                store[f"{rule}_{number}"] = average.numpy()
            for rule, window in group.windows.items():
                store[f"{rule}_{number}_window"] = window.numpy()

    def load_own_variables(self, store):
        if "record" not in store.keys():
            if self.built and self.num_updates:
                self._steps.assign(0)
                warnings.warn(
                    f"The file holds no averages: {', '.join(self._names)} start anew.",
                    stacklevel=2,
                )
            return  # an average without updates follows the weights by itself
        self._check_built()
        record = json.loads(np.asarray(store["record"], np.uint8).tobytes().decode())
        count = 1 + max((i for positions in record["positions"] for i in positions), default=-1)
        if count > len(self._sources):
            raise ValueError(
                f"The file holds averages of {count} weights, and this network has "
                f"{len(self._sources)}: load it into a network built the same way."
            )
        # A layer that was frozen since the file was written keeps its average.
        self._add_averages([i for positions in record["positions"] for i in positions])
        stored = [as_decay(rule) for rule in record["rules"]]
        rules = range(len(self._rules))
        kept = {i: self._match(i, stored, record["keys"]) for i in rules}
        kept = {i: j for i, j in kept.items() if j is not None}
        pending = {(i, p) for i in rules if i not in kept for p in self.averaged_positions}
        for i, j in kept.items():
            pending |= self._load_average(i, _stored_weights(store, record, str(j) + "_{}"))
            if self._rules[i].slots:
                self._load_window(i, _stored_weights(store, record, str(j) + "_{}_window"))
        starts = [record["starts"][kept[i]] if i in kept else record["steps"] for i in rules]
        self._starts.assign(np.asarray(starts, np.int64))
        self._steps.assign(record["steps"])
        # Before the next use, since the weights themselves may be loaded after this.
        self._pending = pending
        self._report_loading(record, stored, kept)

    def _load_average(self, rule, values):
        """Takes over an average, position -> array; returns what of it starts anew."""
        pending = set()
        for group in self._groups:
            parts = []
            for i, weight, shape in zip(group.positions, group.weights, group.shapes, strict=True):
                if i not in values:  # frozen when the file was written, so it had not moved
                    pending.add((rule, i))
                value = values.get(i, tf_variable(weight))
                if tuple(value.shape) != shape:
                    raise ValueError(
                        f"The file's average of {label(weight)} has shape {tuple(value.shape)}, "
                        f"the weight {shape}: load it into a network built the same way."
                    )
                parts.append(value)
            group.averages[rule].assign(join(parts))
        return pending

    def _load_window(self, rule, values):
        """Takes over the past weights of an average; those that are missing are filled in later."""
        for group in self._groups:
            window = group.windows[rule]
            parts = [
                values.get(i, np.zeros((window.shape[0], *shape), np.float32))
                for i, shape in zip(group.positions, group.shapes, strict=True)
            ]
            window.assign(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1))

    def _match(self, index, stored, keys):
        """Which stored average continues as this one: the same rule, best under the same name."""
        candidates = [j for j, rule in enumerate(stored) if rule == self._rules[index]]
        return min(candidates, key=lambda j: keys[j] != self._keys[index], default=None)

    def _report_loading(self, record, stored, kept):
        dropped = [key for j, key in enumerate(record["keys"]) if j not in kept.values()]
        anew = [i for i in range(len(self._rules)) if i not in kept]
        if not anew and not dropped:
            return
        parts = [f"kept {', '.join(self._keys[i] for i in kept) or 'none'}"]
        for i in anew:
            key, reason = self._keys[i], "is not in the file"
            if key in record["keys"]:
                there = stored[record["keys"].index(key)]
                reason = f"is {there!r} in the file and {self._rules[i]!r} here"
            parts.append(f"{key} starts anew from the loaded weights, since it {reason}")
        if dropped:
            parts.append(f"left in the file: {', '.join(dropped)}, which this model does not keep")
        text = f"Averages after {record['steps']:,} steps: {'; '.join(parts)}."
        warnings.warn(text, stacklevel=2)


def _stored_weights(store, record, key):
    """What a file has of an average as position -> array in the shape of the weight.

    Args:
        store: The file.
        record: What was written of it.
        key: Name of the array of each group, "{}" standing for the number of the group: an average,
            or a window, whose arrays have a first axis more.
    """
    values = {}
    groups = zip(record["positions"], record["shapes"], strict=True)
    for number, (positions, shapes) in enumerate(groups):
        flat = np.asarray(store[key.format(number)])
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        for i, part, shape in zip(
            positions, np.split(flat, ends[:-1], axis=-1), shapes, strict=True
        ):
            values[i] = part.reshape(*flat.shape[:-1], *shape)
    return values
