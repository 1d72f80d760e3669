"""What `train.py` is told reaches the model, the stream of images and the callbacks."""

import logging
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import data, quality, samplers
from ddpm_keras.app import references, training
from ddpm_keras.app.options import train_options
from ddpm_keras.app.run_directory import Run

TINY = ["--base-channels", "32", "--channel-multipliers", "1", "--attention-resolutions"]


def options_of(arguments):
    return train_options([*TINY, *arguments.split()])[0]


def built(arguments, images):
    return training.build_model(options_of(arguments), images)


def test_options_of_the_model(digits):
    model = built(
        "--conditional --num-res-blocks 2 --dropout 0.3 --schedule cosine --timesteps 30 "
        "--prediction v --weighting min_snr --ema 0.5 0.9 --ema-schedule constant --steps 100 "
        "--accumulate 4 --learning-rate 0.5 --warmup-steps 10 --clip-norm 0.25 --seed 5 "
        "--groups 16",
        digits,
    )
    network = model.network.get_config()
    assert (network["base_channels"], network["num_res_blocks"], network["dropout"]) == (32, 2, 0.3)
    assert tuple(network["channel_multipliers"]) == (1,) and network["num_classes"] == 10
    assert network["groups"] == 16
    assert (model.schedule.name, model.schedule.timesteps) == ("cosine", 30)
    assert (model.prediction, model.weighting, model.seed) == ("v", "min_snr", 5)
    assert model.weight_sets == ("raw", "ema_0.5", "ema_0.9")
    assert model.ema.snapshot_widths == (0.05, 0.10) and model.accumulation_steps == 4
    optimizer = model.optimizer
    assert (optimizer.global_clipnorm, optimizer.epsilon) == (0.25, 1e-8)
    for step, rate in ((0, 0.0), (5, 0.25), (10, 0.5), (1000, 0.5)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate)


def test_options_that_leave_something_out(digits):
    model = built("--learning-rate 0.5 --warmup-steps 0 --clip-norm 0 --snapshots 0", digits)
    assert float(model.optimizer.learning_rate) == 0.5
    assert model.optimizer.global_clipnorm is None and model.num_classes is None
    assert model.network.get_config()["groups"] is None
    assert model.ema.snapshot_widths == ()


