"""QualityMonitor: numbers of every weight set each epoch, and training untouched by it."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import DDPM, callbacks, quality, samplers


class Means(quality.FeatureExtractor):
    """Mean of each row of an image."""

    name, dim, channels, fingerprint = "row means", 8, 1, "row means"

    def _features(self, batch):
        return batch.mean(axis=(2, 3), dtype=np.float32) / 64


def monitor(digits, **arguments):
    arguments = {"num_images": 24, "sampler": samplers.DDIM(steps=3), **arguments}
    return callbacks.QualityMonitor(Means(), digits.train[:200], **arguments)


def train(network, digits, weights, *with_callbacks, epochs=2):
    """A copy of the network, trained from the given weights."""
    model = DDPM(keras.models.clone_model(network), ema=(0.5, 0.9))
    model.network.set_weights(weights)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(
        digits.train[:64],
        epochs=epochs,
        batch_size=16,
        verbose=0,
        shuffle=False,
        callbacks=list(with_callbacks),
    )
    return model, history.history


@pytest.fixture
def initial(network):
    return network.get_weights()


def test_every_weight_set_is_measured_on_the_same_noise(network, digits, initial, capsys):
    model, history = train(network, digits, initial, monitor(digits))
    assert model.weight_sets == ("raw", "ema_0.5", "ema_0.9")
    real = Means()(digits.train[:200])
    for name in model.weight_sets:
        images = model.sample(24, weights=name, sampler=samplers.DDIM(steps=3), seed=0)
        features = Means()(images)
        expected = quality.evaluate_features(real, features, num_subsets=20)
        assert len(history[f"quality_{name}"]) == 2
        assert history[f"quality_{name}"][-1] == pytest.approx(expected["frechet"], rel=1e-6)
        assert history[f"quality_kid_{name}"][-1] == pytest.approx(expected["kid"], rel=1e-6)
    printed = capsys.readouterr().out
    assert "3 weight sets x 24 images every 1 epochs take about" in printed
    assert (
        f"Epoch 2: Fréchet distance, row means, of 24 images: raw {_last(history):.3f}" in printed
    )


def _last(history):
    return history["quality_raw"][-1]


def test_features_may_be_given_and_epochs_left_out(network, digits, initial):
    real = Means()(digits.train[:200])
    given = callbacks.QualityMonitor(
        Means(), real, 24, every_epochs=2, sampler=samplers.DDIM(steps=3)
    )
    _, history = train(network, digits, initial, given)
    _, expected = train(network, digits, initial, monitor(digits))
    assert history["quality_raw"] == pytest.approx(expected["quality_raw"][1:], rel=1e-6)


def test_training_is_the_same_to_the_bit(network, digits, initial):
    with_monitor, history = train(network, digits, initial, monitor(digits))
    without, expected = train(network, digits, initial)
    assert history["loss"] == expected["loss"]
    for a, b in zip(with_monitor.weights, without.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    optimizers = with_monitor.optimizer.variables, without.optimizer.variables
    for a, b in zip(*optimizers, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_extractor_is_in_no_checkpoint(network, digits, initial, tmp_path):
    few = digits.train[:200]
    extractor = quality.ClassifierFeatures.train(few, digits.train_labels[:200], steps=2)
    watcher = callbacks.QualityMonitor(extractor, few, 24, sampler=samplers.DDIM(steps=3))
    sizes = []
    for name, watchers in (("with", [watcher]), ("without", [])):
        path = tmp_path / f"{name}.keras"
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        train(network, digits, initial, *watchers, checkpoint, epochs=1)
        with zipfile.ZipFile(path) as file:
            sizes.append(file.getinfo("model.weights.h5").file_size)
    assert sizes[0] == sizes[1]
    loaded = keras.saving.load_model(tmp_path / "with.keras")
    assert not [w for w in loaded.weights if "classifier" in w.path]


def test_numbers_reach_tensorboard(network, digits, initial, tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path)
    train(network, digits, initial, monitor(digits), board, epochs=1)
    tags = set()
    for path in tmp_path.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {"epoch_quality_raw", "epoch_quality_kid_ema_0.9"} <= tags


def test_the_cost_is_told_in_proportion(network, digits, initial, monkeypatch):
    """With a clock that advances a second a reading, a batch takes 1 s a step, features 1 s."""
    watcher = monitor(digits, num_images=100, batch_size=30, sampler=samplers.DDIM(steps=10))
    model, _ = train(network, digits, initial, epochs=1)
    watcher.set_model(model)
    clock = iter(range(1000))
    monkeypatch.setattr("ddpm_keras.callbacks.quality.time.perf_counter", lambda: next(clock))
    # 3 weight sets x 4 batches x (10 x 1 s + 1 s)
    assert watcher.seconds_per_evaluation() == 3 * 4 * 11


def test_nothing_is_made_before_the_first_step(network, digits, initial):
    made = []

    def make():
        made.append(Means())
        return made[-1]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert not made

    later = callbacks.QualityMonitor(make, digits.train[:200], 24, sampler=samplers.DDIM(3))
    _, history = train(network, digits, initial, Watch(), later, epochs=1)
    _, expected = train(network, digits, initial, monitor(digits), epochs=1)
    assert history["quality_raw"] == expected["quality_raw"] and len(made) == 1


def test_too_few_images_are_refused(digits):
    with pytest.raises(ValueError, match="at least 4"):
        monitor(digits, num_images=3)
    with pytest.raises(ValueError, match="every_epochs must be .* at least 1"):
        monitor(digits, every_epochs=0)
    with pytest.raises(ValueError, match="2 real images"):
        callbacks.QualityMonitor(Means(), digits.train[:2])
