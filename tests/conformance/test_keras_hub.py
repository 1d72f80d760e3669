"""A model of keras-hub, built without downloads: averages beside its training."""

import warnings

import keras
import numpy as np
import pytest

from ddpm_keras import EMAOptimizer, callbacks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = pytest.importorskip("keras_hub", reason="needs the extra 'conformance'").models


def classifier():
    backbone = models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=8,
    )
    return models.ViTImageClassifier(backbone=backbone, num_classes=3, preprocessor=None)


def test_an_image_classifier_is_averaged_evaluated_saved_and_shipped(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(24, 16, 16, 3)).astype(np.float32)
    y = random.integers(0, 3, 24)
    keras.utils.set_random_seed(0)
    model = classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(EMAOptimizer(keras.optimizers.SGD(0.1), 0.5), loss)
    start = model.get_weights()
    watch = callbacks.EvaluateAverages((x, y), batch_size=24)
    history = model.fit(
        x, y, batch_size=24, epochs=1, shuffle=False, verbose=0, callbacks=[watch]
    ).history
    shipped = model.optimizer.ema.export(model, "0.5", tmp_path / "network.keras")
    expected = [(a + b) / 2 for a, b in zip(start, model.get_weights(), strict=True)]
    for value, half in zip(shipped.get_weights(), expected, strict=True):
        np.testing.assert_allclose(value, half, atol=1e-6)
    shipped.compile(loss=loss)
    found = shipped.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)["loss"]
    assert history["val_loss_ema_0.5"] == [pytest.approx(found, abs=1e-5)]
    model.save_weights(tmp_path / "model.weights.h5")
    again = classifier()
    again.compile(EMAOptimizer(keras.optimizers.SGD(0.1), 0.5), loss)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
    pairs = zip(again.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
