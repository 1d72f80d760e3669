"""The images drawn with each weight set that is evaluated."""

import functools
import hashlib

import numpy as np

from .. import names, quality
from ..quality.features import CHUNK
from ..sampling import Chosen
from . import devices, modes, named, workers
from .options import SampleOptions
from .stages import Stages
from .stored import called


class Drawing:
    """Draws the images of each weight set in the same way.

    Args:
        model: a `DDPM`.
        trained: the run's `TrainOptions`, whose sampler and number of images are the defaults.
        options: an `EvaluateOptions` with one strength of guidance.
        guide: the weight set to guide by, or None.
        crew: the `workers.Crew` of the processes that draw.
        stages: the `Stages` that it counts for.

    Attributes:
        settings: what the record says of how the images were drawn.
    """

    def __init__(self, model, trained, options, guide, crew, stages=None):
        self.stages = stages or Stages()
        self.model, self.options, self.guide, self.crew = model, options, guide, crew
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
        chunk = CHUNK * self.crew.count  # a part for each
        return quality.extract_features(
            extractor, source, self.num_images, path, progress, identity, chunk
        )

    def images(self, weights, start, stop):
        """Images number `start` to `stop` - 1 of a weight set, uint8; all processes draw them."""
        how = {"seed": self.options.seed, "guidance": self.guidance}
        with self.stages("sampling"):
            self.crew.ask(how | {"weights": called(weights), "start": start, "stop": stop})
            return self.share(weights, start, stop)

    def share(self, weights, start, stop):
        """The part of this process in `images`, which gives all of them in the chief."""
        size = self.options.batch_size
        return self.crew.draw(functools.partial(self._drawn, weights), stop - start, start, size)

    def chosen(self, weights, indices):
        """Images of these numbers, ints (N,), of a weight set, uint8; this process draws them."""
        with self.stages("sampling"):
            drawing = Chosen(self.model, indices, weights=weights, **self._how)
            return drawing.images(drawing.noise)

    def _drawn(self, weights, count, start):
        return self.model.sample(count, weights=weights, start=start, **self._how)

    @property
    def _how(self):
        return {
            "sampler": self.sampler,
            "seed": self.options.seed,
            "batch_size": self.options.batch_size,
            "guidance_scale": self.guidance,
            "guide": self.guide,
            "guidance_rescale": self.rescale or None,
            "guidance_interval": self.interval or None,
        }


def asked(options, trained):
    """Options of sample.py that draw as an evaluation does, but for guidance: dict name -> text.

    Args:
        options: an `EvaluateOptions`.
        trained: the run's `TrainOptions`; what sample.py does of itself is left out.
    """
    how = {
        "sampler": options.sampler or trained.sampler,
        "steps": min(options.steps or trained.sampling_steps, trained.timesteps),
        "precision": options.precision,
    }
    usual = {
        "sampler": SampleOptions().sampler,
        "steps": min(modes.USUAL_STEPS, trained.timesteps),
        "precision": "",
    }
    return {name: str(value) for name, value in how.items() if value != usual[name]}


def agree(crew, options, model):
    """Refuses workers that would draw by other options, or with other weights.

    Args:
        crew: a `workers.Crew`.
        options: what they were told: `SampleOptions` or `EvaluateOptions`.
        model: what they draw with.

    Raises:
        UsageError: in one line that names what differs.
    """
    if crew.count > 1:
        weights = {"the checksum of the weights": checksum(model.weight_values(names.RAW))}
        crew.agree(workers.told(options) | weights)


def checksum(values):
    """SHA-256 of a weight set, so that features of other weights are never taken for its own."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value))
    return digest.hexdigest()
