"""What is used of Keras' internals: missing names are told at import; hooks are really called."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from ddpm_keras import EMAModel, keras_internals


def test_a_name_that_another_version_lacks_is_told_with_the_versions_that_have_it():
    with pytest.raises(ImportError) as caught:
        keras_internals._find(keras, "src.losses.loss.renamed")
    assert "keras.src.losses.loss.renamed" in str(caught.value)
    assert keras_internals.TESTED in str(caught.value) and keras.__version__ in str(caught.value)


class Checked(EMAModel):
    """Counts the batches that pass its check."""

    traced = 0

    def checked(self, step):
        def counted(data):
            self.traced += 1
            return step(data)

        return counted


@pytest.fixture
def model():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model = Checked(network, ema=0.9)
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def test_keras_hands_every_batch_of_training_and_evaluation_to_the_check(model):
    x, y = np.ones((6, 2), np.float32), np.ones((6, 1), np.float32)
    model.fit(x, y, batch_size=2, verbose=0)
    assert model.traced == 3
    model.evaluate(x, y, batch_size=3, verbose=0)
    assert model.traced == 5
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    assert model.traced == 7
    model.predict(x, verbose=0)
    assert model.traced == 7


def test_the_average_of_an_optimizer_belongs_to_its_variables(model):
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.75)
    kernel, bias = model.network.trainable_variables
    optimizer.build([kernel, bias])
    seen = []
    for _ in range(2):  # the first step copies the weights
        optimizer.apply([np.ones((2, 1), np.float32), np.zeros((1,), np.float32)])
        seen.append(np.array(kernel))
    pairs = keras_internals.averages_of_optimizer(optimizer)
    assert [id(variable) for variable, _ in pairs] == [id(kernel), id(bias)]
    np.testing.assert_allclose(pairs[0][1].numpy(), 0.75 * seen[0] + 0.25 * seen[1], rtol=1e-6)


def test_layers_are_the_model_and_all_below_it(model):
    layers = keras_internals.layers_of(model)
    assert layers[0] is model and model.network.layers[-1] in layers


def test_variables_are_counted_before_they_take_memory():
    def build(units, nbytes, count):
        with keras_internals.bounded_variables(nbytes, count):
            keras.layers.Dense(units).build((None, 4))

    build(4, 4 * 20, 2)
    for units, nbytes, count in ((4, 4 * 19, 2), (4, 4 * 20, 1), (2**45, 2**30, 9)):
        with pytest.raises(ValueError, match="a larger model than the weights"):
            build(units, nbytes, count)


@pytest.mark.parametrize(("jit_compile", "calls"), [(None, 0), (True, 1)])
def test_a_step_is_part_of_the_graph_around_it_unless_xla_compiles_it(jit_compile, calls):
    step = tf.function(lambda x: x + 1.0, autograph=False, jit_compile=jit_compile)
    within = keras_internals._traced_within(step)
    graph = tf.function(within, autograph=False).get_concrete_function(tf.TensorSpec((2,))).graph
    assert [op.type for op in graph.get_operations()].count("PartitionedCall") == calls
    assert_array_equal(within(tf.zeros(2)), tf.ones(2))  # eagerly it is called as it is
