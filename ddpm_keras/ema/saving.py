"""Averages as they are saved and loaded, whole or in part."""

import warnings

import numpy as np

from .groups import fingerprint, join, label, tf_variable
from .stored import StoredAverages
from .variables import AverageVariables


class SavedAverages(AverageVariables):
    """`AverageVariables` that Keras saves, and loads as far as they fit."""

    def save_own_variables(self, store):
        if not self.built:
            return
        self.settle()
        StoredAverages(
            keys=list(self._keys),
            rules=list(self._rules),
            steps=self.num_updates,
            starts=self._starts.numpy().tolist(),
            positions=[group.positions for group in self._groups],
            shapes=[group.shapes for group in self._groups],
            averages=[[each.averages[i].numpy() for each in self._groups] for i in self._range],
            windows={
                i: [each.windows[i].numpy() for each in self._groups]
                for i in self._range
                if self._rules[i].slots
            },
            count=len(self._sources),
            paths=[label(v) for v in self._sources],
            average_statistics=self.average_statistics,
            of_weights=fingerprint([self._sources[i] for i in self.averaged_positions]),
        ).write(store)

    def load_own_variables(self, store):
        stored = StoredAverages.read(store)
        if stored is None:
            return self._load_nothing()
        if not self.built:
            return _say_not_built(stored)
        if self._is_part:
            return self._load_part(stored.at([label(v) for v in self._sources]))
        self._check_fit(stored)
        self._take_over(stored)

    def _load_part(self, stored):
        """Of a model, whose other parts may be loaded later, or not at all (`skip_mismatch`)."""
        try:
            self._check_fit(stored)
        except ValueError:
            self._load_nothing("The averages of the file are those of other weights")
            raise
        self._take_over(stored)
        positions, expected = self._loaded
        whole = self.loaded_with_weights() or sorted(positions) != list(self.averaged_positions)
        self._claim(0 if whole else expected)

    def _load_nothing(self, why="The file holds no averages"):
        if self.num_updates:  # an average without updates follows the weights by itself
            self._set_counters(0, 0)
            self._claim(0)
            warnings.warn(f"{why}: {', '.join(self._keys)} start anew.", stacklevel=3)
        self._loaded = ((), 0)

    def _check_fit(self, stored):
        if stored.average_statistics and not self.average_statistics:
            raise ValueError(
                "The file's averages are of statistics as well, which these would go on with: make "
                "the EMA with average_statistics=True."
            )
        if not stored.fits(len(self._sources)):
            count = stored.count or max(stored.shape_at) + 1
            raise ValueError(
                f"The file holds averages of {count} weights, and this network has "
                f"{len(self._sources)}: load it into a network built the same way."
            )
        for i, shape in stored.shape_at.items():
            weight = self._sources[i]
            if tuple(weight.shape) != shape:
                raise ValueError(
                    f"The file's average of {label(weight)} has shape {shape}, the weight "
                    f"{tuple(weight.shape)}: load it into a network built the same way."
                )

    def _take_over(self, stored):
        # A layer that was frozen since the file was written keeps its average.
        self._add_averages(stored.shape_at)
        kept = {i: stored.match(self._keys[i], self._rules[i]) for i in self._range}
        kept = {i: j for i, j in kept.items() if j is not None}
        pending = {(i, p) for i in self._range if i not in kept for p in self.averaged_positions}
        for i, j in kept.items():
            pending |= self._load_average(i, stored.average(j))
            if self._rules[i].slots:
                self._load_window(i, stored.window(j))
        self._set_counters(
            stored.steps,
            [stored.starts[kept[i]] if i in kept else stored.steps for i in self._range],
        )
        # Before the next use, since the weights themselves may be loaded after this.
        self._pending, self._pending_at = pending, stored.steps
        self._loaded = (tuple(sorted(stored.shape_at)), stored.of_weights)
        told = stored.told(self._keys, self._rules, kept)
        if told:
            warnings.warn(told, stacklevel=3)

    def _load_average(self, rule, values):
        """Takes over an average, position -> array; returns what of it starts anew."""
        for group in self._groups:
            pairs = zip(group.positions, group.weights, strict=True)
            parts = [values.get(i, tf_variable(weight)) for i, weight in pairs]
            group.averages[rule].assign(join(parts))
        # Those that were frozen when the file was written had not moved.
        return {(rule, i) for i in self.averaged_positions if i not in values}

    def _load_window(self, rule, values):
        """Takes over the past weights of an average; those that are missing are filled in later."""
        for group in self._groups:
            window = group.windows[rule]
            parts = [
                values.get(i, np.zeros((window.shape[0], *shape), np.float32))
                for i, shape in zip(group.positions, group.shapes, strict=True)
            ]
            window.assign(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1))

    def begin_loading(self):
        """Forgets what was loaded before: `loaded_with_weights` will speak of what comes."""
        self._loaded = None

    def loaded_with_weights(self):
        """Whether all weights that the loaded averages were made of were loaded with them.

        A file of before version 0.2 does not tell, and is believed. None: no averages were loaded.
        """
        if self._loaded is None:
            return None
        positions, expected = self._loaded
        return expected in (None, fingerprint([self._sources[i] for i in positions]))


def _say_not_built(stored):
    warnings.warn(
        f"The averages of the file, after {stored.steps:,} steps, are left in it: call "
        "ema.build(model.weights), or build(model.trainable_variables) of the optimizer that keeps "
        "them, before the file is loaded.",
        stacklevel=3,
    )
