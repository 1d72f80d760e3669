"""The weight sets of a run that are evaluated, and the images drawn with each."""

import functools
import hashlib

import numpy as np

from .. import quality, samplers
from ..errors import UsageError
from . import devices, progress


def chosen_weights(run, model, options):
    """The weight sets to evaluate: those of the model, and those synthesised afterwards."""
    from ..ema import posthoc

    try:
        names = [model.resolve(name) for name in options.weights] or list(model.weight_sets)
        chosen = {name: name for name in names}
        synthesised = [{"sigma_rel": value} for value in options.sigma_rel]
        synthesised += [{"decay": value} for value in options.decay]
        for profile in synthesised:
            weights = posthoc.synthesize(run.path, **profile)
            if weights.name in chosen:
                raise ValueError(f"Two weight sets are called {weights.name}; name one of them.")
            chosen[weights.name] = weights
        for weights in chosen.values():
            model.check_finite(weights)  # before anything is computed or kept
    except ValueError as error:
        raise UsageError(str(error)) from error
    return chosen


class Drawing:
    """Draws the images of each weight set in the same way.

    Args:
        model: a `DDPM`.
        trained: the run's `TrainOptions`, whose sampler and number of images are the defaults.
        options: an `EvaluateOptions`.

    Attributes:
        settings: what the record says of how the images were drawn.
    """

    def __init__(self, model, trained, options):
        self.model, self.options = model, options
        self.num_images = options.num_images or trained.num_images
        name = options.sampler or trained.sampler
        steps = options.steps or trained.sampling_steps
        self.sampler = samplers.get(name, steps=min(steps, model.schedule.timesteps))
        self.settings = {
            "sampler": repr(self.sampler),
            "seed": options.seed,
            "guidance": options.guidance,
            "dtype": devices.computes_in(model.network),
        }

    def features(self, extractor, weights, folder):
        """Features of the images drawn with a weight set, (num_images, dim)."""
        folder.mkdir(parents=True, exist_ok=True)
        name = weights if isinstance(weights, str) else weights.name

        source = functools.partial(self.images, weights)
        identity = self.settings | {"weights": checksum(self.model.weight_values(weights))}
        with progress.counted(f"sampling {name}", self.num_images) as bar:
            return quality.extract_features(
                extractor, source, self.num_images, folder / f"{name}.npy", bar, identity
            )

    def images(self, weights, start, stop):
        """Images number `start` to `stop` - 1 of a weight set, uint8."""
        return self.model.sample(
            stop - start,
            weights=weights,
            sampler=self.sampler,
            seed=self.options.seed,
            batch_size=self.options.batch_size,
            guidance_scale=self.options.guidance,
            start=start,
        )


def checksum(values):
    """SHA-256 of a weight set, so that features of other weights are never taken for its own."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value))
    return digest.hexdigest()
