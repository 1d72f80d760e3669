"""Where the weights go: distances between raw and averaged weights, and a sketch of their path."""

import os

import keras
import numpy as np
import tensorflow as tf

from .. import files
from ..ema.averages import tf_variable

SKETCH = 256  # numbers a weight set


class Trajectory(keras.callbacks.Callback):
    """Records the path of raw and averaged weights without storing them.

    Every `every` steps it adds to the logs, for each average, `distance_ema_0.999` (Euclidean, raw
    to average, over all trainable weights), `relative_distance_...` (divided by the norm of the raw
    weights) and `cosine_...`, and `step_length`, the length of the way from the last record.

    A file holds, for each record, a sketch of every weight set: each weight is added, with a random
    sign, to one of 256 random sums (the "count sketch"). Distances between sketches equal those
    between the weights up to about 9% (one standard deviation, sqrt(2/256)), so that the path can
    be drawn. `step_length` is such an estimate; the other numbers are exact.

    Args:
        path: the .npz file: `step` (R,); for each weight set `sketch_<name>` (R, 256); `blocks`
            (B,), names of the network's layers, and for each average `block_distance_<name>` and
            `block_cosine_<name>` (R, B). Records after the step that training goes on from are
            dropped.
        every: optimizer steps between records.
        seed: of the random sums; the same for all runs, so that their sketches can be compared.

    Reference:
        Charikar, Chen, Farach-Colton 2002, "Finding frequent items in data streams".
    """

    def __init__(self, path, every=10, seed=0):
        super().__init__()
        self.path = path
        self.every = every
        self.seed = seed
        self.records = None

    def on_train_begin(self, logs=None):
        self.step = int(self.model.train_counter.numpy())
        self.measure = tf.function(self._measure)
        trainable = {id(weight) for weight in self.model.network.trainable_weights}
        weights = self.model.network.weights
        self.positions = [i for i, weight in enumerate(weights) if id(weight) in trainable]
        layers = [weights[i].path.split("/")[0] for i in self.positions]
        self.blocks = list(dict.fromkeys(layers))
        self.block_of = [self.blocks.index(layer) for layer in layers]
        if self.records is None:
            self.records = self._read()
        self.records = [record for record in self.records if record["step"] <= self.step]

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.every:
            return
        names = self.model.weight_sets
        sketches, squares, distances = self._measured(names)
        if self.records:
            logs["step_length"] = float(
                np.linalg.norm(sketches[0] - self.records[-1]["sketch_raw"])
            )
        record = {"step": self.step}
        record |= {f"sketch_{name}": sketch for name, sketch in zip(names, sketches, strict=True)}
        for k, name in enumerate(names[1:], 1):
            record[f"block_distance_{name}"] = np.sqrt(distances[k])
            record[f"block_cosine_{name}"] = _cosine(squares[0], squares[k], distances[k])
            raw, own, apart = squares[0].sum(), squares[k].sum(), distances[k].sum()
            logs[f"distance_{name}"] = float(np.sqrt(apart))
            logs[f"relative_distance_{name}"] = float(np.sqrt(apart / raw))
            logs[f"cosine_{name}"] = float(_cosine(raw, own, apart))
        self.records.append(record)

    def on_epoch_end(self, epoch, logs=None):
        if self.records:
            arrays = {key: np.stack([r[key] for r in self.records]) for key in self.records[0]}
            with files.atomic_path(self.path) as temporary:
                np.savez(temporary, blocks=np.array(self.blocks), **arrays)

    def _measured(self, names):
        """Sketches (S, 256); squared norms and squared distances from raw, both (S, B), float64."""
        values = []
        for name in names:
            weights = self.model.weight_values(name)
            values.append([tf.convert_to_tensor(tf_variable(weights[i])) for i in self.positions])
        sketches, squares, distances = (np.asarray(array) for array in self.measure(values))
        return sketches, squares.astype(np.float64), distances.astype(np.float64)

    def _measure(self, values):
        """The same in the graph, float32, from a list of weight sets, each a list of tensors."""
        sketches = [tf.zeros(SKETCH) for _ in values]
        squares = [[0.0] * len(self.blocks) for _ in values]
        distances = [[0.0] * len(self.blocks) for _ in values]
        for i, block in enumerate(self.block_of):
            size = values[0][i].shape.num_elements()
            draw = tf.random.stateless_uniform([size], (self.seed, i), 0, 2 * SKETCH, tf.int32)
            bucket, sign = draw // 2, tf.cast(2 * (draw % 2) - 1, tf.float32)
            for k, weights in enumerate(values):
                flat = tf.reshape(weights[i], [-1])
                sketches[k] += tf.math.unsorted_segment_sum(sign * flat, bucket, SKETCH)
                squares[k][block] += tf.reduce_sum(tf.square(flat))
                apart = weights[i] - values[0][i]
                distances[k][block] += tf.reduce_sum(tf.square(apart))
        return tf.stack(sketches), tf.stack(squares), tf.stack(distances)

    def _read(self):
        """The records of an earlier part of the run."""
        if not os.path.exists(self.path):
            return []
        with np.load(self.path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key != "blocks"}
        return [
            {key: array[r] for key, array in arrays.items()} for r in range(len(arrays["step"]))
        ]


def _cosine(first, second, apart):
    """Cosine of the angle between two vectors, from their squared norms and squared distance."""
    return (first + second - apart) / np.sqrt(np.maximum(4.0 * first * second, 1e-60))
