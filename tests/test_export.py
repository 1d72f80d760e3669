"""What a model is exported as: a network, or a whole sampler, that TensorFlow alone can run."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import conditional_model, small_network
from refusals import assert_refused

from ddpm_keras import DDPM, samplers
from ddpm_keras.ema import EMAModel

X = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
Y = X @ np.array([[3.0], [-2.0]], np.float32)


class Subclassed(keras.Model):
    """A network that Keras knows only by calling it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


def sequential():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def functional():
    inputs = keras.Input((2,), name="points")
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)])


def trained(make, **kwargs):
    model = EMAModel(make(), ema=(0.5, 0.9), **kwargs)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    return model


@pytest.mark.parametrize(
    ("make", "weights"),
    [(functional, "ema"), (unbuilt, "ema"), (Subclassed, "ema"), (sequential, "raw")],
)
def test_the_network_is_exported_with_the_evaluation_weights(make, weights, tmp_path, capsys):
    model = trained(make, evaluation_weights=weights)
    model.export(tmp_path / "network")
    name = model.resolve(weights)
    assert (
        f"Export with {name}, as evaluation_weights of the model says." in capsys.readouterr().out
    )
    loaded = tf.saved_model.load(tmp_path / "network")
    served = loaded.serve(X[:3])
    kernel, bias = (np.asarray(value) for value in model.weight_values(weights))
    np.testing.assert_allclose(served, X[:3] @ kernel + bias, atol=1e-6)
    variables = tf.train.list_variables(str(tmp_path / "network" / "variables" / "variables"))
    assert {tuple(shape) for _, shape in variables if shape} == {(1,), (2, 1)}  # no other set
    model.fit(X, Y, batch_size=8, verbose=0)  # which goes on as if nothing had been


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert_ships_the_average(tmp_path, capfd):
    model = trained(sequential)
    path = str(tmp_path / "network.tflite")
    model.export(path, format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(model_path=path)
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()
    (served,) = run(**{name: X[:1]}).values()
    np.testing.assert_allclose(served, model.predict(X[:1], verbose=0), atol=1e-6)
    assert "Export with" not in capfd.readouterr().out


def served_by_onnx(model, path, *inputs):
    """What ONNX Runtime gives for the inputs of a model that was exported for it."""
    pytest.importorskip("tf2onnx", reason="pip install 'ddpm-keras[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'ddpm-keras[onnx]'")
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    names = [each.name for each in session.get_inputs()]
    (served,) = session.run(None, dict(zip(names, inputs, strict=True)))
    return served


@pytest.mark.filterwarnings("ignore:In the future `np.object`")  # Keras asks NumPy for it
def test_onnx_ships_the_average(tmp_path):
    model = trained(sequential)
    served = served_by_onnx(model, tmp_path / "network.onnx", X)
    np.testing.assert_allclose(served, model.predict(X, verbose=0), atol=1e-5)


@pytest.mark.filterwarnings("ignore:In the future `np.object`")
def test_onnx_has_the_network_of_a_diffusion_model(tmp_path):
    model = DDPM(small_network(), ema=0.5)
    x = np.random.default_rng(0).normal(size=(3, *model.image_shape)).astype(np.float32)
    t = np.array([3, 50, 7], np.int32)
    served = served_by_onnx(model, tmp_path / "network.onnx", x, t)
    np.testing.assert_allclose(served, model.predict([x, t], verbose=0), atol=1e-5)


def test_what_cannot_be_exported_is_refused(tmp_path):
    assert_refused(lambda: EMAModel(unbuilt(), 0.9).export(tmp_path / "x"), ["not yet been built"])
    model = trained(sequential)
    model.network.layers[0].bias.assign([np.nan])
    model.evaluation_weights = "raw"
    assert_refused(lambda: model.export(tmp_path / "x"), ["'raw'", "not finite"])
    assert not (tmp_path / "x").exists()


# The whole sampler.

ALONE = """
import sys
import numpy as np
import tensorflow as tf

one, other = (tf.saved_model.load(path) for path in sys.argv[1:3])
x, t = np.load(sys.argv[3])["x"], np.array([0, 30, 59], np.int32)
assert not [name for name in sys.modules if name.startswith("ddpm_keras")]
np.savez(
    sys.argv[4],
    images=other.sample(seed=7, start=2, num_images=5),
    served=other.signatures["serving_default"](
        seed=tf.constant(7), start=tf.constant(2), num_images=tf.constant(5)
    )["output_0"],
    of_classes=one.sample(seed=3, start=0, labels=[2, 0, 1, 3]),
    network=one.network(x, t, [0, 1, 2]),
)
"""


def unconditional_model():
    keras.utils.set_random_seed(1)
    model = DDPM(small_network(), timesteps=60, ema=(0.5, 0.9))
    random = np.random.default_rng(1)
    for weight in model.network.weights:
        weight.assign(random.normal(0, 0.2, weight.shape))
    model.ema.update(model.network.weights)
    return model


def test_a_sampler_runs_by_tensorflow_alone_and_draws_what_the_model_draws(tmp_path):
    conditional, plain = conditional_model(), unconditional_model()
    ddim = samplers.DDIM(4)
    conditional.export_sampler(tmp_path / "one", None, ddim, 2.0, "raw", guidance_rescale=0.5)
    plain.export_sampler(tmp_path / "other", "raw", samplers.DDPM(steps=5))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    files = [tmp_path / name for name in ("one", "other", "x.npz", "out.npz")]
    subprocess.run([sys.executable, "-c", ALONE, *files], check=True)
    found = np.load(tmp_path / "out.npz")
    expected = plain.sample(5, "raw", samplers.DDPM(steps=5), seed=7, start=2)
    assert expected.std() > 10
    np.testing.assert_array_equal(found["images"], expected)
    np.testing.assert_array_equal(found["served"], expected)
    labels = np.array([2, 0, 1, 3])
    guided = {"guidance_scale": 2.0, "guide": "raw", "guidance_rescale": 0.5}
    expected = conditional.sample(4, "ema", ddim, seed=3, labels=labels, **guided)
    np.testing.assert_array_equal(found["of_classes"], expected)
    inputs = [x, np.array([0, 30, 59], np.int32), np.array([0, 1, 2], np.int32)]
    expected = conditional.predict(inputs, verbose=0)
    np.testing.assert_allclose(found["network"], expected, atol=1e-5)
    conditional.export(tmp_path / "network", verbose=False)
    served = tf.saved_model.load(tmp_path / "network")
    np.testing.assert_allclose(served.serve(inputs), expected, atol=1e-5)


def test_a_sampler_that_cannot_be_exported_is_refused(tmp_path):
    model = unconditional_model()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for export, words in (
        (
            lambda: model.export_sampler(tmp_path / "full"),
            ["full is there already", "empty folder"],
        ),
        (lambda: model.export_sampler(tmp_path / "x", guidance_scale=2.0), ["guidance_scale"]),
        (lambda: model.export_sampler(tmp_path / "x", "ema_1"), ["ema_1", "ema_0.9"]),
        (lambda: model.export_sampler(tmp_path / "x", sampler="euler"), ["euler", "ddim"]),
    ):
        assert_refused(export, words)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
