"""Where the weights go: distances between raw and averaged weights, and a sketch of their path."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from .. import checksums, files, names
from ..aliases import PathLike
from ..ema.groups import tf_variable
from ..reading import npz
from ..scalars import count, whole
from .clock import is_due
from .needs import OfModel

SKETCH = 256  # numbers a weight set
_OF_BLOCKS = ("distance", "cosine")


class Trajectory(OfModel):
    """Records the path of raw and averaged weights without storing them.

    Every so many steps it adds to the logs, for each average, `distance_ema_0.999` (Euclidean, raw
    to average, over all trainable weights), `relative_distance_...` (divided by the norm of the raw
    weights) and `cosine_...`, and `step_length`, the length of the way from the last record.

    A file holds, for each record, a sketch of every weight set: each weight is given a random sign
    and added to one of 256 sums, in turn. The squared distance between two sketches is on average
    that between the weights; its root is off by about 4% where the distance is spread evenly over
    the sums (a standard deviation of sqrt(2/256) of the square), so that the path can be drawn.
    `step_length` is such an estimate; the other numbers are exact. The signs take a byte a weight.

    Args:
        path: the .npz file: `step` and `seed` (R,); for each weight set `sketch_<name>` (R, 256);
            `blocks` (B,), names of the network's layers, and for each average
            `block_distance_<name>` and `block_cosine_<name>` (R, B). Records after the step that
            training goes on from are dropped; those of another seed, other averages or other
            trained layers are refused.
        every_steps: optimizer steps between records, which are made when training has reached or
            passed a multiple of it.
        seed: of the random signs; the same for all runs, so that their sketches can be compared.

    Reference:
        Charikar, Chen, Farach-Colton 2002, "Finding frequent items in data streams" (there each
        weight is added to a random sum; in turn costs less).
    """

    def __init__(self, path: PathLike, every_steps: int = 10, seed: int = 0):
        super().__init__()
        self.path = files.a_path(path, "path")
        if self.path.suffix != ".npz":  # which NumPy would add
            raise ValueError(f"path is the .npz file to write; got {str(path)!r:.80}.")
        self.every_steps = count(every_steps, "every_steps")
        self.seed = whole(seed, "seed", 0)
        self.records, self.is_written = None, False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.step = self.model.steps_made
        self.measure = tf.function(self._measure, autograph=False)
        trainable = {id(weight) for weight in self.model.network.trainable_weights}
        self.blocks = {}  # name of a layer -> places of its weights
        for i, weight in enumerate(self.model.network.weights):
            if id(weight) in trainable:
                self.blocks.setdefault(weight.path.split("/")[0], []).append(i)
        self.signs = list(map(self._random_signs, self.blocks.values()))
        if self.records is None:
            self.records = self._read()
        self.records = [record for record in self.records if record["step"] <= self.step]
        if self.records and not self._goes_on(self.records[-1]):
            raise ValueError(
                f"{self.path} holds the path of other weights: of another seed, other averages or "
                "other layers that are trained. Give another file."
            )

    def _goes_on(self, record):
        """Whether what is recorded now can be put beside an earlier record."""
        raw, *averages = self.model.weight_sets
        blocks = [names.column(f"block_{what}", n) for what in _OF_BLOCKS for n in averages]
        sketches = [names.column("sketch", name) for name in (raw, *averages)]
        return (
            record.keys() | {"seed"} == {"step", "seed", *sketches, *blocks}
            and record.get("seed", self.seed) == self.seed
            and all(len(record[name]) == len(self.blocks) for name in blocks)
        )

    def _random_signs(self, positions):
        """-1 or 1 for each weight of a block, int8 (n,); an eager tensor, kept out of the graph."""
        size = sum(int(np.prod(self.model.network.weights[i].shape)) for i in positions)
        random = np.random.default_rng((self.seed, positions[0]))
        return tf.constant(2 * random.integers(0, 2, size, np.int8) - 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        before, self.step = self.step, self.model.steps_made
        if is_due(before, self.step, self.every_steps):
            self._record(logs)
        if batch + 1 == self.params.get("steps"):
            self.flush()

    def _record(self, logs):
        weight_sets = self.model.weight_sets
        sketches, squares, distances = (array.numpy() for array in self.measure())
        squares, distances = squares.astype(np.float64), distances.astype(np.float64)
        if self.records:
            before = self.records[-1][names.column("sketch", names.RAW)]
            logs["step_length"] = float(np.linalg.norm(sketches[0] - before))
        record = {"step": self.step, "seed": self.seed}
        for name, sketch in zip(weight_sets, sketches, strict=True):
            record[names.column("sketch", name)] = sketch
        for k, name in enumerate(weight_sets[1:], 1):
            cosine = _cosine(squares[0], squares[k], distances[k])
            record[names.column("block_distance", name)] = np.sqrt(distances[k])
            record[names.column("block_cosine", name)] = cosine
            raw, own, apart = squares[0].sum(), squares[k].sum(), distances[k].sum()
            logs[names.column("distance", name)] = float(np.sqrt(apart))
            logs[names.column("relative_distance", name)] = float(np.sqrt(apart / raw))
            logs[names.column("cosine", name)] = float(_cosine(raw, own, apart))
        self.records.append(record)
        self.is_written = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.flush()

    def flush(self) -> None:
        """Writes all records so far; done after the last step of each epoch."""
        if self.records and not self.is_written:
            self.is_written = True
            arrays = {key: np.stack([r[key] for r in self.records]) for key in self.records[0]}
            with files.atomic_path(self.path) as temporary:
                np.savez(temporary, blocks=np.array(list(self.blocks)), **arrays)

    def _measure(self):
        """Sketches (S, 256); squared norms and squared distances from raw, both (S, B), float32."""
        sets = [self.model.weight_values(name) for name in self.model.weight_sets]
        sketches, squares, distances = 0.0, [], []
        for positions, signs in zip(self.blocks.values(), self.signs, strict=True):
            rows = tf.stack([_joined(values, positions) for values in sets])
            signed = rows * tf.cast(signs, tf.float32)
            padded = tf.pad(signed, [[0, 0], [0, -signs.shape[0] % SKETCH]])
            sketches += tf.reduce_sum(tf.reshape(padded, [len(sets), -1, SKETCH]), axis=1)
            squares.append(tf.reduce_sum(tf.square(rows), axis=1))
            distances.append(tf.reduce_sum(tf.square(rows - rows[0]), axis=1))
        return sketches, tf.stack(squares, axis=1), tf.stack(distances, axis=1)

    def _read(self):
        """The records of an earlier part of the run; a damaged file of them is set aside."""
        if not os.path.exists(self.path):
            return []
        reason = checksums.damage(self.path)
        if reason:
            files.set_aside(self.path, reason)
            return []
        arrays = npz.read(self.path, "blocks".__ne__)
        return [
            {key: array[r] for key, array in arrays.items()} for r in range(len(arrays["step"]))
        ]


def _cosine(first, second, apart):
    """Cosine of the angle between two vectors, from their squared norms and squared distance."""
    return (first + second - apart) / np.sqrt(np.maximum(4.0 * first * second, 1e-60))


def _joined(values, positions):
    """The weights at these places end to end, float32 (n,)."""
    parts = [tf.convert_to_tensor(tf_variable(values[i])) for i in positions]
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], axis=0)
