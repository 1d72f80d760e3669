"""The update: how averages move in the graph, once for each true optimizer step."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ..keras_internals import maybe_merge_call
from .groups import as_variables, can_be_averaged, label, strategy_of
from .saving import SavedAverages


class MovingAverages(SavedAverages):
    """`SavedAverages` that move towards the weights by their rules."""

    update_every = 1

    def start(self) -> None:
        """Copies the weights, as they are now, into averages that no update has moved yet.

        For who makes a step in a graph, where weights may have been loaded or assigned since the
        averages were built: called before the step, eagerly or in a `tf.function`. Averages of
        other weights than those that are there, by what a file or `leave` told, start anew too.
        """
        self._check_built()
        if not self._rules:
            return
        strategy = strategy_of(self._sources[0])
        if strategy.num_replicas_in_sync == 1:
            with tf.init_scope():  # so that it is said before the step
                self._settle_claim(training=True)
        maybe_merge_call(self._start, strategy)

    def _start(self, strategy):
        self._check_claim(strategy)
        fresh = tf.equal(tf.convert_to_tensor(self._steps), tf.convert_to_tensor(self._starts))

        def copy():
            for group in self._groups:
                group.copy(strategy, fresh)

        tf.cond(tf.reduce_any(fresh), copy, lambda: None)

    def update(self, variables: Sequence[Any], stepped: Any = True) -> None:
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
        unknown = [label(v) for v in as_variables(variables) if id(v) not in self._position]
        if unknown:
            raise ValueError(
                f"No average was built for {', '.join(unknown[:3])}"
                f"{' and others' if len(unknown) > 3 else ''}: call ema.build(model.weights) first."
            )
        if not self._rules:
            return
        if self._pending:
            with tf.init_scope():
                self.settle()
        weights = [group.weights_now() for group in self._groups]
        usable = [_as_boolean(stepped), *map(can_be_averaged, weights)]
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


def _as_boolean(stepped):
    """Whether a step was made, as a boolean tensor without axes."""
    try:
        made = tf.convert_to_tensor(stepped)
        known = made.dtype == tf.bool and made.shape.rank in (0, None)
    except (TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(
            "stepped is whether the optimizer moved the weights, a bool or one boolean tensor, as "
            f"of optimizer.iterations > before; got {stepped!r:.60}."
        )
    return made
