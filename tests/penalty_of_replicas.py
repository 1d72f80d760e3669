"""Trains a weight that only a loss of its layer moves; as a script, on two replicas.

Run by test_penalties.py, since logical devices exist only if set up before TensorFlow starts.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from networks import beside

from ddpm_keras import DDPM

STEPS, START = 3, 1000.0


class Penalised(keras.layers.Layer):
    """x; beside it a weight that is added to the loss."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(), initializer=keras.initializers.Constant(START))

    def call(self, x):
        self.add_loss(1.0 * self.weight)
        return x + 0.0 * self.weight


def trained(strategy=None, **options):
    """The weight after `STEPS` steps of SGD(1), which each take 1 of it, and the mean loss."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
        model = DDPM(keras.Model([x, t], Penalised()(beside(x, t))), ema=0.5, **options)
        model.compile(keras.optimizers.SGD(1.0))
    images = np.zeros((4 * STEPS, 8, 8, 1), np.uint8)
    loss = model.fit(images, batch_size=4, verbose=0).history["loss"][0]
    return float(model.network.get_weights()[0]), loss


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    print(*trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])))
