"""Trains one model on one device and again on two replicas, and saves what came of it.

Run by tests as a script, since logical devices exist only if set up before TensorFlow starts.
"""

import contextlib
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from ddpm_keras.ema import EMA, LAWA, EMAModel, EMAOptimizer  # noqa: E402


def train(strategy, wrap):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 4)).astype(np.float32)
    y = random.integers(0, 3, 48)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
        network = keras.Sequential([keras.Input((4,)), *layers])
        ema = EMA((0.9, 0.99, LAWA(2, 2)), snapshot_widths=(0.05,))
        model = EMAModel(network, ema=ema, accumulation_steps=2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(wrap(keras.optimizers.Adam(1e-2)), loss)
    # Averages made outside the scope, as by a user who forgets it, still follow the replicas.
    model.ema.build(network.weights)
    history = model.fit(
        *(x, y), batch_size=16, epochs=2, shuffle=False, verbose=0, validation_data=(x, y)
    )
    return model, history.history


def save(path, model, history):
    sets = {name: model.weight_values(name) for name in model.weight_sets}
    arrays = {f"{k}_{i}": np.asarray(v) for k, vs in sets.items() for i, v in enumerate(vs)}
    losses = np.array(history["loss"] + history["val_loss"])
    np.savez(path, num_updates=model.ema.num_updates, losses=losses, **arrays)


def averages_outside_the_scope(strategy):
    """What becomes of averages made without the strategy's scope: naive variables, then an EMA."""
    with strategy.scope():
        weight = keras.Variable([1.0], aggregation="mean")
    naive = tf.Variable([1.0], trainable=False)
    ema = EMA(0.5)
    ema.build([weight])

    def step():
        weight.assign([3.0])
        ema.update([weight])

    def naive_step():
        naive.assign(0.5 * naive + 0.5 * weight.value)

    tf.function(lambda: strategy.run(step))()
    try:
        tf.function(lambda: strategy.run(naive_step))()
        expected = naive.numpy() == 2.0  # every replica moved the one variable
        print("moved" if expected.all() else "failed")
    except (ValueError, RuntimeError, tf.errors.OpError):
        print("failed")
    print("moved" if ema.variables("0.5")[0].numpy() == 2.0 else "failed")


def built_in_a_replica(strategy):
    """Says how an optimizer that keeps averages is refused if a replica calls it first."""
    with strategy.scope():
        weight = keras.Variable([1.0], aggregation="mean")
        optimizer = EMAOptimizer(keras.optimizers.SGD(), 0.9)
    try:
        strategy.run(lambda: optimizer.apply([tf.ones(1)], [weight]))
    except ValueError as error:
        print("refused" if "build(variables)" in str(error) else error)


def one_replica_is_not_finite(strategy, wrap):
    """Steps made and weights that are not finite, where every third batch has a NaN at its end."""
    x, y = np.ones((48, 4), np.float32), np.ones((48, 1), np.float32)
    x[31] = np.nan  # of a batch of 16, the second replica gets the last eight rows
    with strategy.scope():
        model = EMAModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), ema=0.9)
        model.compile(wrap(keras.optimizers.Adam(1e-2)), "mse")
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    values = [np.asarray(v) for name in model.weight_sets for v in model.weight_values(name)]
    assert model.ema.num_updates == model.steps_made
    print(model.steps_made, sum((~np.isfinite(value)).sum() for value in values))


if __name__ == "__main__":
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if sys.argv[1] == "non-finite":
        print("Adam")
        one_replica_is_not_finite(two, lambda optimizer: optimizer)
        print("LossScaleOptimizer")
        one_replica_is_not_finite(two, keras.optimizers.LossScaleOptimizer)
        sys.exit()
    if sys.argv[1] == "doors":
        import ema_doors

        for door in ema_doors.DOORS:
            ema_doors.check(door, "skipped", two)
            print(door)
        built_in_a_replica(two)
        sys.exit()
    if sys.argv[1] == "scope":
        averages_outside_the_scope(two)
        sys.exit()
    directory = pathlib.Path(sys.argv[1])
    for wrap in (keras.optimizers.LossScaleOptimizer, lambda optimizer: optimizer):
        save(directory / "one.npz", *train(None, wrap))
        save(directory / "two.npz", *train(two, wrap))
