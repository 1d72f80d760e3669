"""Evaluation of a run: every weight set, drawn from the same noise, against the real images."""

import contextlib
import dataclasses
import hashlib
import time
import zipfile

import numpy as np

from .. import choices, files, likelihood, names, quality
from ..data.words import shown
from ..errors import UsageError
from ..quality import bootstrap
from . import dataset, devices, drawing, models, nearest, progress, references
from .options import EvaluateOptions


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
    with devices.strategy(options.strategy).scope():
        model = model or models.load_model(run)
    if options.precision:
        devices.compute_in(options.precision, model.network)
    images = images or dataset.of_run(run, trained)
    chosen = drawing.chosen_weights(run, model, options)
    draw = drawing.Drawing(model, trained, options)
    extractor = references.choose_extractor(options.extractor, images)
    real = references.real_features(extractor, images)
    reference = references.choose_reference(options.reference, real)
    folder = run.features
    features = {name: draw.features(extractor, weights, folder) for name, weights in chosen.items()}
    bounds = bits_per_dim(model, images, chosen) if options.bits_per_dim else {}
    evaluation = quality.Evaluation(
        weights={
            name: quality.Measurement.of(
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
    for name, weights in chosen.items():
        nearest.write(
            folder / names.nearest(name),
            features[name],
            real["train"],
            lambda index, weights=weights: draw.images(weights, index, index + 1),
            images.train,
        )
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
    if options.extractor in ("auto", "classifier"):
        extractor = quality.ClassifierFeatures.train(some_images(real), dataset=real.path.name)
    else:
        extractor = references.named_extractor(options.extractor)
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