def test_weights_are_those_of_the_seed(digits):
    first, again, other = (built(f"--seed {seed}", digits).get_weights() for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


class Means(quality.FeatureExtractor):
    """Stands in for the classifier, which is trained for a minute."""

    name, dim, channels, fingerprint = "row means", 8, 1, "row means"


def callbacks_of(arguments, images, monkeypatch):
    """dict of name of the class -> callback, in their order."""
    monkeypatch.setattr(references, "choose_extractor", lambda name, images: Means())
    observers = training.observers(Run("nowhere"), options_of(arguments), images)
    return {type(each).__name__: each for each in observers}


def test_options_of_the_callbacks(digits, monkeypatch):
    found = callbacks_of(
        "--steps 100 --batch-size 16 --log-every-steps 7 --keep 3 --snapshots 4 "
        "--validation-images 30 --quality-every-epochs 2 --quality-images 50 --timesteps 15 "
        "--conditional",
        digits,
        monkeypatch,
    )
    assert (found["HistoryLog"].every_steps, found["HistoryLog"].batch_size) == (7, 16)
    assert found["Trajectory"].every_steps == 7 and found["Checkpoints"].keep == 3
    assert found["Snapshots"].every_steps == 25
    assert found["Snapshots"].sigma_rels == (0.05, 0.10)
    monitor = found["QualityMonitor"]
    assert (monitor.num_images, monitor.every_epochs, len(monitor.real)) == (50, 2, 1437)
    assert isinstance(monitor.extractor, Means)
    assert found["SampleGrid"].sampler == monitor.sampler == samplers.DDIM(15)
    places = np.linspace(0, 359, 30).round().astype(int)
    validation = found["ValidationLoss"]
    np.testing.assert_array_equal(validation.images, digits.held_out[places])
    np.testing.assert_array_equal(validation.labels, digits.held_out_labels[places])


def test_callbacks_come_in_an_order_that_serves_the_next(digits, monkeypatch):
    order = list(callbacks_of("", digits, monkeypatch))
    assert order[:2] == ["StillThere", "StopOnDivergence"] and order[-1] == "Checkpoints"
    for numbers in ("QualityMonitor", "Trajectory", "ValidationLoss"):
        for writer in ("HistoryLog", "TensorBoardScalars"):
            assert order.index(numbers) < order.index(writer)


def test_callbacks_that_are_not_wanted(digits, monkeypatch):
    found = callbacks_of("--snapshots 0 --quality-every-epochs 0", digits, monkeypatch)
    assert not {"Snapshots", "QualityMonitor"} & set(found)
    assert found["ValidationLoss"].labels is None and len(found["ValidationLoss"].images) == 128
    assert found["SampleGrid"].sampler == samplers.DDIM(20)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_stream_is_that_of_the_seed_the_step_and_the_flips(digits, conditional):
    calls = []

    def fit(stream, **arguments):
        calls.append((stream, arguments))
        epochs = arguments["epochs"] - arguments["initial_epoch"]
        model.train_counter.assign_add(epochs * arguments["steps_per_epoch"])

    alone = tf.distribute.get_strategy()
    model = types.SimpleNamespace(train_counter=tf.Variable(2), fit=fit, distribute_strategy=alone)
    arguments = "--steps 11 --epoch-steps 4 --batch-size 16 --seed 5 --flip"
    options = options_of(arguments + " --conditional" * conditional)
    training.fit(options, digits, model, 2, ["the observers"])
    assert logging.getLogger("ddpm_keras").level == logging.NOTSET  # as it was
    labels = digits.train_labels if conditional else None
    for (stream, call), start, (first, last, length) in zip(
        calls, (2, 4, 8), ((0, 1, 2), (1, 2, 4), (2, 3, 3)), strict=True
    ):
        named = {"initial_epoch": first, "epochs": last, "steps_per_epoch": length}
        assert call == named | {"callbacks": ["the observers"], "shuffle": False, "verbose": 0}
        same = data.training_stream(digits.train, labels, 16, 5, start, flip=True)
        for got, expected in zip(stream.take(2), same.take(2), strict=True):
            for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
                np.testing.assert_array_equal(a, b)


def test_the_network_to_ship_holds_the_last_average(digits, tmp_path):
    model = built("--ema 0.5 0.9", digits)
    for weight in model.network.trainable_weights:
        weight.assign(weight + 1.0)
    model.ema.update(model.network.weights)
    run = Run(tmp_path)
    run.write_config({"options": {}})
    training.save(run, model)
    assert run.config["finished"] == model.steps_made and run.card.is_file()
    network = keras.saving.load_model(tmp_path / "network-ema.keras")
    whole = keras.saving.load_model(tmp_path / "model.keras")
    for shipped, average, raw in zip(
        network.weights, model.weight_values("ema_0.9"), whole.weight_values("raw"), strict=True
    ):
        np.testing.assert_array_equal(shipped, average)
        assert (np.asarray(shipped) != np.asarray(raw)).any() or not shipped.trainable


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "100", "--quality-every-epochs", "0"], [["--warmup-steps", "0.001"]]),
        (["--steps", "101", "--warmup-steps", "100", "--quality-every-epochs", "0"], []),
        (
            ["--steps", "750", "--quality-every-epochs", "4"],
            [["--quality-every-epochs", "4 epochs", "has 3"]],
        ),
        (["--steps", "751", "--quality-every-epochs", "4"], []),
        (
            ["--steps", "100", "--quality-every-epochs", "4"],
            [["--warmup-steps"], ["-every-epochs"]],
        ),
        (["--steps", "100"], [["--warmup-steps"]]),  # the demo measures each epoch
    ],
    ids=str,
)
def test_what_a_short_run_never_comes_to_is_said(arguments, words):
    options, _ = train_options(arguments)
    lines = training.too_short(options)
    assert len(lines) == len(words)
    assert all(word in line for line, each in zip(lines, words, strict=True) for word in each)
