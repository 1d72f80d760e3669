"""Memory maps in `fit` and `evaluate`: the batches of arrays, to the bit, and never all of them."""

import keras
import numpy as np
import pytest
from networks import small_network
from refusals import assert_refused

from ddpm_keras import DDPM, data, errors
from ddpm_keras.inputs import mapped


def images(count=21):
    return np.random.RandomState(0).randint(0, 256, (count, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """(arrays, their memory maps in a prepared file), of a part to train on and one held out."""
    folder = tmp_path_factory.mktemp("mapped")
    np.savez(folder / "x.npz", x_train=images(), x_test=images(9))
    prepared = data.load(folder / "x.npz", cache=folder / "cache")
    return (images(), images(9)), (prepared.train, prepared.held_out)


WAYS = {
    "shuffled": {"epochs": 2},
    "in order": {"shuffle": False, "steps_per_epoch": 2, "batch_size": 6},
    "validation_split": {"validation_split": 0.4},
    "weights": {"sample_weight": np.linspace(0, 1, 21, dtype=np.float32)},
}


def trained(parts, way):
    """(weights, losses) after a training on these parts."""
    keras.utils.set_random_seed(3)
    model = DDPM(small_network(), timesteps=10, ema=0.5, seed=1)
    model.compile(keras.optimizers.SGD(0.1))
    settings = {"batch_size": 8, "verbose": 0} | way
    if "validation_split" not in way:
        settings["validation_data"] = (parts[1],)
    history = model.fit(parts[0], **settings).history
    return model.get_weights(), history | {"after": model.evaluate(parts[1], verbose=0)}


@pytest.mark.parametrize("way", WAYS)
def test_fit_on_a_memory_map_is_fit_on_its_array(parts, way):
    (weights, losses), (mapped_weights, mapped_losses) = (
        trained(each, WAYS[way]) for each in parts
    )
    for one, other in zip(weights, mapped_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert losses == mapped_losses


def test_all_of_a_memory_map_is_never_read(parts, monkeypatch):
    read, rows = [], []

    def reader(array):
        read.append(array)
        return lambda index: rows.append(index.shape) or array[:0]

    monkeypatch.setattr(mapped, "reader", reader)
    monkeypatch.setattr(mapped, "ArrayDataAdapter", lambda numbers, *_, **__: Numbers())
    given = {"x": parts[1][0], "y": None, "sample_weight": None, "validation_split": 0.5}
    mapped.stream_fit(given)
    assert [len(array) for array in read] == [10, 11]
    assert given["shuffle"] is False and isinstance(given["x"], Numbers)


class Numbers:
    """Stands for a data set of row numbers."""

    num_batches = 1

    def get_tf_dataset(self):
        return self

    def apply(self, function):
        return self

    def map(self, function, **_):
        return self

    def prefetch(self, count):
        return self


def test_a_damaged_image_ends_training_in_one_line(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=images(), x_test=images(9))
    prepared = data.load(tmp_path / "x.npz", cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"x_train.npy") + 400] ^= 1
    path.write_bytes(content)
    model = DDPM(small_network(), timesteps=10, ema=None)
    model.compile("sgd")
    words = ["is damaged: remove that file", str(path)]
    assert_refused(
        lambda: model.fit(prepared.train, batch_size=8, verbose=0), words, errors.UsageError
    )
