"""Evaluation of a run: every weight set, drawn from the same noise, against the real images."""

import contextlib
import dataclasses
import hashlib
import time
import zipfile
from pathlib import Path

import keras
import numpy as np

from .. import choices, files, likelihood, names, quality, samplers
from ..data.words import shown
from ..ddpm import DDPM
from ..errors import UsageError
from ..quality import bootstrap
from . import cache, consistency, dataset, devices, invocation, progress
from .options import EvaluateOptions, run_name


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
    run.read_evaluations()  # a damaged file is refused before hours of drawing
    trained = run.options
    model = model or load_model(run)
    if options.precision:
        devices.compute_in(options.precision, model.network)
    images = images or dataset.of_run(run, trained)
    chosen = chosen_weights(run, model, options)
    draw = Drawing(model, trained, options)
    extractor = choose_extractor(options.extractor, images)
    real = real_features(extractor, images)
    reference = choose_reference(options.reference, real)
    folder = run.path / "evaluation"
    features = {name: draw.features(extractor, weights, folder) for name, weights in chosen.items()}
    bounds = bits_per_dim(model, images, chosen) if options.bits_per_dim else {}
    evaluation = quality.Evaluation(
        weights={
            name: quality.Measurement(
                **quality.evaluate_features(reference, rows, real["held_out"]),
                **draw.settings,
                **bounds.get(name, {}),
                extractor=extractor.name,
            )
            for name, rows in features.items()
        },
        reference=described(options.reference, reference, trained, images, real),
        metric=extractor.metric,
        extractor=quality.Extractor(extractor.name, extractor.fingerprint),
        step=model.steps_made,
        time=time.strftime("%Y-%m-%dT%H:%M:%S"),
        command=command,
    )
    influences = {name: bootstrap.influence(reference, rows) for name, rows in features.items()}
    evaluations = added(run, evaluation, kept_influences(folder, evaluation, influences))
    for path in folder.glob("*.npy*"):
        path.unlink()
    return evaluations


