"""Functions of tensors that XLA compiles alone, where it can."""

import contextlib
import contextvars
import functools
import math

import tensorflow as tf

_plainly = contextvars.ContextVar("plainly", default=False)
_inside = contextvars.ContextVar("inside", default=False)
_LEAST = 1024  # numbers of an image


def compiled(function):
    """A function of (what is no tensor, *tensors), compiled by itself for each shape it meets.

    Where XLA does not work, for images of so few numbers that compiling takes longer than it ever
    saves, and within `plainly`, it is called as it is.

    Args:
        function: the first argument is hashable, the others tensors, the first of them the largest.
            It is traced once for all shapes, so that it may use `tf.shape` of them alone.
    """

    @functools.wraps(function)
    def call(static, *tensors):
        if _plainly.get() or not _is_worth_it(tensors[0]) or not xla_works():
            return function(static, *tensors)
        return _compiled(function, static, tuple(map(_spec, tensors)))(*tensors)

    return call


@contextlib.contextmanager
def plainly():
    """A scope in which nothing is compiled alone, for who exports what is traced in it."""
    with _set(_plainly):
        yield


def is_compiled():
    """Whether the function that calls this is traced for XLA, as `compiled` gives it."""
    return _inside.get()


@contextlib.contextmanager
def _set(variable):
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


@functools.cache
def _compiled(function, static, specs):
    def traced(*tensors):
        with _set(_inside):
            return function(static, *tensors)

    return tf.function(traced, specs, autograph=False, jit_compile=True)


def _is_worth_it(tensor):
    return math.prod(size or _LEAST for size in tensor.shape[1:]) >= _LEAST


def _spec(tensor):
    return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)


@functools.cache
def xla_works():
    """Whether this TensorFlow has XLA for the device on which operations run by default."""
    with tf.init_scope():
        try:
            twice = tf.function(lambda x: x + x, autograph=False, jit_compile=True)
            return float(twice(tf.ones(()))) == 2.0
        except (tf.errors.OpError, NotImplementedError, RuntimeError, ValueError):
            return False
