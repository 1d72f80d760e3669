"""Every rule of averages along a small training, through every door, against its definition.

A rule of one's own is a line of RULES; `test_ema_doors.py` and `ema_replicas.py` go through them.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from small_trainings import numbers, small_network, task
from test_ema_rules import by_betas, half_life, lawa, swa, wsm

from ddpm_keras import DDPM, EMA, EMAModel, EMAOptimizer
from ddpm_keras.ema import (
    LAWA,
    SWA,
    WSM,
    ConstantDecay,
    HalfLife,
    LinearRampDecay,
    PowerFunctionDecay,
    PowerWarmupDecay,
    ScaledDecay,
    StepDecay,
    WarmupDecay,
)

# Rule -> the share of each of the weights 0 (initial) to n in its average after n steps, float64.
RULES = {
    ConstantDecay(0.9): lambda n: by_betas(lambda m: 0.9, n),
    WarmupDecay(0.3): lambda n: by_betas(lambda m: min(0.3, (1 + m) / (10 + m)), n),
    PowerWarmupDecay(0.6): lambda n: by_betas(lambda m: min(0.6, 1 - (1 + m) ** (-2 / 3)), n),
    LinearRampDecay(0.1, 0.9, 4): lambda n: by_betas(lambda m: 0.1 + 0.2 * min(m, 4), n),
    StepDecay(): lambda n: by_betas(lambda m: 1 - 1 / (m + 1), n),
    PowerFunctionDecay(0.1): lambda n: by_betas(lambda m: (1 - 1 / (m + 1)) ** 7.9372, n),
    HalfLife(64, 16, rampup_ratio=0.9): lambda n: half_life(64, 16, 0.9, n),
    ScaledDecay(ConstantDecay(0.9), 4): lambda n: by_betas(lambda m: 0.9**4, n),
    SWA(2): lambda n: swa(2, 1, n),
    LAWA(2, 2): lambda n: lawa(2, 2, n),
    WSM(0.5, 6): lambda n: wsm(3, 6, lambda s: 1 - s, n),
}
STEPS = 6


class Bare(keras.Model):
    """A model with its own `train_step` that moves an `EMA` itself."""

    def __init__(self, network, ema):
        super().__init__()
        self.network, self.ema = network, ema
        self.ema.build(network.weights)
        self.built = True

    def call(self, x):
        return self.network(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
            loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, self.trainable_variables)
        before = tf.identity(self.optimizer.iterations)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.ema.update(self.trainable_variables, self.optimizer.iterations > before)
        return {"loss": loss}


def denoiser():
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    time = keras.layers.Dense(1)(keras.ops.cast(t, "float32")[:, None] / 1000)
    return keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(x + time[:, None, None]))


def spoiled_ddpm(ema):
    """A DDPM whose third batch has a target that is not finite, as far as others have one."""
    model = DDPM(denoiser(), ema=ema)
    noised = model._noised

    def third_spoiled(images, labels, key):
        batch = noised(images, labels, key)
        lost = tf.equal(model.train_counter.value, 2) & model.spoiled
        return batch | {"target": tf.where(lost, np.inf, batch["target"])}

    model._noised = third_spoiled
    return model


# Door -> (ema -> model, (optimizer, what scales its loss, ema) -> what the model is compiled with)
DOORS = {
    "optimizer": (
        lambda ema: small_network(),
        lambda optimizer, scaled, ema: EMAOptimizer(scaled(optimizer), ema),
    ),
    "outside": (
        lambda ema: small_network(),
        lambda optimizer, scaled, ema: scaled(EMAOptimizer(optimizer, ema)),
    ),
    "model": (
        lambda ema: EMAModel(small_network(), ema=ema),
        lambda optimizer, scaled, ema: scaled(optimizer),
    ),
    "ddpm": (spoiled_ddpm, lambda optimizer, scaled, ema: scaled(optimizer)),
    "bare": (
        lambda ema: Bare(small_network(), ema),
        lambda optimizer, scaled, ema: scaled(optimizer),
    ),
}


def loss_scale(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)


# Way -> (arguments of the optimizer, what scales its loss, arguments of compile, batches)
WAYS = {
    "accumulation": ({"gradient_accumulation_steps": 2}, lambda optimizer: optimizer, {}, 12),
    "skipped": ({}, loss_scale, {}, 7),
    "skipped under XLA": ({}, loss_scale, {"jit_compile": True}, 7),
}


class Path(keras.callbacks.Callback):
    """The weights before the first step and after each true one, as the optimizer counts them."""

    def __init__(self, variables):
        super().__init__()
        self.variables = variables
        self.weights = [numbers(variables)]

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == len(self.weights):
            self.weights.append(numbers(self.variables))


def data(door, batches, spoiled):
    if door == "ddpm":
        return (np.random.default_rng(0).integers(0, 256, (16 * batches, 8, 8, 1), np.uint8),)
    x, y = (np.concatenate([part] * 4)[: 16 * batches] for part in task())
    x[34] = np.inf if spoiled else x[34]  # in the third batch, and there of the first replica
    return x, y


def check(door, way, strategy=None):
    """Trains, and compares every average with its definition along the weights of the training."""
    make, compiled_with = DOORS[door]
    arguments, scaled, compile_arguments, batches = WAYS[way]
    ema = EMA({rule.name: rule for rule in RULES})
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = make(ema)
        model.spoiled = scaled is loss_scale
        optimizer = compiled_with(keras.optimizers.SGD(0.1, **arguments), scaled, ema)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        losses = {} if door == "ddpm" else {"loss": loss}
        model.compile(optimizer, **losses, **compile_arguments)
    path = Path(list(model.trainable_variables))
    given = data(door, batches, scaled is loss_scale)
    model.fit(*given, batch_size=16, shuffle=False, verbose=0, callbacks=[path])
    assert ema.num_updates == len(path.weights) - 1 == STEPS
    for rule, shares in RULES.items():
        for i, value in enumerate(ema.variables(rule.name)):
            weights = np.stack([each[i] for each in path.weights]).astype(np.float64)
            expected = np.tensordot(shares(STEPS), weights, 1)
            error = np.abs(np.asarray(value) - expected).max()
            assert error < 3e-6 * max(1.0, np.abs(weights).max()), (door, way, rule, i)
