"""Measures a run again: by other extractors, on other drawings, by a classifier's accuracy.

    python studies/opinions.py RUN [options as of evaluate.py]

Every weight set is drawn once more from another seed than evaluate.py's (the next one), and the two
of the primary comparison from a further one. The images of each drawing are measured by classifiers
of several seeds, by a random network and by principal components of pixels. Written to
RUN/opinions.json: one entry for each weight set, drawing and extractor.
"""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras import files, names, quality  # noqa: E402
from ddpm_keras.app import cache, console, invocation  # noqa: E402
from ddpm_keras.app.options import evaluate_options  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402

FILE = "opinions.json"
PRIMARY = (names.RAW, names.average("warmup_0.999"))
CLASSIFIERS = 3  # of seeds 0, 1, 2; that of seed 0 is evaluate.py's
OTHERS = ("random", "pixels-pca")


def main(argv):
    options = evaluate_options(argv)
    (run,) = (Run.open(path) for path in options.runs)
    console.load_tensorflow()
    from ddpm_keras.app import measuring

    work = measuring.Measuring(run, options)
    with console.input_errors(), work.crew.led():
        opinions = Opinions(work)
        files.write_record(run.path / FILE, opinions.record(invocation.command_again(argv)))
    return 0


class Opinions:
    """All measures of a run but those that evaluate.py makes.

    Args:
        work: a `measuring.Measuring`.
    """

    def __init__(self, work):
        self.work, self.options = work, work.options
        self.extractors = dict(_extractors(work.images))
        self.real = {
            name: _real_features(extractor, work.images)
            for name, extractor in self.extractors.items()
        }

    def record(self, command):
        """What is written: a dict."""
        chosen = self.work.stored.chosen(self.options)
        pair = {name: weights for name, weights in chosen.items() if name in PRIMARY}
        entries = [*self.measured(chosen, 1), *self.measured(pair, 2)]
        return {
            "command": command,
            "num_images": self.work.num_images,
            "sampler": repr(self.work.drawing(self.options).sampler),
            "step": self.work.step,
            "extractors": {name: each.name for name, each in self.extractors.items()},
            "floor": {name: self.floor(name) for name in self.extractors},
            "two_sample_floor": self.told_apart(
                {name: rows["held_out"] for name, rows in self.real.items()}
            ),
            "measured": entries,
        }

    def floor(self, name):
        """The distance of as many real images as are drawn."""
        real = self.real[name]
        return quality.frechet_floor(real["train"], real["held_out"], self.work.num_images)

    def measured(self, chosen, further):
        """Entries of weight sets drawn from the seed that is so much further."""
        options = dataclasses.replace(self.options, seed=self.options.seed + further)
        draw = self.work.drawing(options)
        for weights, found in chosen.items():
            print(f"{weights}, seed {options.seed} ...", flush=True)
            images = draw.images(found, 0, draw.num_images)
            features = {name: each(images) for name, each in self.extractors.items()}
            about = {"weights": weights, "seed": options.seed}
            for name, rows in features.items():
                yield {**about, "extractor": name, **self.numbers(name, rows)}
            yield {**about, "extractor": "two_sample", **self.told_apart(features)}

    def numbers(self, name, rows):
        """Distances of features to those of the training images; precision, recall at equal N."""
        real = self.real[name]["train"]
        some = real[_spread(len(real), len(rows))]
        precision, recall = quality.precision_recall(some, rows)
        kid, _ = quality.kernel_distance(real, rows, 50, len(some) // 2)
        frechet = quality.FeatureStatistics.of
        return {
            "frechet": quality.frechet_distance(frechet(real), frechet(rows)),
            "kid": kid,
            "precision": precision,
            "recall": recall,
        }

    def told_apart(self, features):
        """How well a classifier tells features (dict extractor -> rows) from the training images.

        It sees those of the classifier of seed 0 beside the components of pixels.
        """
        seen = ("classifier_0", "pixels-pca")
        real, rows = (
            np.concatenate([each(name) for name in seen], axis=1)
            for each in (lambda name: self.real[name]["train"], lambda name: features[name])
        )
        accuracy, error = quality.two_sample_accuracy(real, rows)
        return {"accuracy": accuracy, "error": error}


def _extractors(images):
    """Pairs of a name and an extractor of the data set."""
    from ddpm_keras.app import references

    yield "classifier_0", references.choose_extractor("classifier", images)
    for seed in range(1, CLASSIFIERS):
        yield f"classifier_{seed}", _classifier(images, seed)
    for name in OTHERS:
        yield name, references.choose_extractor(name, images)


def _classifier(images, seed):
    """A classifier of another seed, from the cache where it is there."""
    path = cache.file(
        "classifier", ".npz", dataset=images.name, fingerprint=images.fingerprint, seed=seed
    )
    if path.is_file():
        return quality.ClassifierFeatures.load(path)
    extractor = quality.ClassifierFeatures.train(
        images.train, images.train_labels, dataset=images.name, seed=seed
    )
    extractor.save(path)
    return extractor


def _real_features(extractor, images):
    from ddpm_keras.app import references

    return references.real_features(extractor, images)


def _spread(total, wanted):
    """`wanted` of `total` rows, evenly spread; all where there are fewer."""
    return np.unique(np.linspace(0, total - 1, min(total, wanted)).round().astype(int))


if __name__ == "__main__":
    sys.exit(console.run(main))
