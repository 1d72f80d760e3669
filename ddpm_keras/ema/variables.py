"""The variables of averages of one set of weights: created, listed, started anew."""

import itertools
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from ..keras_internals import Saveable
from .groups import (
    as_variables,
    checksum,
    fingerprint,
    holds_value,
    in_groups,
    is_complex,
    is_float,
    label,
    new_variable,
    refuse_in_scope,
    rows,
    strategy_of,
)

_BEGUN_AGAIN = np.iinfo(np.int64).min  # of `_claimed`: what a step found, and nobody has said yet


class AverageVariables(Saveable):
    """The variables of any number of averages. A subclass says by which rules they move."""

    average_statistics = False

    def _keep(self, keys, rules):
        """Sets which averages there are: their names, and the decay of each."""
        self._keys, self._rules = tuple(keys), tuple(rules)
        self._forget()

    def _forget(self):
        self.built = False
        self._sources: Any = ()  # every variable of build(), in its order
        self._position = {}  # id(variable) -> its place in _sources
        self._groups = []
        self._pending = set()  # (rule, position) that start anew from weights still being loaded
        self._pending_at = 0  # as long as there were so many updates
        self._is_part = False  # of a model: of what an optimizer trains
        self._loaded = None  # (positions, fingerprint of the weights) of the file loaded last
        self._left = False  # whether `_claimed` is from the end of a training, not from a file
        self._said = False  # that the weights are others since

    @property
    def _range(self):
        return range(len(self._rules))

    @property
    def num_updates(self):
        """How many true optimizer steps have been counted, an int."""
        return int(self._steps.numpy()) if self.built else 0

    # State.

    def build(self, variables):
        """Creates the averages as exact copies of the weights. Call it again after thawing a layer.

        Variables that have become trainable since get an average at their present value, which is
        exact, since they have not moved so far. Variables that are no longer trainable keep theirs.

        Args:
            variables: `model.weights` (or only its trainable ones): a list of variables that hold
                values. The averages are created under the strategy of these variables.
        """
        variables = as_variables(variables)
        if not variables:
            raise ValueError("There is nothing to average: build the model first.")
        if self.built and [id(v) for v in variables] == [id(v) for v in self._sources]:
            return self._add_thawed()
        if self.built and self.num_updates:
            raise ValueError(
                "The model has other weights than the averages were built for "
                f"({self._difference(variables) or 'another order'}); "
                "make a new EMA for it, or keep the model as it was."
            )
        if not all(map(holds_value, variables)):
            raise ValueError(
                "The weights hold no values yet: build the model first, say by calling it on a "
                "batch."
            )
        self._forget()
        self._create(variables)

    def _create(self, variables):
        self._set_sources(variables)
        with tf.init_scope(), strategy_of(self._sources[0]).scope():
            self._steps = self.track("steps", new_variable(0, "ema_steps", "int64"))
            starts = np.zeros(len(self._rules), np.int64)
            self._starts = self.track("starts", new_variable(starts, "ema_starts", "int64"))
            # Fingerprint of the weights that averages were loaded or left with; 0: these are.
            self._claimed = new_variable(0, "ema_claimed", "int64")
            # That of the averages that a training left; 0: they are of a file.
            self._averages_left = new_variable(0, "ema_averages_left", "int64")
        self.built = True
        self._add_thawed()

    def extend(self, variables):
        """Goes on with other variables of the same model, such as those of a thawed layer.

        Weights that are known keep their averages, also where they are no longer given; others get
        averages at their present values. Where there are no averages yet, they are created, also
        for weights whose values the graph that is traced will make: for those, call `start`.

        Args:
            variables: A list of variables. `EMA.variables` is aligned with them from now on,
                followed by what was known before and is no longer given.
        """
        variables = as_variables(variables)
        self._is_part = True
        if not self.built:
            return self._create(variables)
        known = any(id(v) in self._position for v in variables)
        if not known and any(v.trainable for v in self._sources):
            raise ValueError(
                f"These averages are those of other weights ({label(self._sources[0])}, ...): make "
                "an EMA for each optimizer, and for each model."
            )
        with tf.init_scope():
            self._settle_claim(training=True)
            self.settle()
        given = {id(v) for v in variables}
        self._set_sources((*variables, *(v for v in self._sources if id(v) not in given)))
        for group in self._groups:
            group.positions = tuple(self._position[id(v)] for v in group.weights)
        self._add_thawed()

    def _set_sources(self, variables):
        self._sources = tuple(variables)
        self._position = {id(v): i for i, v in enumerate(self._sources)}

    def _add_thawed(self):
        for v in self._sources:
            if v.trainable and is_complex(v):
                raise ValueError(
                    f"{label(v)} holds complex numbers, and averages are of real ones: keep its "
                    "real and its imaginary part as two weights."
                )
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
                weights, number = group.first_values(), len(self._groups)
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
        found = [f"new: {label(v)}" for v in variables if id(v) not in known]
        found += [f"gone: {label(v)}" for v in self._sources if id(v) not in given]
        return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")

    def _check_built(self):
        if not self.built:
            raise ValueError(
                "The averages do not exist yet, as nothing was trained: for copies of the weights "
                "call ema.build(model.weights), or build(model.trainable_variables) of the "
                "optimizer that keeps them."
            )

    def reset(self):
        """Starts every average anew as a copy of the present weights, with its counter at 0."""
        refuse_in_scope("reset")
        self._check_built()
        self._set_counters(0, 0)
        self._claimed.assign(0)
        self.settle()

    def leave(self):
        """Notes that the averages are of the weights as they are now, where a training ends.

        Where others are in their place when it goes on (see `EMA.start`), and the averages are the
        same, all start anew from those, and it is said. Until then weights can be replaced and put
        back. Averages that were restored with their weights, as by `tf.train.Checkpoint`, go on.
        Called again before the next step, it notes nothing new, unless averages were restored.
        """
        if self.built and self._groups:
            self._settle_claim()
            if self.num_updates and (not int(self._claimed.numpy()) or self._came_along()):
                self._claim(fingerprint(self._averaged()), left=True)

    def _claim(self, expected, left=False):
        self._claimed.assign(expected)
        self._averages_left.assign(fingerprint(self._moving()) if left else 0)
        self._left, self._said = left, False

    def _say_replaced(self):
        """Says once that the averages are not those of the weights that are there."""
        claimed = int(self._claimed.numpy())
        unsaid = self._left and claimed not in (0, _BEGUN_AGAIN) and not self._said
        if unsaid and fingerprint(self._averaged()) != claimed and not self._came_along():
            self._said = True
            warnings.warn(
                "The weights of these averages were replaced since the last fit, and the averages "
                "are still those of the former ones: ema.reset() starts them anew, as the next "
                "step will. Where EarlyStopping(restore_best_weights=True) has done it, that of "
                "ddpm_keras.callbacks brings the averages along.",
                stacklevel=4,
            )

    def _averaged(self):
        """The weights that are averaged, in the order of `sources`."""
        return [self._sources[i] for i in self.averaged_positions]

    def _moving(self):
        """The variables of the averages, in an order that stays."""
        return [average for group in self._groups for average in group.averages]

    def _came_along(self):
        """Whether the averages are others than a training left: restored, as their weights are."""
        return self._left and fingerprint(self._moving()) != int(self._averages_left.numpy())

    def _set_counters(self, steps, starts):
        self._steps.assign(steps)
        self._starts.assign(np.broadcast_to(np.asarray(starts, np.int64), len(self._rules)))

    def settle(self):
        """Copies the weights into averages that no update has moved yet, in case they changed.

        Weights may have been loaded or assigned after `build`; until its first update an average is
        by definition an exact copy of them.
        """
        self._settle_claim()
        fresh = self.num_updates == 0
        if self.num_updates > self._pending_at:  # they did in the graph: see `EMA.start`
            self._pending = set()
        for group in self._groups:
            for index in self._range:
                anew = {i for i in group.positions if fresh or (index, i) in self._pending}
                if anew:
                    group.restart(index, anew, self._filled(index))
        self._pending = set()

    @property
    def state(self):
        """The variables that hold the averages and their counters, in an order that stays.

        Two counters, then for each group of weights a flat variable for each average, and one for
        each of their windows; weights that are thawed later come last. Empty before `build`.
        """
        if not self.built:
            return ()
        groups = ((*group.averages, *group.windows.values()) for group in self._groups)
        return (self._steps, self._starts, *itertools.chain.from_iterable(groups))

    @property
    def sources(self):
        """The variables given to `build`, in their order."""
        return self._sources

    @property
    def averaged_positions(self):
        """The places in `sources` of the weights that are averaged; the others are copied."""
        return tuple(sorted(i for group in self._groups for i in group.positions))

    # Of which weights they are.

    def _settle_claim(self, training=False):
        """Starts averages anew whose weights are not those they were of, and says so.

        If a step has been made since, it has done so already: see `_check_claim`.

        Args:
            training: whether a step comes next, before which weights are what they will stay.
        """
        claimed = int(self._claimed.numpy())
        begun_again = claimed == _BEGUN_AGAIN
        if not claimed or (self._left and not (training or begun_again)):
            return
        replaced = not begun_again and fingerprint(self._averaged()) != claimed
        if replaced and not self._came_along():
            begun_again = True
            self._set_counters(self.num_updates, self.num_updates)
            self._pending_at = self.num_updates
            self._pending = {(i, p) for i in self._range for p in self.averaged_positions}
        self._claimed.assign(0)
        if begun_again:
            why = "Not all weights of these averages were loaded with them"
            if self._left:
                why = "The weights of these averages were replaced since the last fit"
            warnings.warn(
                f"{why}: {', '.join(self._keys)} start anew from the weights as they are now.",
                stacklevel=4,
            )

    def _check_claim(self, strategy):
        """The same in the graph, in the first step after a file was loaded or a training ended.

        Args:
            strategy: The `tf.distribute.Strategy` of the variables, in cross-replica context.
        """
        claimed = tf.convert_to_tensor(self._claimed)

        def assign(variable, value):
            strategy.extended.update(variable.value, lambda v: v.assign(value), group=False)

        def check():
            left_behind = tf.not_equal(checksum(self._averaged()), claimed)
            left = tf.convert_to_tensor(self._averages_left)
            restored = tf.not_equal(left, 0) & tf.not_equal(left, checksum(self._moving()))
            left_behind &= tf.logical_not(restored)
            steps, starts = (tf.convert_to_tensor(each) for each in (self._steps, self._starts))
            assign(self._claimed, tf.where(left_behind, _BEGUN_AGAIN, 0))
            assign(self._starts, tf.where(left_behind, steps, starts))
            for window in (each for group in self._groups for each in group.windows.values()):
                assign(window, tf.where(left_behind, 0.0, tf.convert_to_tensor(window)))

        unknown = tf.logical_and(tf.not_equal(claimed, 0), tf.not_equal(claimed, _BEGUN_AGAIN))
        tf.cond(unknown, check, lambda: None)
