"""The quality of the images of every weight set, while training."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from .. import choices, names, samplers
from ..aliases import PathLike
from ..data.rows import is_mapped
from ..inputs import Inputs, as_numpy
from ..quality import FeatureSets, FeatureStatistics, extract_features, get_extractor
from ..quality.frechet import GaussianReference
from ..quality.matrices import check_features
from ..scalars import count, whole
from .clock import is_due
from .needs import OfModel

if TYPE_CHECKING:  # names in annotations alone
    from ..ema.weight_sets import WeightSet
    from ..quality.extractors.base import FeatureExtractor
    from ..samplers.base import Sampler

_SUBSETS = 20  # each of half the images; enough for a curve


class QualityMonitor(OfModel):
    """Measures the images of the raw weights and of each average, drawn from the same noise.

    Adds `quality_raw`, `quality_ema_0.999` ... (Fréchet distance to the real images) and
    `quality_kid_raw` ... (kernel distance, or the numbers of other `metrics`) to the logs of an
    epoch, so callbacks that write logs, such as `HistoryLog` and `keras.callbacks.TensorBoard`, go
    after it in the list. At the end of the first epoch it measures what an evaluation will cost in
    time, and says so; nothing is in the way of the first step. Training is as without it, to the
    bit, and the extractor is in no checkpoint of the model.

    Args:
        extractor: a `quality.FeatureExtractor`, or a name or file as for
            `quality.get_extractor`; or a function without arguments that makes one, called at the
            end of the first epoch.
        real: an array of real images `(N, height, width, channels)`, uint8 or float in the model's
            `image_range`; or of their features `(N, dim)`.
        num_images: images drawn with each weight set, at least 4.
        every_epochs: epochs between evaluations, at least 1.
        sampler: a sampler or its name; DDIM with 50 steps by default.
        seed: of the noise, the same for every weight set and epoch.
        batch_size: images drawn at a time.
        metrics: what is measured besides the Fréchet distance: names in `choices.METRICS`.

    Raises:
        ValueError: if `real` is no such array, or there are too few images.

    Example:

    ```python
    extractor = quality.ClassifierFeatures.train(digits.train, digits.train_labels)
    monitor = callbacks.QualityMonitor(extractor, digits.train, num_images=500, every_epochs=5)
    history = model.fit(digits.train, epochs=20, callbacks=[monitor]).history
    history["quality_ema_0.999"]
    ```
    """

    needs = "sample"

    def __init__(
        self,
        extractor: FeatureExtractor | PathLike | Callable[[], FeatureExtractor],
        real: Any,
        num_images: int = 1000,
        every_epochs: int = 1,
        sampler: Sampler | str | None = None,
        seed: int = 0,
        batch_size: int = 64,
        metrics: Sequence[str] = ("kid",),
    ):
        super().__init__()
        if not hasattr(real, "shape") or len(real.shape) not in (2, 4):
            raise ValueError(
                "real must be an array of images (N, height, width, channels) or of their features "
                f"(N, dim), not a {type(real).__name__} of shape {getattr(real, 'shape', None)}."
            )
        self.num_images = count(num_images, "num_images")
        self.every_epochs = count(every_epochs, "every_epochs")
        self.seed = whole(seed, "seed", 0)
        self.batch_size = min(count(batch_size, "batch_size"), self.num_images)
        if num_images < 4 or len(real) < 4:
            raise ValueError(
                "Quality needs at least 4 generated and 4 real images; got "
                f"num_images={num_images} and {len(real)} real images."
            )
        later = inspect.isroutine(extractor) or isinstance(extractor, functools.partial)
        self._extractor = extractor if later else functools.partial(get_extractor, extractor)
        if not later:
            self.extractor  # noqa: B018 - refuses an unknown one now, not after an epoch
        self.real = check_features(real, "real", min_rows=4) if len(real.shape) == 2 else real
        samplers.get(sampler)  # refuses an unknown one now, not after an epoch
        self.sampler = sampler
        self.metrics = {name: choices.METRICS.find(name) for name in metrics}
        self._reference = None

    @functools.cached_property
    def extractor(self) -> FeatureExtractor:
        """What makes features of images."""
        return self._extractor()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if np.ndim(self.real) == 4:
            self._inputs().check_arrays(self.real)  # refused now, not after an epoch

    def _begin(self):
        """Measures the real images, and says what it will cost to measure the others."""
        if np.ndim(self.real) == 4:
            self.real = extract_features(self.extractor, self._real_images())
        self._reference = GaussianReference(FeatureStatistics.of(self.real))
        epochs = self.params["epochs"]
        seconds = self.seconds_per_evaluation()
        times = epochs // self.every_epochs
        tqdm.write(
            f"{self.extractor.metric}: {len(self.model.weight_sets)} weight sets x "
            f"{self.num_images:,} images every {self.every_epochs} epochs take about "
            f"{_duration(seconds)}, up to {times} times: {_duration(times * seconds)}."
        )

    def _real_images(self):
        """The real images: uint8, or float in [-1, 1]."""
        if is_mapped(self.real) and self.real.dtype == np.uint8:
            return self.real  # which is read batch by batch
        real = as_numpy(self.real)
        if real.dtype == np.uint8:
            return real
        return np.clip(np.array(self._inputs().scaled(real)), -1, 1)

    def _inputs(self):
        return Inputs(image_range=self.model.image_range)  # their size is the extractor's matter

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._reference is None:
            self._begin()
        if not is_due(epoch, epoch + 1, self.every_epochs):
            return
        parts = []
        for name in self.model.weight_sets:
            distance, others = self.measure(name)
            logs[names.column("quality", name)] = distance
            for number, value in others.items():
                logs[names.column(f"quality_{number}", name)] = value
            parts.append(f"{name} {distance:.3f}")
        tqdm.write(
            f"Epoch {epoch + 1}: {self.extractor.metric}, of {self.num_images:,} images: "
            + ", ".join(parts)
        )

    def measure(self, weights: str | WeightSet | None) -> tuple[float, dict[str, float | None]]:
        """`(Fréchet distance, {number: value})` of the images of a weight set to the real ones."""
        features = self.extractor(self._draw(self.num_images, weights, self.sampler))
        sets = FeatureSets(self.real, features, num_subsets=_SUBSETS, seed=self.seed)
        others = {}
        for metric in self.metrics.values():
            values = metric.of(sets)
            others |= {key: values[key] for key in metric.shown if values[key] is not None}
        return self._reference.distance(FeatureStatistics.of(features)), others

    def seconds_per_evaluation(self) -> float:
        """Seconds for all weight sets, from the time that the network takes for one batch."""
        model, schedule = self.model, self.model.schedule
        evaluate = model.traced.losses(np.dtype(np.uint8))  # which validation has traced as well
        blank = np.zeros((self.batch_size, *model.image_shape), np.uint8)
        labels = [] if model.num_classes is None else [tf.zeros(self.batch_size, tf.int32)]
        values, first = model.finite_values(names.RAW), tf.constant(0)
        for _ in range(2):  # the first time traces
            start = time.perf_counter()
            evaluate(values, tf.constant(blank), first, labels).numpy()
            evaluated = time.perf_counter()
            self.extractor(blank)
            end = time.perf_counter()
        steps = len(samplers.get(self.sampler, schedule).timesteps(schedule))
        per_batch = (evaluated - start) * steps + (end - evaluated)
        batches = -(-self.num_images // self.batch_size)
        return len(self.model.weight_sets) * batches * per_batch

    def _draw(self, count, weights, sampler):
        return self.model.sample(
            count, weights=weights, sampler=sampler, seed=self.seed, batch_size=self.batch_size
        )


def _duration(seconds):
    if seconds < 90:
        return f"{max(seconds, 0.1):.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
