"""Evaluation of a run: every weight set, drawn from the same noise, against the real images."""

import dataclasses
import functools
import time

import numpy as np

from .. import checksums, choices, files, likelihood, names, quality
from ..data.words import shown
from ..errors import UsageError
from ..quality import bootstrap, protocol
from ..reading import npz
from . import dataset, drawn, models, nearest, progress, references, stored, versions, workers
from .options import EvaluateOptions
from .stages import Stages


def evaluate_run(run, options=None, command="", model=None, images=None):
    """Draws images with each weight set of a run and measures them against the real ones.

    Every weight set gets the same noise. Interrupted, it goes on from the batches done. The result
    is written to the run's evaluation.json, joined with what was measured in the same way before.

    Args:
        run: a `Run` that has a model.keras.
        options: an `EvaluateOptions`.
        command: the command line, for the record.
        model, images: the run's, where they are in memory already.

    Returns:
        The run's `quality.Evaluations`, the new one among them.
    """
    options = options or EvaluateOptions()
    measuring = Measuring(run, options, command, model, images)
    with measuring.crew.led():
        return measuring.evaluate(options)


def help(stored, trained, options):
    """The part of a worker that is not the chief in `evaluate_run`: it draws what that asks for.

    Args:
        stored: the `StoredWeights` of the run.
        trained: its `TrainOptions`.
        options: the `EvaluateOptions` that the chief has, too.
    """
    crew, find = workers.Crew(stored.model.distribute_strategy), functools.cache(stored.find)
    drawn.agree(crew, options, stored.model)
    guide = stored.guide(options)
    for asked in crew.asked():
        now = dataclasses.replace(options, seed=asked["seed"], guidance=(asked["guidance"],))
        draw = drawn.Drawing(stored.model, trained, now, guide, crew)
        draw.share(find(asked["weights"]), asked["start"], asked["stop"])


