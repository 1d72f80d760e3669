"""Averages as a file holds them, beside a record of their rules, counters and weights."""

import dataclasses
import json
import math
import warnings
import zlib

import keras
import numpy as np

from ..reading import bounds, keras_file
from .decays import as_decay
from .groups import is_same_path


@dataclasses.dataclass
class StoredAverages:
    """Averages of a file.

    Attributes:
        keys: Their names.
        rules: Their decays.
        steps: True optimizer steps that have been counted.
        starts: At which of them each average began.
        positions: Places of the weights of each group among the variables of `EMA.build`.
        shapes: Their shapes.
        averages: One flat float32 array for each average (first index) and group (second).
        windows: Of each average that has one, by its index, for each group the past weights that it
            is the mean of, float32 (slots, size).
        count: How many variables `EMA.build` was given; None in files that do not say so.
        of_weights: `fingerprint` of those that are averaged; None in files that do not say so.
        paths: What those variables are called; None in files that do not say so.
        average_statistics: As of `EMA`; None in files that do not say so.
        crc32: Of the arrays as they were written; None in files that do not say so.
    """

    keys: list
    rules: list
    steps: int
    starts: list
    positions: list
    shapes: list
    averages: list
    windows: dict
    count: int | None = None
    of_weights: int | None = None
    paths: list | None = None
    average_statistics: bool | None = None
    crc32: int | None = None

    def write(self, store):
        """Writes them to what Keras gives `save_own_variables`."""
        record = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del record["averages"], record["windows"]
        record["crc32"] = self._checksum()
        record["rules"] = [keras.saving.serialize_keras_object(rule) for rule in self.rules]
        store["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
        for rule, groups in enumerate(self.averages):
            for number, values in enumerate(groups):
                store[f"{rule}_{number}"] = values
        for rule, groups in self.windows.items():
            for number, values in enumerate(groups):
                store[f"{rule}_{number}_window"] = values

    @classmethod
    def read(cls, store):
        """Reads them from what Keras gives `load_own_variables`; None if there are none.

        Raises:
            ValueError: they are damaged.
        """
        if "record" not in store.keys():
            return None
        text = np.asarray(store["record"], np.uint8).tobytes()
        bounds.check_text(len(text))
        try:
            record = json.loads(text)
            keras_file.check_objects(record)
            found = cls._of_record(record, store)
            found._check()
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"The averages in the file are damaged ({reason}).") from None
        return found

    @classmethod
    def _of_record(cls, record, store):
        record["rules"] = [as_decay(rule) for rule in record["rules"]]
        record.pop("fingerprint", None)  # a sum that did not see their order
        rules, groups = record["rules"], range(len(record["positions"]))

        def arrays(key):
            return [np.asarray(store[key.format(number)]) for number in groups]

        averages = [arrays(f"{i}_{{}}") for i in range(len(rules))]
        windows = {i: arrays(f"{i}_{{}}_window") for i, rule in enumerate(rules) if rule.slots}
        return cls(**record, averages=averages, windows=windows)

    def _checksum(self):
        """CRC-32 of all averages and windows, which HDF5 has none of."""
        groups = (*self.averages, *(self.windows[rule] for rule in sorted(self.windows)))
        crc = 0
        for values in (values for group in groups for values in group):
            crc = zlib.crc32(np.ascontiguousarray(values), crc)
        return crc

    def _check(self):
        """Refuses what does not belong together."""
        if self.crc32 not in (None, self._checksum()):
            raise ValueError("they are not what was written")
        if not len(self.keys) == len(self.rules) == len(self.starts):
            raise ValueError(f"{len(self.keys)} names, {len(self.rules)} rules")
        numbers = [self.steps, *self.starts, *(self.count is not None) * [self.count]]
        if not all(isinstance(each, int) and each >= 0 for each in numbers):
            raise ValueError("a number of steps or weights is none")
        for rule in range(len(self.rules)):
            self.average(rule)
            if rule in self.windows:
                self.window(rule)

    @property
    def shape_at(self):
        """The shapes of the weights that are averaged: position -> tuple."""
        groups = zip(self.positions, self.shapes, strict=True)
        return {i: tuple(shape) for group in groups for i, shape in zip(*group, strict=True)}

    def fits(self, count):
        """Whether they can be averages of this many variables."""
        if self.count is not None:
            return self.count == count
        return max(self.shape_at, default=-1) < count

    def at(self, paths):
        """The same averages at the places of these weights, if only some of them are there.

        Args:
            paths: What the weights are called.

        Returns:
            `StoredAverages` without those of other weights, with a warning that names them.
        """
        if self.paths is None or len(self.paths) == len(paths):
            return self
        place = {}
        for i, stored in enumerate(self.paths):
            found = [j for j, path in enumerate(paths) if is_same_path(stored, path)]
            if len(found) == 1:
                place[i] = found[0]
        kept = [i for i in self.shape_at if i in place]
        lost = [self.paths[i] for i in self.shape_at if i not in place]
        if not kept:
            return self
        if lost:
            warnings.warn(
                f"Left in the file: the averages of {', '.join(lost)}, which are not trained here.",
                stacklevel=4,
            )
        return dataclasses.replace(
            self,
            positions=[[place[i] for i in kept]],
            shapes=[[self.shape_at[i] for i in kept]],
            averages=[self._joined(self.average(rule), kept) for rule in range(len(self.rules))],
            windows={rule: self._joined(self.window(rule), kept) for rule in self.windows},
            count=len(paths),
            of_weights=None,
        )

    def _joined(self, values, positions):
        """The values at these positions as those of one group."""
        rows = [values[i].shape[: values[i].ndim - len(self.shape_at[i])] for i in positions]
        flat = [values[i].reshape(*row, -1) for i, row in zip(positions, rows, strict=True)]
        return [np.concatenate(flat, axis=-1)]

    def average(self, rule):
        """One average as position -> array."""
        return self._split(self.averages[rule])

    def window(self, rule):
        """The past weights of an average as position -> array with a first axis (slots,)."""
        return self._split(self.windows[rule])

    def _split(self, groups):
        values = {}
        for flat, positions, shapes in zip(groups, self.positions, self.shapes, strict=True):
            ends = np.cumsum([math.prod(shape) for shape in shapes])
            parts = np.split(flat, ends[:-1], axis=-1)
            for i, part, shape in zip(positions, parts, shapes, strict=True):
                values[i] = part.reshape(*flat.shape[:-1], *shape)
        return values

    def match(self, key, rule):
        """Which of them goes on as an average: the same rule, best under the same name."""
        candidates = [j for j, stored in enumerate(self.rules) if stored == rule]
        return min(candidates, key=lambda j: self.keys[j] != key, default=None)

    def told(self, keys, rules, kept):
        """What became of the averages, in one line; None if all went on.

        Args:
            keys, rules: Names and decays of those that are kept now.
            kept: Which of them go on: index -> index among the stored ones.
        """
        dropped = [key for j, key in enumerate(self.keys) if j not in kept.values()]
        anew = [i for i in range(len(rules)) if i not in kept]
        if not anew and not dropped:
            return None
        parts = [f"kept {', '.join(keys[i] for i in kept) or 'none'}"]
        for i in anew:
            reason = "is not in the file"
            if keys[i] in self.keys:
                there = self.rules[self.keys.index(keys[i])]
                reason = f"is {there!r} in the file and {rules[i]!r} here"
            parts.append(f"{keys[i]} starts anew from the loaded weights, since it {reason}")
        if dropped:
            parts.append(f"left in the file: {', '.join(dropped)}, which this model does not keep")
        return f"Averages after {self.steps:,} steps: {'; '.join(parts)}."
