"""How TensorFlow treats the graphs of a network before they first run."""

import contextlib

import tensorflow as tf

from .unet import UNet

_SMALL = 16 * 16
_OPTION = "disable_meta_optimizer"


@contextlib.contextmanager
def graphs_as_traced(network):
    """A scope in which TensorFlow does not rework graphs before they first run, on processors.

    That takes seconds, and makes steps faster on images of more than `_SMALL` pixels alone: see
    docs/performance.md. With GPUs, for which it chooses the layout of images, it does; and for
    networks other than a `UNet`.
    """
    tell = tf.config.optimizer.set_experimental_options
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    if _is_small(network) and not tf.config.list_physical_devices("GPU"):
        tell({_OPTION: True})
    try:
        yield
    finally:
        tell({_OPTION: before})


def _is_small(network):
    return isinstance(network, UNet) and network.image_shape[0] * network.image_shape[1] <= _SMALL
