"""train.py on two replicas of one processor, which have to be set up before TensorFlow starts."""

import pathlib
import sys

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import train  # noqa: E402

if __name__ == "__main__":
    sys.exit(train.console.run(train.main))