class Measuring:
    """A run with all that its weight sets are measured by, each part loaded when it is needed.

    Args:
        run, options, command, model, images: as of `evaluate_run`.

    Attributes:
        run, options, model, images: those.
        crew: the `workers.Crew` of the processes that draw.
        trained: the `TrainOptions` of the run.
        step: the optimizer step that is measured.
        folder: where features and influences go.
        stages: the `Stages` of what was done.
        extractor, real, reference: what makes features, those of the real images by their part, and
            what the distance is measured to.
        drawn_by: what makes features of drawn images, with a `nearest.WithPixels` column.
    """

    def __init__(self, run, options, command="", model=None, images=None):
        run.mend_evaluations()
        self.run, self.options, self.command = run, options, command
        self.trained = run.options
        self.model = model or models.load_to_draw(run, options)
        self.crew = workers.Crew(self.model.distribute_strategy)
        drawn.agree(self.crew, options, self.model)
        self.images = images or dataset.of_run(run, self.trained, options.data_cache)
        self.step = options.step or self.model.steps_made
        self.stored = stored.StoredWeights(run, self.model)
        self.folder = run.features
        self.stages = Stages()

    @functools.cached_property
    def extractor(self):
        with self.stages("extractor"):
            return references.choose_extractor(self.options.extractor, self.images)

    @functools.cached_property
    def drawn_by(self):
        return nearest.WithPixels(self.extractor, self.images)

    @functools.cached_property
    def _pixels_of_held_out(self):
        """The distance of each held-out image to the nearest training image."""
        return quality.nearest(self.images.held_out, self.images.train)[0]

    @functools.cached_property
    def real(self):
        extractor = self.extractor
        with self.stages("real images"):
            return references.real_features(extractor, self.images)

    @functools.cached_property
    def reference(self):
        name, real = self.options.reference, self.real
        found = references.choose_reference(name, real)
        if name not in choices.REFERENCES:  # which does not say what made it
            apart = quality.frechet_distance(found, quality.FeatureStatistics.of(real["train"]))
            print(
                f"The training images are at {apart:.2f} from {shown(name)}; where that is far, "
                "other images or another extractor made it."
            )
        return found

    @functools.cached_property
    def described(self):
        """The `quality.Reference` that `--reference` named, features or statistics."""
        name = self.options.reference
        of_images = name in choices.REFERENCES
        real = self.real["train"], self.real["held_out"]
        return quality.Reference(
            dataset=self.trained.dataset,
            split=name,
            num_images=len(self.reference) if of_images else None,
            num_held_out=len(self.real["held_out"]),
            fingerprint=self.images.fingerprint if of_images else files.sha256(name),
            floor_frechet=quality.frechet_distance(*map(quality.FeatureStatistics.of, real)),
            floor=references.floor(self.extractor, self.images, real, self.num_images),
        )

    def evaluate(self, options):
        """Measures the weight sets that the options name, as `evaluate_run` says.

        Args:
            options: an `EvaluateOptions`, which may differ from `self.options` in what is drawn.
        """
        self.stages.seconds.clear()
        chosen, draw = self.stored.chosen(options), self.drawing(options)
        _ = self.reference  # a file that is none is refused before images are drawn
        features = {name: self._features(draw, weights) for name, weights in chosen.items()}
        bounds = self._bounds(chosen) if options.bits_per_dim else {}
        for name, weights in chosen.items():
            self._show_nearest(draw, name, weights, features[name][:, :-1])
        with self.stages("metrics"):
            evaluation = self.evaluation(draw, features, bounds)
            influences = {
                name: bootstrap.influence(self.reference, rows[:, :-1])
                for name, rows in features.items()
            }
        seconds = {name: round(taken, 2) for name, taken in self.stages.seconds.items()}
        evaluation = dataclasses.replace(evaluation, seconds=seconds)
        known = kept_influences(self.folder, evaluation, influences)
        evaluations = added(self.run, evaluation, known)
        self.forget_features()
        for line in dataset.of_uneven_classes(self.images) if self.trained.conditional else ():
            print(line)
        print("Seconds: " + ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items()))
        return evaluations

    @property
    def num_images(self):
        """Images drawn with each weight set."""
        return self.options.num_images or self.trained.num_images

    def drawing(self, options):
        """How images are drawn by options, as of `evaluate`: a `Drawing`."""
        guide = self.stored.guide(options)
        return drawn.Drawing(self.model, self.trained, options, guide, self.crew, self.stages)

    def _features(self, draw, weights):
        drawn_by, drawing = self.drawn_by, f"sampling {stored.called(weights)}"
        with progress.counted(drawing, draw.num_images) as bar, self.stages("features"):
            return draw.features(drawn_by, weights, self.folder, bar)

    def _bounds(self, chosen):
        with self.stages("likelihood"):
            return bits_per_dim(self.model, self.images, chosen)

    def _show_nearest(self, draw, name, weights, features):
        """Writes the picture of the samples that are nearest to training images."""
        real = self.real["train"]
        with self.stages("nearest"):
            nearest.write(
                self.folder / names.nearest(name, self.key(draw)),
                features,
                real,
                functools.partial(draw.chosen, weights),
                self.images.train,
            )

    def evaluation(self, draw, features, bounds=None):
        """A `quality.Evaluation` of features.

        Args:
            draw: the `Drawing` of the images.
            features: dict weight set -> what `drawn_by` gives of its images, (num_images, dim + 1).
            bounds: as of `bits_per_dim`, where it was asked for.
        """
        measured = {
            name: quality.Measurement.of(
                **self._numbers(rows[:, :-1], rows[:, -1]),
                **draw.settings,
                **(bounds or {}).get(name, {}),
                extractor=self.extractor.name,
            )
            for name, rows in features.items()
        }
        return self._recorded(measured)

    def _numbers(self, features, pixels):
        """All numbers of drawn images, a dict."""
        pair = (pixels, self._pixels_of_held_out) if len(self.images.held_out) > 1 else None
        return quality.evaluate_features(
            self.reference, features, self.real["held_out"], pixels=pair
        )

    def key(self, draw):
        """`Evaluation.key` of whatever is measured of the images of a `Drawing`."""
        settings = draw.settings | {"extractor": self.extractor.name}
        nothing = quality.Measurement(frechet=0.0, num_images=draw.num_images, **settings)
        return self._recorded({names.RAW: nothing}).key

    def _recorded(self, measured):
        """A `quality.Evaluation` of measurements, a dict weight set -> `Measurement`."""
        evaluation = quality.Evaluation(
            weights=measured,
            reference=self.described,
            metric=self.extractor.metric,
            extractor=quality.Extractor(self.extractor.name, self.extractor.fingerprint),
            step=self.step,
            made_with=dict.fromkeys(measured, versions.packages()),
            options=drawn.asked(self.options, self.trained),
            time=time.strftime("%Y-%m-%dT%H:%M:%S"),
            command=self.command,
        )
        protocols = {name: self._protocol(name, evaluation.way) for name in measured}
        return dataclasses.replace(evaluation, protocols=protocols)

    def _protocol(self, name, way):
        """How a weight set was made and measured, in one line."""
        ema = self.model.ema
        decay = ema.decays.get(names.average_of(name)) if ema else None
        if decay is None:
            return protocol.line(name, way=way)
        window = float(decay.effective_window(max(self.step - 1, 0)))
        return protocol.line(name, repr(decay), window, way)

    def forget_features(self):
        """Removes the features that evaluations went on from."""
        for path in self.folder.glob("*.npy*"):
            path.unlink()


