"""A GAN with its own train_step and two optimizers, one of which keeps averages of what it trains.

    python examples/gan_with_ema.py          # ten seconds on two CPU cores

The only line that the averages need is that of the generator's optimizer: `EMAOptimizer` goes where
a Keras optimizer does. A GAN never settles, since each network runs after the other; an average of
the generator is closer to the data than the generator that is in training (Yaz et al. 2019, "The
Unusual Effectiveness of Averaging in GAN Training").
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from ddpm_keras import EMAOptimizer, quality

NOISE = 16


class GAN(keras.Model):
    def __init__(self):
        super().__init__()
        dense = keras.layers.Dense
        self.generator = keras.Sequential(
            [keras.Input((NOISE,)), dense(128, "relu"), dense(128, "relu"), dense(64, "tanh")]
        )
        self.critic = keras.Sequential([keras.Input((64,)), dense(128, "leaky_relu"), dense(1)])

    def compile(self, g_optimizer, d_optimizer):
        super().compile()
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer

    def train_step(self, real):
        noise = tf.random.normal((tf.shape(real)[0], NOISE))
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(noise)
            on_real, on_fake = self.critic(real), self.critic(fake)
            d_loss = tf.reduce_mean(tf.nn.softplus(-on_real) + tf.nn.softplus(on_fake))
            g_loss = tf.reduce_mean(tf.nn.softplus(-on_fake))
        for loss, optimizer, network in (
            (d_loss, self.d_optimizer, self.critic),
            (g_loss, self.g_optimizer, self.generator),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
        return {"d_loss": d_loss, "g_loss": g_loss}


def main():
    keras.utils.set_random_seed(0)
    images = (load_digits().data / 8 - 1).astype("float32")

    gan = GAN()
    adam = keras.optimizers.Adam
    gan.compile(EMAOptimizer(adam(1e-3, beta_1=0.5), (0.9, 0.99)), adam(1e-3, beta_1=0.5))
    gan.fit(images, batch_size=64, epochs=60, verbose=0)

    ema = gan.g_optimizer.ema
    networks = {"raw": gan.generator}
    networks |= {f"ema_{name}": ema.export(gan.generator, name) for name in ema.names}
    noise = np.random.default_rng(0).normal(size=(len(images), NOISE)).astype("float32")
    print(f"after {ema.num_updates:,} steps, Fréchet distance of the pixels to the real digits:")
    inked = images.std(0) > 0  # three pixels are white in all
    for name, network in networks.items():
        distance = quality.frechet_distance(images[:, inked], network(noise).numpy()[:, inked])
        print(f"{name:10s} {distance:6.3f}")
    networks["ema_0.99"].save("generator-ema.keras")


if __name__ == "__main__":
    main()
