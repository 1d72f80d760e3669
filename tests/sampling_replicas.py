"""Draws with one device and again on two replicas, and prints how far apart the images are.

Run by test_sampling.py as a script, since logical devices exist only if set up before TensorFlow
starts.
"""

import importlib
import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from networks import conditional_model  # noqa: E402

from ddpm_keras import samplers  # noqa: E402

# Arguments of `sample`: numbers of images that two replicas share unevenly, labels, guidance.
CASES = [
    {"num_images": 5, "sampler": samplers.DDIM(3)},
    {"num_images": 1, "sampler": samplers.DDIM(3)},
    {"num_images": 7, "batch_size": 3, "sampler": samplers.DDPM(steps=4), "seed": 3, "start": 2},
    {"num_images": 3, "labels": [2, 0, 3], "guidance_scale": 2.0, "sampler": samplers.DDIM(3)},
    {"num_images": 3, "guide": "raw", "guidance_scale": 2.0, "sampler": samplers.DDIM(3)},
]

conditional_model().save("model.keras")
alone = keras.saving.load_model("model.keras")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    shared = keras.saving.load_model("model.keras")
assert shared.distribute_strategy.num_replicas_in_sync == 2

found = []
for case in CASES:
    one, two = (model.sample(output="float", **case) for model in (alone, shared))
    found.append({"apart": float(np.abs(one - two).max()), "spread": float(one.std())})
function = shared.traced.sampling(samplers.DDIM(3), False, 0, 1)
graph = function.get_concrete_function().graph.as_graph_def()
nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
devices = sorted({node.device for node in nodes if node.op == "Conv2D"})

sample = importlib.import_module("sample")  # the command
arguments = "model.keras --num 5 --steps 3 --strategy mirrored --out drawn.npz"
status = sample.main(arguments.split())
difference = np.load("drawn.npz")["images"].astype(int) - alone.sample(5, None, samplers.DDIM(3))
found.append({"apart": int(status or np.abs(difference).max() > 1), "spread": 1.0})
print(json.dumps({"cases": found, "devices": devices}))
