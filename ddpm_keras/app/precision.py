"""What `--precision auto` stands for in a run: found once, written down, and kept on a resume."""

import time

import keras
import tensorflow as tf

from ..choices import PRECISIONS
from . import devices, network

LEAST_PIXELS = 2**14  # of a batch; below, a step is mostly other work than its arithmetic
ROWS = 16  # images of a measured step
SECONDS = 1.0  # of measuring
FASTER = 1.1  # that many times as fast bfloat16 has to be
_FLOAT32, _BFLOAT16 = PRECISIONS["float32"], PRECISIONS["bfloat16"]


def of_run(run, options, images):
    """The dtype policy of a run, and how it was found: "precision" of its config.json.

    On a processor with instructions for bfloat16, "auto" is bfloat16 where steps of the run's own
    network on its own images are faster so than in float32, by `FASTER`. With GPUs, of which
    `devices.precision` knows enough, with small batches, and with several workers, which would
    have to find the same, nothing is measured. A run that is continued computes as it began.

    Args:
        run: a `Run`.
        options: a `TrainOptions`.
        images: a `data.ImageData`.

    Returns:
        A dict of "policy", its name, and where it was measured "seconds", of a step by each policy.
    """
    if options.resume:
        return {"policy": _recorded(run) or devices.precision(options.precision)}
    if options.precision != "auto" or not _worth_measuring(options, images):
        return {"policy": devices.precision(options.precision)}
    seconds = measured(options, images)
    faster = seconds[_BFLOAT16] * FASTER < seconds[_FLOAT32]
    return {"policy": _BFLOAT16 if faster else _FLOAT32, "seconds": seconds}


def words(record):
    """What to say of a record that `of_run` gave: a list of lines."""
    seconds = record.get("seconds")
    if not seconds:
        return []
    ratio = seconds[_FLOAT32] / seconds[_BFLOAT16]
    return [f"bfloat16 is {ratio:.2f} times as fast as float32 here: {record['policy']} is used."]


def measured(options, images):
    """Seconds of a step of the run's network, forward and back, by policy.

    The two take turns, so that another load of the machine meets both.
    """
    networks, inputs = {}, _inputs(options, images)
    for policy in (_FLOAT32, _BFLOAT16):
        keras.config.set_dtype_policy(policy)
        networks[policy] = network.build(options, images)
        _seconds(networks[policy], inputs)  # the first time makes things ready
    found = {policy: [] for policy in networks}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(found[_BFLOAT16]) < 2:
        for policy, each in networks.items():
            found[policy].append(_seconds(each, inputs))
    return {policy: min(seconds) for policy, seconds in found.items()}


def _worth_measuring(options, images):
    pixels = options.batch_size * images.train.shape[1] * images.train.shape[2]
    return (
        devices.has_bfloat16()
        and not tf.config.list_physical_devices("GPU")
        and options.strategy != "multiworker"
        and pixels >= LEAST_PIXELS
    )


def _inputs(options, images):
    rows = min(ROWS, options.batch_size)
    inputs = [tf.zeros((rows, *images.image_shape)), tf.zeros(rows, tf.int32)]
    return [*inputs, tf.zeros(rows, tf.int32)] if options.conditional else inputs


def _seconds(net, inputs):
    start = time.perf_counter()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(tf.cast(net(inputs, training=True), tf.float32)))
    gradients = tape.gradient(loss, net.trainable_variables)
    gradients[0].numpy()  # waits for the last of them
    return time.perf_counter() - start


def _recorded(run):
    """The policy that config.json names; None of a run from before it did."""
    record = run.config.get("precision")
    return record and record["policy"]
