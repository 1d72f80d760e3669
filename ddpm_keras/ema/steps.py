"""What counts as a step: one move of the weights by the optimizer, on gradients that are finite.

A batch makes no step of its own where the optimizer accumulates gradients over several, or where
its gradients are not finite.
"""

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

import keras
import tensorflow as tf

from .. import names
from ..keras_internals import maybe_merge_call, non_trainable_variables
from .fused import clipping_by, fused
from .groups import holds_value, is_float, new_variable, tf_variable

logger = logging.getLogger("ddpm_keras")

# Batches between two looks for a step that was not made: a look waits for the step.
LOOK_EVERY = 100


def chain(optimizer):
    """The optimizer, then what it wraps, down to those that move the weights."""
    yield optimizer
    for inner in _inside(optimizer) or ():
        yield from chain(inner)


def parts(optimizer):
    """The optimizers that move the weights: several where a `MultiOptimizer` shares them out."""
    return [each for each in chain(optimizer) if _inside(each) is None]


def _inside(optimizer):
    """What an optimizer wraps, a list; None for one that moves weights itself."""
    if hasattr(optimizer, "inner_optimizer"):
        return [optimizer.inner_optimizer]
    return getattr(optimizer, "optimizers", None)  # of a `MultiOptimizer`, empty before it is built


def build_before_trace(optimizer, variables):
    """Builds an optimizer, outside of the graph that is being made where that is possible.

    A graph that makes variables is made a second time, without.
    """
    if optimizer.built:
        return
    # A strategy is that of its thread, and weights that the graph makes have no values outside.
    if tf.distribute.has_strategy() or not all(map(holds_value, variables)):
        optimizer.build(variables)
        return
    with ThreadPoolExecutor(1) as thread:  # in a thread of its own there is no graph
        thread.submit(optimizer.build, variables).result()


def scales_loss(optimizer):
    """Whether a `LossScaleOptimizer` is part of it, so that a step not made is no bad sign."""
    return any(isinstance(each, keras.optimizers.LossScaleOptimizer) for each in chain(optimizer))


def batches_per_step(optimizer):
    """How many batches the optimizer accumulates for one step."""
    return min((part.gradient_accumulation_steps or 1 for part in parts(optimizer)), default=1)


def steps_made(optimizer):
    """A number that grows with each true step of a built optimizer, an int64 tensor."""
    return tf.add_n([tf.cast(part.iterations, "int64") for part in parts(optimizer)])


def refuse_own_average(optimizer, cure):
    """Refuses an optimizer with `use_ema=True`: Keras copies its average over the raw weights.

    Args:
        optimizer: a Keras optimizer, also one that wraps others.
        cure: what to do instead, with the decay as `{}`.
    """
    for part in parts(optimizer):
        if part.use_ema:
            raise ValueError(
                "An optimizer with use_ema=True overwrites the raw weights when fit() ends: "
                f"drop it and {cure.format(part.ema_momentum)} instead."
            )


def global_norm(gradients):
    """Euclidean norm of all gradients together, in float32; None is left out."""
    present = [
        g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients if g is not None
    ]
    if not present:
        return tf.zeros(())
    return tf.linalg.global_norm([tf.cast(g, tf.float32) for g in present])


