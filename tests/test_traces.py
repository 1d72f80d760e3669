"""How often a graph is made: once for training, validation and sampling, whatever comes after."""

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import conditional_model, small_network
from numpy.testing import assert_allclose

from ddpm_keras import DDPM, EMAModel, EMAOptimizer, UNet, samplers, sampling
from ddpm_keras.ema import fused, steps
from ddpm_keras.networks import graphs

X, Y = np.random.default_rng(0).normal(size=(40, 3)).astype("float32"), np.ones((40, 1), "float32")


@pytest.fixture
def images(digits):
    return digits.train[:40]


def counted(model):
    """A list that grows with each trace of the model's training step."""
    traces, step = [], model.train_step

    def train_step(data):
        traces.append(data)
        return step(data)

    model.train_step = train_step
    return traces


def dense():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])


def test_training_is_traced_once_though_nobody_built_the_optimizer(images):
    model = DDPM(small_network(), ema=(0.9, 0.99))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    traces = counted(model)
    model.fit(images, batch_size=16, epochs=2, verbose=0)  # the last batch is a small one
    model.fit(images[:16], batch_size=16, verbose=0)
    assert len(traces) == 1 and model.optimizer.built


def test_training_of_any_network_is_traced_once_too():
    model = EMAModel(dense(), ema=0.9)
    model.compile("adam", "mse")
    traces = counted(model)
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert len(traces) == 1


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_optimizer_with_averages_makes_no_second_trace_of_a_model_of_ones_own(optimizer):
    model = dense()
    model.compile(EMAOptimizer(optimizer, 0.9), "mse")
    traces = counted(model)
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert len(traces) == 1
    average = model.optimizer.ema.variables("0.9")
    assert np.abs(average[0] - model.weights[0].value).max() > 0


def test_one_trace_evaluates_and_predicts_with_every_weight_set_that_has_a_name():
    model = EMAModel(dense(), ema=(0.5, 0.9))
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=16, verbose=0)
    traces, step = [], model.test_step
    model.test_step = lambda data: traces.append(data) or step(data)
    for name in (*model.weight_sets, "ema"):
        model.evaluation_weights = name
        kernel, bias, *others = (np.asarray(value) for value in model.weight_values(name))
        expected = (X @ kernel + bias) @ others[0] + others[1]
        assert_allclose(model.predict(X, verbose=0), expected, atol=1e-5)
        loss = model.evaluate(X, Y, verbose=0)
        assert_allclose(loss, np.mean((expected - Y) ** 2), rtol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_one_trace_validates_every_weight_set_and_any_number_of_images(images, dtype):
    model = DDPM(small_network(), ema=(0.9, 0.99), image_range=(0, 255))
    for name in model.weight_sets:
        for count in (3, 20, 7):
            model.validation_loss(images[:count].astype(dtype), weights=name, batch_size=8)
    assert model.traced.losses(np.dtype(dtype)).experimental_get_tracing_count() == 1


def test_one_trace_samples_every_weight_set_and_any_number_of_images():
    model, sampler = DDPM(small_network(), ema=(0.9, 0.99)), samplers.DDIM(2)
    for name in model.weight_sets:
        model.sample(5, name, sampler, batch_size=3)
    assert model.traced.sampling(sampler, False, 0, 1).experimental_get_tracing_count() == 1


# Adam in one operation.

ADAMS = {
    "plain": lambda: keras.optimizers.Adam(0.01, epsilon=1e-8),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    "decayed": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "by a schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.PolynomialDecay(0.0, 3, 0.01)
    ),
    "accumulating": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "another rule": lambda: keras.optimizers.Nadam(0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


def trained(optimizer, wrap):
    """Weights after six steps of a problem whose gradients are known, and the optimizer's state."""
    weights = [keras.Variable(np.arange(4.0) - 1.5), keras.Variable(np.full((2, 2), 0.3))]
    targets = [np.float32([1, -1, 0.5, 0]), np.float32([[0, 1], [2, 3]])]
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step():
        pairs = zip(weights, targets, strict=True)
        gradients = [optimizer.scale_loss(weight.value - target) for weight, target in pairs]
        with wrap(steps.parts(optimizer)):
            optimizer.apply(gradients, weights)

    for _ in range(6):
        step()
    return [np.array(v) for v in (*weights, *optimizer.variables)], step


@pytest.mark.parametrize("name", ADAMS)
def test_adam_in_one_operation_is_that_of_keras(name):
    found, step = trained(ADAMS[name](), fused.fused)
    expected, plain = trained(ADAMS[name](), lambda optimizers: contextlib.nullcontext())
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=2e-5, atol=1e-7)  # 1 - beta_2 in float32 is 1.3e-5 off
    nodes = [len(f.get_concrete_function().graph.as_graph_def().node) for f in (step, plain)]
    assert (nodes[0] < 0.7 * nodes[1]) == (name in ("plain", "by a schedule", "clipped")) or (
        name in ("decayed", "accumulating", "scaled") and nodes[0] <= nodes[1]
    )


def test_adam_in_one_operation_takes_rows_of_a_table_alone_and_leaves_the_optimizer_as_it_was():
    found = []
    for wrap in (fused.fused, lambda optimizers: contextlib.nullcontext()):
        table, optimizer = keras.Variable(np.ones((4, 2))), keras.optimizers.Adam(0.1)
        optimizer.build([table])
        rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([2]), tf.constant([4, 2]))
        with wrap([optimizer]):
            optimizer.apply([rows])
        assert "update_step" not in vars(optimizer)
        found.append(np.array(table))
    assert_allclose(*found, rtol=1e-6)