def added(run, evaluation, influences):
    """Adds an evaluation to evaluation.json, with the differences that are known by now."""
    joined = run.evaluations_with(evaluation).current
    found = differences(joined.weights, influences)
    evaluations = run.evaluations_with(dataclasses.replace(evaluation, differences=found))
    evaluations.write(run.evaluation)
    return evaluations


def kept_influences(folder, evaluation, new):
    """How much each image moves the distance, of all weight sets measured in one way so far.

    They are kept in a small file, so that weight sets measured later can be compared with these.

    Args:
        folder: where the file goes.
        evaluation: an `Evaluation` made in that way.
        new: dict weight set -> influence of each image, float64 `(num_images,)`.

    Returns:
        As `new`, with what was known already.
    """
    path = folder / names.of_way("influences", evaluation.key, ".npz")
    known = {}
    if path.is_file() and checksums.is_whole(path):
        known = npz.read(path)
    known |= new
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **known)
    return known


def differences(weights, influences):
    """How each average differs from the raw weights, with a 95% interval over the same noise.

    Args:
        weights: dict weight set -> `Measurement`, all measured in one way.
        influences: as of `kept_influences`.
    """
    known = {name: each.frechet for name, each in weights.items() if name in influences}
    if names.RAW not in known:
        return {}
    return {
        name: bootstrap.resampled(
            value - known[names.RAW], influences[name] - influences[names.RAW]
        )
        for name, value in known.items()
        if name != names.RAW
    }


def bits_per_dim(model, images, chosen):
    """The bound on the likelihood of held-out images, of each weight set, for `Measurement`."""
    found = {}
    for name, weights in chosen.items():
        print(f"Bits per dimension of {name} ...", flush=True)
        bound = likelihood.model_bits_per_dim(model, images.held_out, weights)
        found[name] = {
            "bits_per_dim": float(bound["total"]),
            "bits_per_dim_error": float(bound["standard_error"]),
        }
    return found


def evaluate_folders(options):
    """Measures one folder of images against another; nothing is written.

    Args:
        options: an `EvaluateOptions` with `images` and `against`. The extractor "auto" is a
            network that learns from images of `against`, which must then be of one size.

    Returns:
        A `quality.Evaluation` with the folder in place of the weight sets.
    """
    judged, real = quality.ImageFolder(options.images), quality.ImageFolder(options.against)
    notes = (
        f"Note on {shown(folder.path)}: {note}"
        for folder in (judged, real)
        for note in folder.notes
    )
    for line in dict.fromkeys(notes):
        print(line, flush=True)
    name = "classifier" if options.extractor == "auto" else options.extractor
    learner = references.learner_of(name)
    if learner is None:
        extractor = references.named_extractor(name)
    else:
        extractor = learner.train(some_images(real), dataset=real.path.name)
    features = {}
    for name, images in (("real", real), ("judged", judged)):
        with progress.counted(f"features of {images.path}", len(images)) as bar:
            features[name] = quality.extract_features(extractor, images, progress=bar)
    row = quality.evaluate_features(features["real"], features["judged"])
    return quality.Evaluation(
        weights={options.images: quality.Measurement.of(**row, extractor=extractor.name)},
        reference=quality.Reference(options.against, num_images=len(real)),
        metric=extractor.metric,
    )


def some_images(folder, limit=2**27):
    """Every k-th image of an `ImageFolder`, (N, H, W, 3), with k so that they fit in `limit` bytes.

    Raises:
        UsageError: the images differ in size.
    """
    size = folder[:1][0].nbytes
    images = folder[:: -(-len(folder) * size // limit)]
    if len({image.shape for image in images}) > 1:
        raise UsageError(
            f"The images of {folder.path} differ in size, so that no classifier can learn from "
            "them: give --extractor inception, or the file of the FID network's weights."
        )
    return np.stack(images)
