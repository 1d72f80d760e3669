"""The images drawn with each weight set that is evaluated."""

import functools
import hashlib

import numpy as np

from .. import quality
from . import devices, named
from .stored import called


class Drawing:
    """Draws the images of each weight set in the same way.

    Args:
        model: a `DDPM`.
        trained: the run's `TrainOptions`, whose sampler and number of images are the defaults.
        options: an `EvaluateOptions` with one strength of guidance.
        guide: the weight set to guide by, or None.

    Attributes:
        settings: what the record says of how the images were drawn.
    """

    def __init__(self, model, trained, options, guide=None):
        self.model, self.options, self.guide = model, options, guide
        (self.guidance,) = options.guidance
        self.num_images = options.num_images or trained.num_images
        name = options.sampler or trained.sampler
        steps = options.steps or trained.sampling_steps
        steps = min(steps, model.schedule.timesteps)
        self.sampler = named.sampler(name, model.schedule, steps=steps)
        guided = self.guidance != 1
        self.rescale = options.guidance_rescale if guided else 0
        self.interval = options.guidance_interval if guided else ()
        low, high = self.interval or (None, None)
        self.settings = {
            "sampler": repr(self.sampler),
            "seed": options.seed,
            "guidance": self.guidance,
            "guide": guide and called(guide),
            "guidance_rescale": self.rescale or None,
            "guidance_low": low,
            "guidance_high": high,
            "dtype": devices.computes_in(model.network),
        }

    def features(self, extractor, weights, folder, progress=None):
        """Features of the images drawn with a weight set, (num_images, dim).

        Args:
            extractor: a `quality.FeatureExtractor`.
            weights: a name of the model's, or a `WeightSet`.
            folder: where they are kept, and gone on from if interrupted.
            progress: None, or a function called as `progress(done, total)`.
        """
        folder.mkdir(parents=True, exist_ok=True)

        source = functools.partial(self.images, weights)
        identity = self.settings | {"weights": checksum(self.model.weight_values(weights))}
        if self.guide is not None:
            identity["guide"] = checksum(self.model.weight_values(self.guide))
        path = folder / f"{called(weights)}.npy"
        return quality.extract_features(
            extractor, source, self.num_images, path, progress, identity
        )

    def images(self, weights, start, stop):
        """Images number `start` to `stop` - 1 of a weight set, uint8."""
        return self.model.sample(
            stop - start,
            weights=weights,
            sampler=self.sampler,
            seed=self.options.seed,
            batch_size=self.options.batch_size,
            guidance_scale=self.guidance,
            guide=self.guide,
            guidance_rescale=self.rescale or None,
            guidance_interval=self.interval or None,
            start=start,
        )


def checksum(values):
    """SHA-256 of a weight set, so that features of other weights are never taken for its own."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value))
    return digest.hexdigest()
