"""Evaluation of a run: every weight set, drawn from the same noise, against the real images."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np

from . import config, data, files, progress, quality, samplers
from .config import UsageError
from .ddpm import DDPM


def cache_folder():
    """Where classifiers and features of real images are kept; `DDPM_KERAS_CACHE` names another."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ddpm-keras"
    folder = Path(os.environ.get("DDPM_KERAS_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def evaluate_run(run, options=None, command="", model=None, images=None):
    """Draws images with each weight set of a run and measures them against the real ones.

    Every weight set gets the same noise. Interrupted, it goes on from the batches done. The result
    is written to the run's evaluation.json, which keeps every earlier one.

    Args:
        run: a `Run` that has a model.keras.
        options: a `config.EvaluateOptions`.
        command: the command line, for the record.
        model, images: the run's, where they are in memory already.

    Returns:
        The record that was written, a dict.
    """
    options = options or config.EvaluateOptions()
    trained = config.TrainOptions(**run.config["options"])
    model = model or load_model(run)
    images = images or data.load(
        trained.dataset,
        image_size=trained.image_size or None,
        on_unreadable=trained.unreadable,
        data_dir=trained.data_dir or None,
    )
    extractor = choose_extractor(options.extractor, images)
    real = real_features(extractor, images)
    draw = Drawing(run, model, trained, options)
    folder = run.path / "evaluation"
    features = {
        name: draw.features(extractor, weights, folder)
        for name, weights in chosen_weights(run, model, options).items()
    }
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "command": command,
        "metric": extractor.metric,
        "reference": _reference(images, real, trained),
        "weights": {
            name: measure(real, rows) | draw.settings | {"extractor": extractor.name}
            for name, rows in features.items()
        },
        "differences": differences(real["train"], features),
        "extractor": {"name": extractor.name, "fingerprint": extractor.fingerprint},
        "step": int(model.train_counter.numpy()),
    }
    run.add_evaluation(record)
    shutil.rmtree(folder)
    return record


def load_model(run):
    """The model of a finished or interrupted run."""
    if not run.model.is_file():
        raise UsageError(
            f"{run.path} has no model.keras yet; finish it with "
            f"python train.py --resume --run-dir {run.path}"
        )
    model = keras.saving.load_model(run.model)
    if not isinstance(model, DDPM):
        raise UsageError(f"{run.model} holds a {type(model).__name__}, not a DDPM.")
    return model


def choose_extractor(name, images):
    """The feature network for `--extractor`.

    "auto" is a classifier trained on the images themselves, which needs no download. It is trained
    once for a data set and kept in the cache.
    """
    if name in ("auto", "classifier"):
        path = cache_folder() / f"classifier-{images.name}-{images.fingerprint[:16]}.npz"
        if not path.is_file():
            print(f"Training a classifier of {images.name}, once ...", flush=True)
            extractor = quality.ClassifierFeatures.train(
                images.train, images.train_labels, dataset=images.name
            )
            with files.atomic_path(path) as temporary:
                extractor.save(temporary)
        return quality.ClassifierFeatures.load(path)
    if name in ("inception", "inception75"):
        return quality.InceptionFeatures(size=75 if name == "inception75" else 299)
    if not Path(name).is_file():
        raise UsageError(
            f"--extractor {name}: give classifier, inception, inception75, or the file of the FID "
            "network's weights."
        )
    return quality.FIDInceptionFeatures(name)


def real_features(extractor, images):
    """Features of the training and of the held-out images, from the cache where it has them."""
    result = {}
    for split in ("train", "held_out"):
        identity = {"dataset": images.name, "split": split, "fingerprint": images.fingerprint}
        path = quality.reference_path(cache_folder(), extractor, **identity)
        with _bar(f"features of {split.replace('_', '-')}", len(getattr(images, split))) as bar:
            result[split] = quality.extract_features(
                extractor, getattr(images, split), path=path, progress=bar, identity=identity
            )
    return result


def chosen_weights(run, model, options):
    """The weight sets to evaluate: those of the model, and those synthesised afterwards."""
    from . import posthoc

    try:
        names = [model.resolve(name) for name in options.weights] or list(model.weight_sets)
        chosen = {name: name for name in names}
        synthesised = [{"sigma_rel": value} for value in options.sigma_rel]
        synthesised += [{"decay": value} for value in options.decay]
        for profile in synthesised:
            weights = posthoc.synthesize(run.path, **profile)
            chosen[weights.name] = weights
    except ValueError as error:
        raise UsageError(str(error)) from error
    return chosen


class Drawing:
    """Draws the images of each weight set in the same way.

    Args:
        run: the `Run`.
        model: its `DDPM`.
        trained: the run's `TrainOptions`, whose sampler and number of images are the defaults.
        options: an `EvaluateOptions`.

    Attributes:
        settings: what the record says of how the images were drawn.
    """

    def __init__(self, run, model, trained, options):
        self.run, self.model, self.options = run, model, options
        self.num_images = options.num_images or trained.num_images
        name = options.sampler or trained.sampler
        steps = options.steps or trained.sampling_steps
        self.sampler = samplers.get(name, steps=min(steps, model.schedule.timesteps))
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


def measure(real, generated):
    """Every metric of generated features against those of the real images."""
    return quality.evaluate_features(real["train"], generated, real["held_out"])


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


def _reference(images, real, trained):
    """What the images are compared with, and how far the held-out images are from it: the floor."""
    return {
        "dataset": trained.dataset,
        "split": "train",
        "num_images": len(real["train"]),
        "num_held_out": len(real["held_out"]),
        "fingerprint": images.fingerprint,
        "floor_fid": quality.frechet_distance(real["train"], real["held_out"]),
    }


def table(record):
    """The record as text: one line a weight set, and what real held-out images score."""
    weights, reference = record["weights"], record["reference"]
    count = next(iter(weights.values()))["num_images"]
    lines = [
        f"{record['metric']}, of {count:,} generated images (less is better)",
        f"{'weights':<20}{'to train':>10}{'to held-out':>13}{'KID x 1000':>17}"
        f"{'precision':>11}{'recall':>8}",
    ]
    for name, row in weights.items():
        kid = "" if row["kid"] is None else f"{1e3 * row['kid']:.2f} ± {1e3 * row['kid_std']:.2f}"
        lines.append(
            f"{name:<20}{row['fid']:>10.2f}{row['fid_held_out']:>13.2f}{kid:>17}"
            f"{_share(row['precision']):>11}{_share(row['recall']):>8}"
        )
    held_out = f"{reference['num_held_out']:,} held-out real images"
    lines.append(f"For comparison, {held_out} are at {reference['floor_fid']:.2f} from train.")
    lines += _verdict(record)
    return "\n".join(lines)


def _share(value):
    return "" if value is None else f"{value:.3f}"


def _verdict(record):
    """One sentence: the best average against the raw weights."""
    weights, differences = record["weights"], record["differences"]
    if not differences:
        return []
    best = min(differences, key=lambda name: weights[name]["fid"])
    ratio = weights["raw"]["fid"] / weights[best]["fid"]
    interval = differences[best]
    return [
        f"{best} is at {weights[best]['fid']:.2f}, raw at {weights['raw']['fid']:.2f}: "
        f"{ratio:.1f} times. Difference {interval['fid']:.2f} "
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
