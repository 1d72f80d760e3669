"""The recorded path of the weights against the weights themselves."""

import keras
import numpy as np
import pytest

from ddpm_keras import DDPM, callbacks


class Keep(keras.callbacks.Callback):
    """Keeps every weight set after every step, flattened, in float64."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        step = {}
        trainable = {id(weight) for weight in self.model.network.trainable_weights}
        used = [i for i, w in enumerate(self.model.network.weights) if id(w) in trainable]
        for name in self.model.weight_sets:
            values = self.model.weight_values(name)
            step[name] = np.concatenate([np.ravel(np.array(values[i], "f8")) for i in used])
        self.steps.append((step, dict(logs)))


@pytest.fixture
def trained(network, digits, tmp_path):
    model = DDPM(network, ema=(0.5, 0.9))
    model.compile(keras.optimizers.Adam(1e-2))
    keep = Keep()
    trajectory = callbacks.Trajectory(tmp_path / "trajectory.npz", every_steps=2)
    options = {"batch_size": 16, "verbose": 0, "callbacks": [trajectory, keep]}
    model.fit(digits.train[:160], **options)
    return model, keep, tmp_path / "trajectory.npz", options


def test_distances_and_cosines_are_exact(trained):
    model, keep, _, _ = trained
    for number, (weights, logs) in enumerate(keep.steps, 1):
        for name in model.weight_sets[1:]:
            if number % 2:
                assert f"distance_{name}" not in logs
                continue
            raw, average = weights["raw"], weights[name]
            distance = np.linalg.norm(raw - average)
            np.testing.assert_allclose(logs[f"distance_{name}"], distance, rtol=1e-5)
            np.testing.assert_allclose(
                logs[f"relative_distance_{name}"], distance / np.linalg.norm(raw), rtol=1e-5
            )
            cosine = raw @ average / np.linalg.norm(raw) / np.linalg.norm(average)
            np.testing.assert_allclose(1 - logs[f"cosine_{name}"], 1 - cosine, rtol=1e-3, atol=1e-9)


def test_records_of_other_weights_or_signs_are_not_joined(trained):
    model, _, path, options = trained
    images = np.zeros((32, 8, 8, 1), np.uint8)

    def go_on(**arguments):
        watch = callbacks.Trajectory(path, every_steps=1, **arguments)
        model.fit(images, **(options | {"callbacks": [watch]}))

    with pytest.raises(ValueError, match="another seed"):
        go_on(seed=1)
    model.network.layers[-1].trainable = False
    model.compile("sgd")
    with pytest.raises(ValueError, match="other layers that are trained. Give another file"):
        go_on()
    model.network.layers[-1].trainable = True
    model.compile("sgd")
    go_on()
    with np.load(path) as file:
        assert len(file["step"]) == 7 and set(file["seed"]) == {0}


def test_sketch_is_linear_and_keeps_lengths(trained):
    model, keep, path, _ = trained
    with np.load(path, allow_pickle=False) as file:
        assert list(file["step"]) == [2, 4, 6, 8, 10]
        sketch = {name: file[f"sketch_{name}"] for name in model.weight_sets}
        blocks = list(file["blocks"])
        by_block = file["block_distance_ema_0.9"]
    assert sketch["raw"].shape == (5, 256) and by_block.shape == (5, len(blocks))
    steps = [weights for weights, _ in keep.steps]
    apart = np.linalg.norm(sketch["raw"][-1] - sketch["raw"][0])
    true = np.linalg.norm(steps[9]["raw"] - steps[1]["raw"])
    assert 0.7 < apart / true < 1.3
    total = np.sqrt((by_block[-1] ** 2).sum())
    np.testing.assert_allclose(
        total, np.linalg.norm(steps[9]["raw"] - steps[9]["ema_0.9"]), rtol=1e-5
    )


def test_continues_where_training_does(trained, digits):
    model, _, path, options = trained
    fresh = callbacks.Trajectory(path, every_steps=2)
    model.train_counter.assign(6)  # as if the checkpoint of step 6 had been restored
    model.fit(digits.train[:64], **(options | {"callbacks": [fresh]}))
    with np.load(path, allow_pickle=False) as file:
        assert list(file["step"]) == [2, 4, 6, 8, 10]
