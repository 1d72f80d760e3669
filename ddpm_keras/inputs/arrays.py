"""What images, labels and weights come as: arrays and tensors of any library, or not even that."""

import numpy as np
import tensorflow as tf

_EACH = "give one for each image"


class InputError(ValueError):
    """Images, labels or weights are not what a model takes. One line that names the cure."""


def as_numpy(values):
    """An array, or a tensor of any library, as a NumPy array."""
    if hasattr(values, "detach"):  # of torch
        values = values.detach().cpu()
        values = values.float() if "bfloat16" in str(values.dtype) else values
    return np.asarray(values)


def check_is_tensor(values, what, expected):
    """Refuses whatever is not one dense array or tensor, or the spec of one."""
    kind = type(values).__name__
    if isinstance(values, dict):
        keys = ", ".join(repr(key) for key in list(values)[:5])
        raise InputError(
            f"The {what} come as a dict of {keys}: give {expected}, for example by "
            "dataset.map(lambda batch: batch['image'])."
        )
    if isinstance(values, (list, tuple)):
        raise InputError(
            f"The {what} come as a {kind} of {len(values)} parts: give {expected}, for example by "
            "np.stack."
        )
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            f"The {what} come as a masked array, whose mask means nothing here: "
            f"give {expected} by values.filled(...)."
        )
    if "Ragged" in kind or "Sparse" in kind or hasattr(values, "tocsr"):
        raise InputError(f"The {what} come as a {kind}: give {expected}, dense and of one size.")
    if not (hasattr(values, "dtype") and hasattr(values, "shape")):
        raise InputError(f"The {what} come as a {kind}: give {expected}.")


def check_one_each(values, count, what):
    shape = shape_of(values)
    if shape is None:  # then the number of values is asserted
        return
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] in (None, 1))):
        raise InputError(f"{what} must be of shape (N,), not {tuple(shape)}: {_EACH}.")
    if None not in (count, shape[0]) and count != shape[0]:
        raise InputError(wrong_number(what, shape[0], count))


def wrong_number(what, found, images):
    return f"{what} holds {found} numbers for {images} images: {_EACH}."


def dtype_of(values):
    """The name of a dtype of NumPy, TensorFlow, PyTorch or JAX."""
    dtype = values.dtype
    name = getattr(dtype, "name", None) or str(dtype).rsplit(".", 1)[-1]
    return "string" if name.startswith(("str", "bytes")) else name


def shape_of(values):
    """The shape as a tuple, None where a size is unknown, or None if the rank is."""
    shape = values.shape
    if isinstance(shape, tf.TensorShape):
        return None if shape.rank is None else tuple(shape.as_list())
    return tuple(shape)


def fits(shape, expected):
    """Whether a shape is another one, as far as both are known."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )
