"""Convolutions in a form that takes TensorFlow less time than the one Keras gives them."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="ddpm_keras")
class Pointwise(keras.layers.Conv2D):
    """A 1x1 convolution, as a matrix product."""

    def call(self, inputs):
        rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
        kernel = tf.reshape(self.kernel, (-1, self.filters))
        result = tf.nn.bias_add(tf.matmul(rows, kernel), self.bias)
        return tf.reshape(result, (-1, *inputs.shape[1:3], self.filters))


@keras.saving.register_keras_serializable(package="ddpm_keras")
class Conv2D(keras.layers.Conv2D):
    """A 3x3 convolution of a map whose places are doubled in both directions, as a transposed one.

    Of the nine places that an element of the result rests on, four differ: a transposed convolution
    of stride 2 with sums of the kernel's entries has 4/9 of the multiplications, and the doubled
    map is never made.

    It has the name of Keras' class, since files tell the layers of a functional model by it.
    """

    def convolution_op(self, inputs, kernel):
        height, width = (2 * size for size in inputs.shape[1:3])
        shape = tf.stack([tf.shape(inputs)[0], height, width, self.filters])
        return tf.nn.conv2d_transpose(inputs, _summed(kernel), shape, strides=2, padding="SAME")

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, 2 * height, 2 * width, self.filters)


def _summed(kernel):
    """The kernel (4, 4, out, in) of the transposed convolution, of one (3, 3, in, out).

    Rows (a, b, c) become (c, b + c, a + b, a), and so do columns.
    """
    for axis in (0, 1):
        one, other = [[0, 0] for _ in range(4)], [[0, 0] for _ in range(4)]
        one[axis], other[axis] = [0, 1], [1, 0]
        kernel = tf.reverse(kernel, [axis])
        kernel = tf.pad(kernel, one) + tf.pad(kernel, other)
    return tf.transpose(kernel, (0, 1, 3, 2))
