"""The training step: micro-batches, one call of the optimizer, one move of the averages."""

import tensorflow as tf

from ..keras_internals import unscale_loss_for_distribution
from ..scalars import count
from .evaluation import EvaluatedNetwork
from .steps import (
    FirstLost,
    apply_if_finite,
    build_before_trace,
    global_norm,
    in_every_replica,
    scales_loss,
    steps_made,
)


class TrainingStep(EvaluatedNetwork):
    """An `EvaluatedNetwork` with what a step of its training is made of, whatever the loss.

    Args:
        network, ema: as of `EvaluatedNetwork`.
        accumulation_steps: micro-batches a batch is split into, for one optimizer step.

    Attributes:
        train_counter: Batches trained on, an int64 variable: the position in the data.
        idle_counter: Those of them that made no step, an int64 variable, as their gradients were
            only accumulated in the optimizer or not finite.
    """

    _made_with = (*EvaluatedNetwork._made_with, "accumulation_steps")

    def __init__(self, network, ema=None, accumulation_steps=1, **kwargs):
        super().__init__(network, ema, **kwargs)
        self.accumulation_steps = count(accumulation_steps, "accumulation_steps")
        self.train_counter = self._add_counter("train_counter")
        self.idle_counter = self._add_counter("idle_counter")
        self.first_lost = FirstLost()

    def _add_counter(self, name):
        return self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    def _gradients(self, loss_of_batch, data):
        """Loss, outputs and gradients of a batch, in `accumulation_steps` micro-batches.

        Args:
            loss_of_batch: data -> (loss, outputs); the loss a mean over the batch, outputs a
                structure of tensors with the batch as first axis.
            data: A structure of tensors with the batch as first axis; None is allowed.

        Returns:
            (loss, outputs, gradients) as if the whole batch had been used at once. The gradients
            belong to `self.trainable_variables` and are scaled by the optimizer's loss scale.
        """
        if self.accumulation_steps == 1:
            return self._gradients_of(loss_of_batch, data)
        batch_size = rows_in(data)
        loss, gradients, outputs = 0.0, None, []
        for k in range(self.accumulation_steps):
            start = k * batch_size // self.accumulation_steps
            end = (k + 1) * batch_size // self.accumulation_steps
            # One after the other, or the micro-batches would be in memory together. An empty one
            # (in a last batch smaller than accumulation_steps) borrows a row and counts zero.
            done = [loss] if k == 0 else [g for g in gradients if g is not None]
            with tf.control_dependencies([tf.convert_to_tensor(tensor) for tensor in done]):
                start = tf.identity(start)
            micro = _rows(data, start, tf.maximum(end, start + 1))
            micro_loss, micro_outputs, micro_gradients = self._gradients_of(loss_of_batch, micro)
            rows = (tf.cast(number, tf.float32) for number in (end - start, batch_size))
            share = tf.math.divide_no_nan(*rows)  # a replica may get none of a last batch
            loss += tf.cast(micro_loss, tf.float32) * share
            outputs.append(_rows(micro_outputs, 0, end - start))
            gradients = _add_scaled(gradients, micro_gradients, share)
        outputs = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *outputs)
        return loss, outputs, gradients

    def _gradients_of(self, loss_of_batch, data):
        with tf.GradientTape() as tape:
            loss, outputs = loss_of_batch(data)
            scaled = self.optimizer.scale_loss(loss)
        return loss, outputs, tape.gradient(scaled, self.trainable_variables)

    def _apply_step(self, gradients, loss, statistics):
        """One call of the optimizer, then one move of the averages if it made a true step.

        The optimizer makes none while it only accumulates, or if the gradients are not finite.

        Args:
            gradients: Aligned with `self.trainable_variables`, scaled by the loss scale.
            loss: Of the batch. A loss scale is lowered until the gradients are finite, so only a
                loss that is not finite either is worth a word.
            statistics: `MovingStatistics` from before the forward pass.

        Returns:
            The norm of the gradients without the loss scale, float32: of those of this replica, but
            not finite in any replica if it is so in one. Then no step was made.
        """
        optimizer = self.optimizer
        scaled_norm = in_every_replica(global_norm(gradients))
        norm = unscale_loss_for_distribution(scaled_norm / optimizer.scale_loss(tf.ones(())))
        finite = tf.math.is_finite(scaled_norm)
        build_before_trace(optimizer, self.trainable_variables)
        before = steps_made(optimizer)
        apply_if_finite(optimizer, gradients, self.trainable_variables, scaled_norm)
        stepped = steps_made(optimizer) > before
        statistics.restore_unless(finite)
        if self.ema is not None:
            self.ema.update(self.network.weights, stepped)
        lost = tf.logical_not(finite)
        if scales_loss(optimizer):
            lost &= tf.logical_not(tf.math.is_finite(in_every_replica(loss)))
        self.train_counter.assign_add(1)
        self.idle_counter.assign_add(tf.cast(tf.logical_not(stepped), "int64"))
        self.first_lost.note(lost, self.train_counter - self.idle_counter + 1)
        return norm

    @property
    def steps_made(self):
        """True optimizer steps made so far, an int: what the word step means everywhere."""
        return int(self.train_counter.numpy()) - int(self.idle_counter.numpy())

    @property
    def first_lost_step(self):
        """Number of the first step of this `fit` that was not made, as its gradients were not
        finite; 0 if there was none. What only lowered a loss scale does not count."""
        return int(self.first_lost.variable.numpy())


def rows_in(data):
    return tf.shape(next(leaf for leaf in tf.nest.flatten(data) if leaf is not None))[0]


def _rows(data, start, end):
    return tf.nest.map_structure(lambda leaf: None if leaf is None else leaf[start:end], data)


def _add_scaled(totals, gradients, share):
    """totals + share * gradients, None where a variable has no gradient."""
    scaled = [
        None if g is None else tf.convert_to_tensor(g) * tf.cast(share, g.dtype) for g in gradients
    ]
    if totals is None:
        return scaled
    pairs = zip(totals, scaled, strict=True)
    return [s if t is None else t if s is None else t + s for t, s in pairs]
