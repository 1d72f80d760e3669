"""Which weight set is evaluated, found when a graph runs: one trace is enough for all of them."""

import functools

import tensorflow as tf

from .groups import like, new_variable


class Choice:
    """The number of a weight set.

    A plain object, so that Keras and TensorFlow find nothing here to save.
    """

    def __init__(self):
        self.variable = new_variable(0, "evaluated_weight_set", "int64")

    def values(self, variables, sets):
        """The values of the weight set that is chosen, in a graph of the moment it runs.

        Args:
            variables: of the network.
            sets: for each weight set a function that gives its values, aligned with `variables`.
        """

        def read(values):
            pairs = zip(variables, values(), strict=True)
            return [tf.convert_to_tensor(like(variable, value)) for variable, value in pairs]

        number = tf.cast(tf.convert_to_tensor(self.variable), tf.int32)
        return tf.switch_case(number, [functools.partial(read, each) for each in sets])
