"""Precision and device strategy, by the names of the command line."""

import functools
import re
from pathlib import Path

import keras
import tensorflow as tf

from ..choices import PRECISIONS, STRATEGIES
from ..keras_internals import layers_of
from ..networks import UNet
from ..networks.layers import TimestepEmbedding
from . import cluster, interrupt

WAIT = 600  # seconds in which all workers must have come

CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, and of Arm


def precision(name):
    """The Keras dtype policy for a `--precision`.

    "auto" is bfloat16 on GPUs of compute capability 8 or more, float16 on those of 7, and float32
    elsewhere; for training, `app.precision` also measures what a processor is faster in. Weights,
    averages and losses are float32 in every case.
    """
    if name != "auto":
        return PRECISIONS[name]
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    lowest = min(capabilities, default=(0, 0))
    if lowest >= (8, 0):
        return PRECISIONS["bfloat16"]
    return PRECISIONS["float16" if lowest >= (7, 0) else "float32"]


def set_precision(name):
    """Makes `precision(name)` the policy of all layers created from now on."""
    keras.config.set_dtype_policy(precision(name))


def has_bfloat16():
    """Whether the processor has instructions for bfloat16, as far as Linux tells."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    except (OSError, ValueError):  # another system
        return False
    return found is not None and not _BFLOAT16_FLAGS.isdisjoint(found[1].split())


def compute_in(name, network):
    """Makes a network that was built already compute in another precision; its weights stay.

    Args:
        name: a `--precision`.
        network: a `UNet`.

    Raises:
        ValueError: another network, whose layers may have precisions of their own.
    """
    if not isinstance(network, UNet):
        raise ValueError(
            f"--precision is for a UNet, and this is a {type(network).__name__}; leave it out."
        )
    policy = keras.DTypePolicy(precision(name))
    for layer in layers_of(network)[1:]:
        if not isinstance(layer, TimestepEmbedding):  # t up to 1000 has more digits than bfloat16
            layer.dtype_policy = policy


def computes_in(network):
    """The dtype that most of a network computes in: "float32", "bfloat16" or "float16"."""
    found = {layer.compute_dtype for layer in layers_of(network)}
    return next((dtype for dtype in ("float16", "bfloat16") if dtype in found), "float32")


@functools.cache
def strategy(name):
    """The `tf.distribute.Strategy` for a `--strategy`; call it before TensorFlow does anything.

    "mirrored" copies the model to every GPU of this machine and splits each batch between them;
    "multiworker" does so over all GPUs of the machines that the variable TF_CONFIG names, each of
    which runs the same command. Without TF_CONFIG it is this machine alone.
    """
    cluster.meet(cluster.place(name), WAIT)
    made = getattr(tf.distribute, STRATEGIES[name])()
    interrupt.listen_again()  # by TensorFlow's own handler a training goes on to its end
    return made