def in_every_replica(value):
    """The value of this replica; NaN or infinite in all replicas if it is so in one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, value)
    return tf.where(tf.math.is_finite(total), value, total)


def apply_if_finite(optimizer, gradients, variables, norm):
    """One call of the optimizer; neither it nor the variables change if the norm is not finite.

    Args:
        optimizer: a built Keras optimizer; a condition may not create variables.
        gradients: aligned with `variables`; None is allowed.
        variables: what the optimizer trains.
        norm: `global_norm` of the gradients; `in_every_replica` if there are several.
    """
    finite = tf.math.is_finite(norm)
    with fused(parts(optimizer)):
        if scales_loss(optimizer):  # makes no step either, and has to see why to lower its scale;
            optimizer.apply(_spoilt_unless(finite, gradients), variables)  # it asks one replica
        else:
            _apply_if_finite(optimizer, gradients, variables, norm, finite)


def _apply_if_finite(optimizer, gradients, variables, norm, finite):
    def apply(gradients, norm):
        with _clipping_by(norm, optimizer, gradients):
            optimizer.apply(gradients, variables)

    def apply_in_replicas(strategy, finite, *given):
        if isinstance(finite, tf.distribute.DistributedValues):
            finite = strategy.experimental_local_results(finite)[0]

        def step():
            if tf.distribute.in_cross_replica_context():
                strategy.extended.call_for_each_replica(apply, args=given)
            else:
                apply(*given)

        tf.cond(finite, step, lambda: None)

    # A condition may not hold a merge of replicas, so merge first (as LossScaleOptimizer does).
    given = (finite, list(gradients), norm)
    maybe_merge_call(apply_in_replicas, tf.distribute.get_strategy(), *given)


def _clipping_by(norm, optimizer, gradients):
    """`clipping_by` where the norm is that of what the optimizer will clip."""
    first, *others = parts(optimizer)
    changed = others or first.gradient_accumulation_steps
    changed = changed or any(each.loss_scale_factor is not None for each in chain(optimizer))
    if changed or any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
        return contextlib.nullcontext()
    return clipping_by(norm, first)


def _spoilt_unless(finite, gradients):
    """The gradients, one of them made NaN unless `finite`."""
    gradients = list(gradients)
    first = next((i for i, gradient in enumerate(gradients) if gradient is not None), None)
    if first is not None:
        gradient = tf.convert_to_tensor(gradients[first])
        nothing = tf.where(finite, 0.0, float("nan"))
        gradients[first] = gradient + tf.cast(nothing, gradient.dtype)
    return gradients


class MovingStatistics:
    """The floating weights that a forward pass moves, such as those of BatchNormalization, as now.

    Args:
        network: a built `keras.Model`.
    """

    def __init__(self, network):
        self.variables = [
            variable for variable in non_trainable_variables(network) if is_float(variable)
        ]
        self.values = [tf.identity(tf_variable(variable)) for variable in self.variables]

    def restore_unless(self, finite):
        """Gives the variables the values they had unless `finite`, a boolean tensor."""
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(tf.where(finite, tf_variable(variable), value))


class FirstLost:
    """Number of the first step that was not made since the start of `fit`; 0 if all were.

    A plain object, so that Keras and TensorFlow find nothing here to save.
    """

    def __init__(self):
        self.variable = new_variable(0, "first_lost_step", "int64")

    def note(self, lost, step):
        """Notes in the graph that the step of this number was lost, if it is the first."""
        first = tf.convert_to_tensor(self.variable)
        new = tf.logical_and(lost, tf.equal(first, 0))
        self.variable.assign(tf.where(new, step, first))


class SayLostSteps(keras.callbacks.Callback):
    """Says once that a step was not made, since its gradients or its loss were not finite."""

    def on_train_begin(self, logs=None):
        self.model.first_lost.variable.assign(0)
        self.said = False

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % LOOK_EVERY == 0:
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()

    def on_train_end(self, logs=None):
        self._look()

    def _look(self):
        step = self.model.first_lost_step
        if step and not self.said:
            self.said = True
            logger.warning(
                f"The gradients of step {step:,} were not finite: the step was not made, so that "
                "weights, optimizer and averages are as they were before it. Lower the learning "
                "rate or clip the gradients if it goes on, and look for such numbers in the data."
            )


class SayShortRuns(keras.callbacks.Callback):
    """Says at the start of `fit` (at its end if its length is unknown) what it is too short for."""

    def on_train_begin(self, logs=None):
        self.unknown = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.unknown is None:  # the first epoch: that of `initial_epoch`
            steps = steps_left(self, epoch)
            self.unknown = steps is None
            self._warn(steps)

    def on_train_end(self, logs=None):
        if self.unknown:
            self._warn(0)

    def _warn(self, steps_to_come):
        if steps_to_come is not None:
            say_short(self.model.ema, steps_to_come)


class SayStillAverages(keras.callbacks.Callback):
    """Says at the end of `fit` that the optimizer made steps and the averages did not move.

    So they do where a model has a `train_step` of its own that moves none.
    """

    def on_train_begin(self, logs=None):
        self.before = self._counts()

    def on_train_end(self, logs=None):
        steps, updates = (now > then for now, then in zip(self._counts(), self.before, strict=True))
        if steps and not updates:
            logger.warning(
                "The optimizer made steps, and the averages did not move: the train_step of this "
                "model has to call self.ema.update(self.network.weights) after each, or to leave "
                "it to super().train_step."
            )

    def _counts(self):
        return int(steps_made(self.model.optimizer)), self.model.ema.num_updates


def say_short(ema, steps_to_come):
    """Says on the log for which averages of an `EMA` the steps made and to come are too few."""
    for line in ema.warnings(ema.num_updates + steps_to_come):
        logger.warning(line)


def say_other_batch(ema, images):
    """Says on the log which averages of an `EMA` count other images a step than a `fit` makes."""
    for name, rule in ema.decays.items():
        if getattr(rule, "batch_size", images) != images:
            logger.warning(
                f"{names.average(name)}: {rule!r} counts {rule.batch_size} images a step, and fit "
                f"makes steps of {images}: give it batch_size={images}."
            )


def steps_left(callback, epoch, optimizer=None):
    """Optimizer steps from the start of an epoch to the end of `fit`, None if that is unknown.

    Args:
        callback: a Keras callback of the `fit`.
        epoch: as `on_epoch_begin` is told: the first is `initial_epoch`.
        optimizer: that makes the steps; by default the model's.
    """
    batches = callback.params.get("steps")
    if batches is None:
        return None
    per_step = batches_per_step(optimizer or callback.model.optimizer)
    return batches * (callback.params["epochs"] - epoch) // per_step
