"""The Inception network of 2015-12-05, on whose features published FIDs are computed."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from ... import files
from ...aliases import PathLike
from ...interop import weight_files
from ...reading import npz
from .base import FeatureExtractor

# SHA-256 of pt_inception-2015-12-05-6726825d.pth (pytorch-fid), which is the same file as
# weights-inception-2015-12-05-6726825d.pth (torch-fidelity).
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
PREPROCESSING = "TF1 bilinear 299, (x - 128) / 128"
EPSILON = 1e-3  # of batch normalisation
_MOST = 2**28  # bytes of a file; the published one has 95 MB


class FIDInceptionFeatures(FeatureExtractor):
    """The 2048 pooled features of the Inception network of 2015-12-05.

    Images are resized to 299x299 as TensorFlow 1 did (bilinear, aligned at the top left, without
    antialiasing), then scaled by (x - 128) / 128. Batch normalisation is folded into the
    convolutions when the weights are read.

    Only with the published weights is the Fréchet distance on these features named "FID"; any other
    file's checksum becomes part of the name.

    Args:
        path: the weights: `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid,
            `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity, or the same tensors as
            `.safetensors` or `.npz`. Nothing in the file is executed.

    Raises:
        ValueError: if the file is missing, or holds other tensors.

    Reference:
        - Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash
          equilibrium (2017).
        - Szegedy et al.: Rethinking the Inception architecture for computer vision (2016).
    """

    dim = 2048
    batch_size = 32

    def __init__(self, path: PathLike):
        path = pathlib.Path(path)
        if not path.is_file():
            raise ValueError(
                f"{path} is not there: supply pt_inception-2015-12-05-6726825d.pth of pytorch-fid, "
                "or use ClassifierFeatures, which needs no file."
            )
        self.checksum = files.sha256(path)
        self.fingerprint = f"{self.checksum} {PREPROCESSING}"
        state = _read(path)
        self._network = _build()
        _load(self._network, state, path)
        self._compute = tf.function(
            self._resize_and_compute,
            autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
        )

    @property
    def name(self) -> str:
        if self.checksum == PUBLISHED:
            return "Inception 2015-12-05"
        return f"Inception of 2015-12-05, weights {self.checksum[:8]}"

    @property
    def metric(self) -> str:
        return "FID" if self.checksum == PUBLISHED else super().metric

    def _features(self, batch):
        return self._compute(batch).numpy()

    def _resize_and_compute(self, batch):
        resized = tf.raw_ops.ResizeBilinear(
            images=batch, size=(299, 299), align_corners=False, half_pixel_centers=False
        )
        return self._network((resized - 128.0) / 128.0, training=False)


def _build():
    """The network from (299, 299, 3) to (2048,); a layer is named as its module in PyTorch."""
    inputs = keras.Input((299, 299, 3), dtype="float32")
    x = _conv(inputs, "Conv2d_1a_3x3", 32, 3, strides=2, padding="valid")
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="valid")
    x = _conv(x, "Conv2d_2b_3x3", 64, 3)
    x = _max_pool(x)
    x = _conv(x, "Conv2d_3b_1x1", 80, 1)
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, padding="valid")
    x = _max_pool(x)
    for name, pool_filters in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_35(x, name, pool_filters)
    x = _reduction_to_17(x, "Mixed_6a")
    widths = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}
    for name, filters in widths.items():
        x = _block_17(x, name, filters)
    x = _reduction_to_8(x, "Mixed_7a")
    x = _block_8(x, "Mixed_7b", _average_pool)
    # The last block of the 2015 graph pools by the maximum where the published design averages.
    x = _block_8(x, "Mixed_7c", _max_pool_same)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(inputs, x, name="inception_2015_12_05")


def _conv(x, name, filters, kernel_size, strides=1, padding="same"):
    """Convolution, batch normalisation (folded in) and rectification."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        activation="relu",
        kernel_initializer="zeros",
        trainable=False,
        dtype="float32",
        name=name,
    )(x)


def _chain(x, prefix, *convolutions):
    """Convolutions `(suffix, filters, kernel size)` one after the other."""
    for suffix, filters, kernel_size in convolutions:
        x = _conv(x, prefix + suffix, filters, kernel_size)
    return x


def _max_pool(x):
    return keras.layers.MaxPooling2D(3, strides=2, dtype="float32")(x)