def described(name, reference, trained, images, real):
    """The `quality.Reference` that `--reference` named, features or statistics."""
    of_images = name in choices.REFERENCES
    floor = (quality.FeatureStatistics.of(real[split]) for split in ("train", "held_out"))
    return quality.Reference(
        dataset=trained.dataset,
        split=name,
        num_images=len(reference) if of_images else None,
        num_held_out=len(real["held_out"]),
        fingerprint=images.fingerprint if of_images else files.sha256(name),
        floor_frechet=quality.frechet_distance(*floor),
    )


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
    path = folder / f"influences-{hashlib.sha256(evaluation.key.encode()).hexdigest()[:16]}.npz"
    known = {}
    if path.is_file():
        with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile):  # made anew, if damaged
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                known = dict(arrays)
    known |= new
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **known)
    return known


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
    if options.extractor in ("auto", "classifier"):
        extractor = quality.ClassifierFeatures.train(some_images(real), dataset=real.path.name)
    else:
        extractor = named_extractor(options.extractor)
    features = {}
    for name, images in (("real", real), ("judged", judged)):
        with _bar(f"features of {images.path}", len(images)) as bar:
            features[name] = quality.extract_features(extractor, images, progress=bar)
    row = quality.evaluate_features(features["real"], features["judged"])
    return quality.Evaluation(
        weights={options.images: quality.Measurement(**row, extractor=extractor.name)},
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


def load_model(run):
    """The model of a finished or interrupted run."""
    run.check_finished()
    again = invocation.command("train", "--resume", "--run-dir", run.path)
    cure = f"make it again with {again}"
    model = read_model(run.model, cure)
    if not isinstance(model, DDPM):
        raise UsageError(f"{run.model} holds a {type(model).__name__}, not a DDPM; {cure}.")
    return model


def read_model(path, cure):
    """The model of a .keras file.

    Raises:
        UsageError: it cannot be read; the line ends with the `cure`.
    """
    try:
        if not zipfile.is_zipfile(path):  # which Keras calls a file that is not there
            raise ValueError("it is cut short or no .keras file")
        return keras.saving.load_model(path)
    except Exception as error:  # damaged files are refused in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{path} cannot be read as a model ({reason}); {cure}.") from None


def choose_extractor(name, images):
    """The feature network for `--extractor`.

    "auto" is a classifier trained on the images themselves, which needs no download. It is trained
    once for a data set and kept in the cache; a damaged one is trained again.
    """
    if name not in ("auto", "classifier"):
        return named_extractor(name)
    path = cache.folder() / f"classifier-{run_name(images.name)}-{images.fingerprint[:16]}.npz"
    try:
        return quality.ClassifierFeatures.load(path)
    except (FileNotFoundError, ValueError) as error:
        why = "once" if isinstance(error, FileNotFoundError) else f"since {path} is damaged"
    print(f"Training a classifier of {images.name}, {why} ...", flush=True)
    extractor = quality.ClassifierFeatures.train(
        images.train, images.train_labels, dataset=images.name
    )
    with files.atomic_path(path) as temporary:
        extractor.save(temporary)
    return quality.ClassifierFeatures.load(path)


def named_extractor(name):
    """An extractor whose weights are known beforehand: Inception, or a file of the FID network."""
    try:
        return quality.get_extractor(name)
    except ValueError as error:
        raise UsageError(f"--extractor {name}: {error}") from error


def choose_reference(name, real):
    """What `--reference` names: features of the train or held-out images, or a statistics file."""
    if name in choices.REFERENCES:
        return real[name.replace("-", "_")]
    if not Path(name).is_file():
        known = ", ".join(choices.REFERENCES)
        raise UsageError(f"--reference {name}: give {known}, or an .npz of mu and sigma.")
    statistics = quality.FeatureStatistics.load(name)
    if statistics.dim != real["train"].shape[1]:
        raise UsageError(
            f"--reference {name} is of {statistics.dim} features, the extractor gives "
            f"{real['train'].shape[1]}; choose the --extractor that it was made with."
        )
    return statistics


def real_features(extractor, images):
    """Features of the training and of the held-out images, from the cache where it has them."""
    result = {}
    for split in ("train", "held_out"):
        identity = {"dataset": images.name, "split": split, "fingerprint": images.fingerprint}
        path = quality.reference_path(cache.folder(), extractor, **identity)
        with _bar(f"features of {split.replace('_', '-')}", len(getattr(images, split))) as bar:
            result[split] = quality.extract_features(
                extractor, getattr(images, split), path=path, progress=bar, identity=identity
            )
    return result


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
        most = consistency.most_steps(name, model.schedule.timesteps)
        self.sampler = samplers.get(name, steps=min(steps, most))
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

        def source(start, stop):
            return self.model.sample(
                stop - start,
                weights=weights,
                sampler=self.sampler,
                seed=self.options.seed,
                batch_size=self.options.batch_size,
                guidance_scale=self.options.guidance,
                start=start,
            )

        identity = self.settings | {"weights": checksum(self.model.weight_values(weights))}
        with _bar(f"sampling {name}", self.num_images) as bar:
            return quality.extract_features(
                extractor, source, self.num_images, folder / f"{name}.npy", bar, identity
            )


def checksum(values):
    """SHA-256 of a weight set, so that features of other weights are never taken for its own."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value))
    return digest.hexdigest()


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


def table(evaluations):
    """The newest of `Evaluations` as text, the verdict, and what was measured in another way."""
    return "\n".join([rows(evaluations.current), *_told(evaluations)])


def rows(evaluation):
    """An `Evaluation` as text: a line a weight set, and what real images score."""
    reference = evaluation.reference
    to = f"to {reference.split if reference.floor_frechet is not None else 'real'}"
    lines = [
        f"{evaluation.metric}, of {evaluation.num_images:,} generated images (less is better)",
        f"{'weights':<20}{to[:15]:>16}{'to held-out':>13}{'KID x 1000':>17}"
        f"{'precision':>11}{'recall':>8}",
    ]
    for name, row in evaluation.weights.items():
        kid = "" if row.kid is None else f"{1e3 * row.kid:.2f} ± {1e3 * row.kid_std:.2f}"
        lines.append(
            f"{name:<20}{row.frechet:>16.2f}{_number(row.frechet_held_out, 2):>13}{kid:>17}"
            f"{_number(row.precision, 3):>11}{_number(row.recall, 3):>8}"
        )
    if reference.floor_frechet is not None:
        held_out = f"{reference.num_held_out:,} held-out real images"
        lines.append(f"For comparison, {held_out} are at {reference.floor_frechet:.2f} from train.")
    for name, row in evaluation.weights.items():
        if row.bits_per_dim is not None:
            bits = f"{row.bits_per_dim:.3f} ± {row.bits_per_dim_error:.3f}"
            lines.append(f"{name}: {bits} bits per dimension, held-out images")
    return "\n".join(lines)


def _told(evaluations):
    """The verdict, and what else is known, a line each."""
    found, judged = quality.verdict.of_run(evaluations)
    elsewhere = f"Of {judged.way}: " if judged is not evaluations.current else ""
    lines = [f"{elsewhere}{found.sentence}"] if found.raw is not None else []
    lines += [
        f"Measured in another way, so kept apart: {', '.join(each.weights)} ({each.way})."
        for each in evaluations.apart
    ]
    return lines


def _number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


class _bar:
    """A progress bar as a context, called with (done, total)."""

    def __init__(self, description, total):
        self.bar = progress.bar(description, total)

    def __enter__(self):
        return lambda done, total: self.bar.update(done - self.bar.n)

    def __exit__(self, *error):
        self.bar.close()
