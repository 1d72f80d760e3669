"""One answer to which weights are used, and the training step that docs/ema.md gives to copy."""

import pathlib
import re

import keras
import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras.ema import EMAModel, WeightSet

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(32, 1)).astype(np.float32)
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "ema.md"


@pytest.fixture(scope="module")
def model():
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model = EMAModel(net, ema=(0.5, 0.9))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    return model


def by_hand(model, name):
    kernel, bias = (np.asarray(value) for value in model.weight_values(name))
    return X @ kernel + bias


@pytest.mark.parametrize("weights", ["ema", "raw", "ema_0.5", "a weight set"])
def test_evaluate_predict_export_and_validation_agree(model, weights, capsys):
    name = weights
    if weights == "a weight set":
        weights = WeightSet("halved", [0.5 * np.asarray(v) for v in model.weight_values("raw")])
        name = "halved"
    model.evaluation_weights = weights
    expected = by_hand(model, weights)
    loss = np.mean((expected - Y) ** 2)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(model.export_network()(X), expected, atol=1e-6)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(loss, rel=1e-5)
    assert capsys.readouterr().out == ""  # nothing is shown where nothing is wanted
    model.evaluate(X, Y, verbose=2)
    model.predict(X, verbose=2)
    said = re.findall(r"^(\w+) with (\S+),", capsys.readouterr().out, re.MULTILINE)
    name = {"ema": "ema_0.9"}.get(name, name)
    assert said == [("Evaluation", name), ("Prediction", name)]
    assert model.resolve(None) == name
    model.optimizer.learning_rate = 0.0  # so that validation sees the same weights, but for the
    model.evaluation_weights = "raw"  # averages, which still move
    history = model.fit(X, Y, validation_data=(X, Y), verbose=2).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X, Y, verbose=0))
    assert "Validation with raw," in capsys.readouterr().out
    model.optimizer.learning_rate = 0.1


@pytest.mark.parametrize("inner", ["raw", "ema_0.5", "ema_0.9"])
@pytest.mark.parametrize("outer", ["raw", "ema_0.5"])
def test_a_weight_set_is_the_same_in_the_scope_of_another(model, outer, inner):
    expected = {name: by_hand(model, name) for name in model.weight_sets}
    with model.weight_scope(outer):
        with model.weight_scope(inner):
            np.testing.assert_allclose(model.network(X), expected[inner], atol=1e-6)
        np.testing.assert_allclose(model.network(X), expected[outer], atol=1e-6)
        with pytest.raises(ValueError, match="inside of a weight_scope.*leave it"):
            model.export_network(inner)
    np.testing.assert_allclose(model.network(X), expected["raw"], atol=1e-6)


def test_a_scope_is_not_silently_other_weights_than_evaluation_weights(model):
    calls = {
        "evaluate": lambda: model.evaluate(X, Y, verbose=0),
        "predict": lambda: model.predict(X, verbose=0),
        "evaluate ": lambda: model.test_on_batch(X, Y),
        "predict ": lambda: model.predict_on_batch(X),
    }
    for what, call in calls.items():
        call()  # traced before
        with model.weight_scope("ema_0.5"):
            assert_refused(call, [f"{what.strip()} takes evaluation_weights", "weight_scope"])


def test_nothing_is_trained_or_saved_in_the_scope_of_a_weight_set(model, tmp_path):
    before, path = model.get_weights(), tmp_path / "x.keras"
    tree = model.get_state_tree()
    calls = {
        "fit": lambda: model.fit(X, Y, verbose=0),
        "Training": lambda: model.train_on_batch(X, Y),
        "save": lambda: model.save(path),
        "save_weights": lambda: model.save_weights(tmp_path / "x.weights.h5"),
        "set_weights": lambda: model.set_weights([w + 1 for w in before]),
        "load_weights": lambda: model.load_weights(tmp_path / "y.weights.h5"),
        "set_state_tree": lambda: model.set_state_tree(tree),
        "reset": model.ema.reset,
    }
    for what, call in calls.items():
        with model.weight_scope("ema_0.5"):
            assert_refused(call, [f"{what} is", "leave the weight_scope"])
    assert not list(tmp_path.iterdir())
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_choice_is_saved_with_the_model(model, tmp_path):
    model.evaluation_weights = "ema_0.5"
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluation_weights == "ema_0.5"
    np.testing.assert_allclose(again.predict(X, verbose=0), by_hand(model, "ema_0.5"), atol=1e-6)


def test_a_weight_set_is_no_part_of_the_configuration(model, tmp_path):
    model.evaluation_weights = WeightSet("other", list(model.weight_values("raw")))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").evaluation_weights == "ema"


def test_the_documented_train_step_trains_saves_and_loads(tmp_path, monkeypatch):
    (block,) = (
        b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "Mine" in b
    )
    monkeypatch.chdir(tmp_path)
    names = {"x": X, "y": Y, "__name__": "documented"}
    exec(compile(block, str(PAGE), "exec"), names)
    model, again = names["model"], names["again"]
    assert model.ema.num_updates == again.ema.num_updates == 2
    for name in model.ema.names:
        pairs = zip(model.ema.variables(name), again.ema.variables(name), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
        raw = zip(model.ema.variables(name), model.weights, strict=True)
        assert not any(np.array_equal(a, b) for a, b in raw)
    before = again.get_weights()
    again.fit(X, Y, verbose=0)
    assert again.ema.num_updates == 3 and not np.array_equal(before[0], again.get_weights()[0])
    spoiled = X.copy()
    spoiled[0] = np.nan
    again.fit(spoiled, Y, batch_size=32, verbose=0)
    assert again.ema.num_updates == 3  # the weights are lost, the averages are not
    assert all(np.isfinite(value).all() for value in again.ema.variables("0.999"))
