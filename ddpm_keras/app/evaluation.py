"""Evaluation of a run: every weight set, drawn from the same noise, against the real images."""

import hashlib
import shutil
import time
from pathlib import Path

import keras
import numpy as np

from .. import choices, files, likelihood, quality, samplers
from ..ddpm import DDPM
from ..errors import UsageError
from . import cache, consistency, dataset, devices, invocation, progress
from .options import EvaluateOptions, run_name


def evaluate_run(run, options=None, command="", model=None, images=None):
    """Draws images with each weight set of a run and measures them against the real ones.

    Every weight set gets the same noise. Interrupted, it goes on from the batches done. The result
    is written to the run's evaluation.json, which keeps every earlier one.

    Args:
        run: a `Run` that has a model.keras.
        options: an `EvaluateOptions`.
        command: the command line, for the record.
        model, images: the run's, where they are in memory already.

    Returns:
        The record that was written, a dict.
    """
    options = options or EvaluateOptions()
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
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "command": command,
        "metric": extractor.metric,
        "reference": {
            "dataset": trained.dataset,
            "split": options.reference,
            "num_images": len(reference) if isinstance(reference, np.ndarray) else None,
            "num_held_out": len(real["held_out"]),
            "fingerprint": images.fingerprint,
            "floor_fid": quality.frechet_distance(
                *(quality.FeatureStatistics.of(real[split]) for split in ("train", "held_out"))
            ),
        },
        "weights": {
            name: quality.evaluate_features(reference, rows, real["held_out"])
            | draw.settings
            | {"extractor": extractor.name}
            for name, rows in features.items()
        },
        "differences": differences(reference, features),
        "extractor": {"name": extractor.name, "fingerprint": extractor.fingerprint},
        "step": model.steps_made,
    }
    if options.bits_per_dim:
        for name, weights in chosen.items():
            print(f"Bits per dimension of {name} ...", flush=True)
            bound = likelihood.model_bits_per_dim(model, images.held_out, weights)
            record["weights"][name]["bits_per_dim"] = float(bound["total"])
            record["weights"][name]["bits_per_dim_error"] = float(bound["standard_error"])
    run.add_evaluation(record)
    shutil.rmtree(folder)
    return record


def evaluate_folders(options):
    """Measures one folder of images against another; nothing is written.

    Args:
        options: an `EvaluateOptions` with `images` and `against`. The extractor "auto" is a
            network that learns from images of `against`, which must then be of one size.

    Returns:
        A record as of `evaluate_run`, with the folder in place of the weight sets.
    """
    judged, real = quality.ImageFolder(options.images), quality.ImageFolder(options.against)
    if options.extractor in ("auto", "classifier"):
        extractor = quality.ClassifierFeatures.train(some_images(real), dataset=real.path.name)
    else:
        extractor = named_extractor(options.extractor)
    features = {}
    for name, images in (("real", real), ("judged", judged)):
        with _bar(f"features of {images.path}", len(images)) as bar:
            features[name] = quality.extract_features(extractor, images, progress=bar)
    row = quality.evaluate_features(features["real"], features["judged"])
    return {
        "metric": extractor.metric,
        "reference": {"dataset": options.against, "num_images": len(real)},
        "weights": {options.images: row | {"extractor": extractor.name}},
        "differences": {},
    }


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


def differences(real, features):
    """How each weight set differs from the raw weights, with a 95% interval over the same noise."""
    if "raw" not in features:
        return {}
    result = {}
    for name, rows in features.items():
        if name != "raw":
            difference = quality.paired_difference(real, rows, features["raw"])
            result[name] = {
                "minus": "raw",
                "fid": difference.estimate,
                "low": difference.low,
                "high": difference.high,
            }
    return result


def table(record):
    """The record as text: one line a weight set, and what real held-out images score."""
    weights, reference = record["weights"], record["reference"]
    count = next(iter(weights.values()))["num_images"]
    to = f"to {reference.get('split', 'real')}"
    lines = [
        f"{record['metric']}, of {count:,} generated images (less is better)",
        f"{'weights':<20}{to[:15]:>16}{'to held-out':>13}{'KID x 1000':>17}"
        f"{'precision':>11}{'recall':>8}",
    ]
    for name, row in weights.items():
        kid = "" if row["kid"] is None else f"{1e3 * row['kid']:.2f} ± {1e3 * row['kid_std']:.2f}"
        lines.append(
            f"{name:<20}{row['fid']:>16.2f}{_number(row['fid_held_out'], 2):>13}{kid:>17}"
            f"{_number(row['precision'], 3):>11}{_number(row['recall'], 3):>8}"
        )
    if "floor_fid" in reference:
        held_out = f"{reference['num_held_out']:,} held-out real images"
        lines.append(f"For comparison, {held_out} are at {reference['floor_fid']:.2f} from train.")
    for name, row in weights.items():
        if "bits_per_dim" in row:
            bits, error = row["bits_per_dim"], row["bits_per_dim_error"]
            lines.append(f"{name}: {bits:.3f} ± {error:.3f} bits per dimension, held-out images")
    return "\n".join(lines + _verdict(record))


def _number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


def _verdict(record):
    """One sentence: the best average against the raw weights."""
    weights, differences = record["weights"], record["differences"]
    if not differences:
        return []
    best = min(differences, key=lambda name: weights[name]["fid"])
    value, raw, interval = weights[best]["fid"], weights["raw"]["fid"], differences[best]
    if interval["high"] < 0:
        verdict = f"{raw / value:.1f} times closer to the real images"
    elif interval["low"] > 0:
        verdict = "no average is better than raw; train longer, or take a shorter average"
    else:
        verdict = "a difference within chance"
    return [
        f"{best} is at {value:.2f}, raw at {raw:.2f}: {verdict}. Difference {interval['fid']:.2f} "
        f"(95% interval {interval['low']:.2f} to {interval['high']:.2f})."
    ]


class _bar:
    """A progress bar as a context, called with (done, total)."""

    def __init__(self, description, total):
        self.bar = progress.bar(description, total)

    def __enter__(self):
        return lambda done, total: self.bar.update(done - self.bar.n)

    def __exit__(self, *error):
        self.bar.close()