def _max_pool_same(x):
    return keras.layers.MaxPooling2D(3, strides=1, padding="same", dtype="float32")(x)


def _average_pool(x):
    """Average over 3x3 pixels that leaves the padding out of the count."""
    return keras.layers.AveragePooling2D(3, strides=1, padding="same", dtype="float32")(x)


def _join(*branches):
    return keras.layers.Concatenate(dtype="float32")(branches)


def _block_35(x, name, pool_filters):
    return _join(
        _conv(x, f"{name}.branch1x1", 64, 1),
        _chain(x, f"{name}.branch5x5_", ("1", 48, 1), ("2", 64, 5)),
        _chain(x, f"{name}.branch3x3dbl_", ("1", 64, 1), ("2", 96, 3), ("3", 96, 3)),
        _conv(_average_pool(x), f"{name}.branch_pool", pool_filters, 1),
    )


def _reduction_to_17(x, name):
    double = _chain(x, f"{name}.branch3x3dbl_", ("1", 64, 1), ("2", 96, 3))
    return _join(
        _conv(x, f"{name}.branch3x3", 384, 3, strides=2, padding="valid"),
        _conv(double, f"{name}.branch3x3dbl_3", 96, 3, strides=2, padding="valid"),
        _max_pool(x),
    )


def _block_17(x, name, filters):
    row, column = (1, 7), (7, 1)
    return _join(
        _conv(x, f"{name}.branch1x1", 192, 1),
        _chain(
            x,
            f"{name}.branch7x7_",
            ("1", filters, 1),
            ("2", filters, row),
            ("3", 192, column),
        ),
        _chain(
            x,
            f"{name}.branch7x7dbl_",
            ("1", filters, 1),
            ("2", filters, column),
            ("3", filters, row),
            ("4", filters, column),
            ("5", 192, row),
        ),
        _conv(_average_pool(x), f"{name}.branch_pool", 192, 1),
    )


def _reduction_to_8(x, name):
    short = _conv(x, f"{name}.branch3x3_1", 192, 1)
    long = _chain(x, f"{name}.branch7x7x3_", ("1", 192, 1), ("2", 192, (1, 7)), ("3", 192, (7, 1)))
    return _join(
        _conv(short, f"{name}.branch3x3_2", 320, 3, strides=2, padding="valid"),
        _conv(long, f"{name}.branch7x7x3_4", 192, 3, strides=2, padding="valid"),
        _max_pool(x),
    )


def _block_8(x, name, pool):
    short = _conv(x, f"{name}.branch3x3_1", 384, 1)
    double = _chain(x, f"{name}.branch3x3dbl_", ("1", 448, 1), ("2", 384, 3))
    return _join(
        _conv(x, f"{name}.branch1x1", 320, 1),
        _conv(short, f"{name}.branch3x3_2a", 384, (1, 3)),
        _conv(short, f"{name}.branch3x3_2b", 384, (3, 1)),
        _conv(double, f"{name}.branch3x3dbl_3a", 384, (1, 3)),
        _conv(double, f"{name}.branch3x3dbl_3b", 384, (3, 1)),
        _conv(pool(x), f"{name}.branch_pool", 192, 1),
    )


def _read(path):
    """dict of name -> array."""
    if path.suffix == ".npz":
        try:
            return npz.read(path)
        except ValueError as error:
            raise ValueError(f"{path} is no npz file of plain arrays: {error}") from None
    return weight_files.read(path, _MOST)


def _load(network, state, path):
    """Folds convolutions and batch normalisations, found by name, into the layers of a network."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights(_fold(state, layer, path))


def _fold(state, layer, path):
    """Kernel (height, width, in, out) and bias (out,) of convolution and normalisation at once."""

    def tensor(name, shape):
        key = f"{layer.name}.{name}"
        if key not in state or np.shape(state[key]) != shape:
            found = f"shape {np.shape(state[key])}" if key in state else "nothing"
            raise ValueError(
                f"{path} is not the Inception network of 2015-12-05: {key} should have shape "
                f"{shape}, found {found}."
            )
        return np.asarray(state[key], np.float64)

    height, width, channels, filters = layer.kernel.shape
    kernel = tensor("conv.weight", (filters, channels, height, width))
    gamma, beta, mean, variance = (
        tensor(f"bn.{name}", (filters,))
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    return [kernel.transpose(2, 3, 1, 0) * scale, beta - mean * scale]
