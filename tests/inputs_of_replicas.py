"""Run by test_inputs.py in a process of its own: a batch that is wrong, under two replicas.

Prints for each container: the line of the refusal; the steps made before it and whether all weights
are finite; and the steps of images that are right. Then for each model whether its numbers are
finite where one replica gets none of the last batch, and the steps that it made.
"""

import time

import keras
import numpy as np
import tensorflow as tf
from networks import beside

from ddpm_keras import DDPM, EMAModel, UNet
from ddpm_keras.inputs import checks

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

prompt = checks._assert


def late(what, condition, *found):
    """An assertion that takes its time: a step that did not wait for it would be made."""
    condition = tf.py_function(lambda c: time.sleep(0.3) or c, [condition], tf.bool)
    return prompt(what, tf.ensure_shape(condition, ()), *found)


checks._assert = late

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    network = keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(beside(x, t)))
    model = DDPM(network, ema=0.5)
    model.compile("sgd")

images = np.zeros((12, 8, 8, 1), "float32")
spoilt = images.copy()
spoilt[11] = np.nan  # of the second replica
strategy = model.distribute_strategy


def batches(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(4)


def distributed(images):
    return strategy.experimental_distribute_dataset(batches(images))


def from_function(images):
    return strategy.distribute_datasets_from_function(lambda _: batches(images).unbatch().batch(2))


for container in (batches, distributed, from_function):
    before = int(model.train_counter.numpy())
    try:
        model.fit(container(spoilt), shuffle=False, verbose=0)
    except ValueError as error:
        print(error)
    steps = int(model.train_counter.numpy())
    print(steps - before, all(np.isfinite(weight).all() for weight in model.get_weights()))
    model.fit(container(images), shuffle=False, verbose=0)
    print(int(model.train_counter.numpy()) - steps)
model.fit(images, sample_weight=np.ones(12), batch_size=4, verbose=0)

with strategy.scope():
    unet = DDPM(UNet((8, 8, 1), 4, (1,), 1, (), groups=2), ema=0.5)
    unet.compile("sgd")
    dense = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Dense(1)])
    dense = EMAModel(dense, ema=0.5, accumulation_steps=2)
    dense.compile("sgd", "mse")
images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
for model, data in ((unet, (images,)), (dense, (images, images))):
    history = model.fit(*data, batch_size=4, verbose=0).history
    numbers = [*history.values(), *model.get_weights()]
    numbers.append(model.evaluate(*data, batch_size=4, verbose=0))
    print(all(np.isfinite(each).all() for each in numbers), model.ema.num_updates)