# The network compiled as a whole.


def small_unet(shape=(8, 8, 1), **options):
    return UNet(shape, 8, (1,), num_res_blocks=1, attention_resolutions=(), **options)


@pytest.fixture(scope="module")
def drawn():
    """A model of three classes, two averages and weights nowhere 0."""
    return conditional_model()


@pytest.mark.parametrize(
    "given", [{}, {"guidance_scale": 2.0}, {"guidance_scale": 2.0, "guide": "raw"}]
)
def test_a_compiled_network_draws_the_same_images(drawn, given, monkeypatch):
    sampler = samplers.DDIM(20)
    images = {}
    for works in (True, False):
        monkeypatch.setattr(sampling, "xla_works", lambda works=works: works)
        drawn.traced = sampling.Traced(drawn)
        function = drawn.traced.sampling(sampler, bool(given), 0, 1 + ("guide" in given))
        graph = function.get_concrete_function().graph.as_graph_def()
        compiled = [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]
        as_a_whole = any("evaluate" in f.signature.name for f in compiled)
        assert as_a_whole == (works and not given)  # guided, the batch varies, which XLA is slow at
        settings = {"sampler": sampler, "output": "float", **given}
        images[works] = drawn.sample(5, "ema_0.5", batch_size=3, **settings)
    assert_allclose(images[True], images[False], atol=1e-5)


def test_networks_are_compiled_where_it_was_measured_to_be_faster(monkeypatch):
    def compiles(network, steps=20):
        return sampling._compiles(DDPM(network, ema=None), steps)

    assert compiles(small_unet())
    assert not compiles(small_unet(), steps=19)
    assert not compiles(small_unet((32, 32, 1)))
    assert not compiles(small_unet(dtype="mixed_bfloat16"))
    assert not compiles(small_network())  # of one's own
    monkeypatch.setattr(sampling, "xla_works", lambda: False)
    assert not compiles(small_unet())


@pytest.mark.parametrize(
    ("gpus", "side", "reworked"), [([], 16, False), ([], 18, True), (["GPU:0"], 8, True)]
)
def test_graphs_of_small_images_run_as_they_were_traced(gpus, side, reworked, monkeypatch):
    network = small_unet((side, side, 3))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    options = tf.config.optimizer.get_experimental_options
    with pytest.raises(KeyboardInterrupt), graphs.graphs_as_traced(network):
        assert options().get("disable_meta_optimizer", False) is not reworked
        raise KeyboardInterrupt
    assert not options().get("disable_meta_optimizer", False)


def graph_of_a_training(images):
    """A weak reference to the graph of the training step of a model that is gone."""
    model = DDPM(UNet((8, 8, 1), 8, (1, 2), 1, (4,)), ema=0.9)
    model.compile(keras.optimizers.Adam(1e-3))
    graphs, step = [], model.train_step

    def train_step(data):
        graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return step(data)

    model.train_step = train_step
    model.fit(images, batch_size=8, verbose=0)
    return graphs[0]


def test_the_graph_of_a_training_ends_with_its_model(images):
    graph_of_a_training(images[:8])  # the first one also traces what all later ones share
    graph = graph_of_a_training(images[:8])
    gc.collect()
    assert graph() is None
