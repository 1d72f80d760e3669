"""Images and labels in whatever `fit` takes, and a model traced in a moment."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import DDPM

N, BATCH, CLASSES = 12, 4, 3
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)
FLOATS = BYTES / np.float32(127.5) - 1
LABELS = np.arange(N) % CLASSES


def spoilt(images, value, image=9):
    images = images.copy()
    images[image, 2, 3, 0] = value
    return images


NAN = spoilt(FLOATS, np.nan)


def plain(conditional=False, channels=1):
    """A network of one convolution, traced in a moment."""
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    h = keras.layers.Conv2D(channels, 3, padding="same")(x)
    if not conditional:
        return keras.Model([x, t], h)
    label = keras.Input((), dtype="int32")
    network = keras.Model([x, t, label], h + keras.layers.Embedding(4, 1)(label)[:, None, None, :])
    network.num_classes = CLASSES
    return network


def compiled(network, compile_options=None, **options):
    model = DDPM(network, **({"ema": (0.5, 0.9)} | options))
    model.compile(keras.optimizers.SGD(1e-3), **(compile_options or {}))
    return model


def state(model):
    return [np.array(v) for v in model.variables if "seed_generator" not in v.path]


def dataset(*parts):
    parts = parts[0] if len(parts) == 1 else parts
    return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)


def batches(*parts):
    for start in range(0, N, BATCH):
        batch = tuple(part[start : start + BATCH] for part in parts)
        yield batch[0] if len(batch) == 1 else batch


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, form=lambda batch: batch):
        super().__init__()
        self.batches, self.form = list(batches(*parts)), form

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.form(self.batches[index])


class Rows:
    """A data set of PyTorch."""

    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, index):
        row = tuple(part[index] for part in self.parts)
        return row[0] if len(row) == 1 else row


def loader(*parts):
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    return data.DataLoader(Rows(*parts), batch_size=BATCH)


def distributed(*parts):
    return tf.distribute.get_strategy().experimental_distribute_dataset(dataset(*parts))


STREAMS = {
    "dataset": dataset,
    "PyDataset": Batches,
    "generator": batches,
    "iterator": lambda *parts: iter(list(batches(*parts))),
    "DataLoader": loader,
    "distributed": distributed,
}


# What is refused, with nothing changed: name -> (call on a model, words of the line).


def fit(x, y=None, **options):
    return lambda m: m.fit(x, y, verbose=0, **({"batch_size": None} | options))


def streamed(x, *parts, **options):
    return lambda m: m.fit(dataset(x, *parts), shuffle=False, verbose=0, **options)


def from_specs(spec, *elements):
    return tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=spec)


ANY_SIZE = tf.TensorSpec((None, None, None, 1), tf.uint8)


def one_hot(labels):
    return np.eye(CLASSES, dtype="float32")[labels]
