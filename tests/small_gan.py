"""A GAN with its own `train_step` and two optimizers that keep averages; as a script, it goes on.

python small_gan.py gan.keras EPOCHS end.npz
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from ddpm_keras import EMAOptimizer
from ddpm_keras.ema import WarmupDecay


@keras.saving.register_keras_serializable("tests")
class GAN(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        dense = keras.layers.Dense
        self.generator = keras.Sequential(
            [keras.Input((2,)), dense(8, "relu"), keras.layers.BatchNormalization(), dense(3)],
            name="generator",
        )
        self.critic = keras.Sequential(
            [keras.Input((3,)), dense(8, "relu"), dense(1)], name="critic"
        )
        self.built = True

    def compile(self, g_optimizer, d_optimizer):
        super().compile()
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer

    def get_compile_config(self):
        pair = (self.g_optimizer, self.d_optimizer)
        return {"pair": [keras.saving.serialize_keras_object(each) for each in pair]}

    def compile_from_config(self, config):
        self.compile(*map(keras.saving.deserialize_keras_object, config["pair"]))
        self.g_optimizer.build(self.generator.trainable_variables)
        self.d_optimizer.build(self.critic.trainable_variables)

    def call(self, noise):
        return self.generator(noise)

    def train_step(self, real):
        # Noise is a function of the step, so that a training can go on to the bit.
        step = tf.cast(self.g_optimizer.iterations, tf.int32)
        noise = tf.random.stateless_normal((tf.shape(real)[0], 2), tf.stack([0, step]))
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(noise, training=True)
            on_real, on_fake = self.critic(real), self.critic(fake)
            d_loss = tf.reduce_mean(tf.nn.softplus(-on_real) + tf.nn.softplus(on_fake))
            g_loss = tf.reduce_mean(tf.nn.softplus(-on_fake))
        for loss, optimizer, network in (
            (d_loss, self.d_optimizer, self.critic),
            (g_loss, self.g_optimizer, self.generator),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}

    def test_step(self, real):
        fake = self.generator(tf.ones((4, 2)), training=False)
        return {"distance": tf.norm(tf.reduce_mean(fake, 0) - tf.reduce_mean(real, 0))}


def optimizers():
    adam = keras.optimizers.Adam
    return (
        EMAOptimizer(adam(1e-2, beta_1=0.5), {"0.9": 0.9, "warm": WarmupDecay(0.99)}),
        EMAOptimizer(adam(1e-2, gradient_accumulation_steps=2), 0.9),
    )


def images():
    return np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)


def fit(model, epochs, **more):
    model.fit(images(), batch_size=16, epochs=epochs, shuffle=False, verbose=0, **more)
    return model


def state(model):
    """Name -> array: all weights, averages and counters."""
    optimizers = {"g": model.g_optimizer, "d": model.d_optimizer}
    found = {f"weight_{i}": np.asarray(v) for i, v in enumerate(model.weights)}
    for key, optimizer in optimizers.items():
        found[f"{key}_steps"] = np.asarray(optimizer.ema.num_updates)
        for name in optimizer.ema.names:
            for i, value in enumerate(optimizer.ema.variables(name)):
                found[f"{key}_{name}_{i}"] = np.asarray(value)
    return found


if __name__ == "__main__":
    path, epochs, end = sys.argv[1:]
    np.savez(end, **state(fit(keras.saving.load_model(path), int(epochs))))
