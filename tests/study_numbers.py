"""Files of the study with made-up numbers, for the tests of its text."""

import json

import numpy as np
import results
from experiments import EXPERIMENTS

from ddpm_keras import names

AVERAGES = {
    "ema_constant_0.9999": ("ConstantDecay(beta=0.9999)", 10000.0, 0.82, 40.0),
    "ema_lawa": ("LAWA(k=5, every_steps=100)", 500.0, 0.0, 2.0),
    "ema_constant_0.99": ("ConstantDecay(beta=0.99)", 100.0, 0.0, 1.5),
    "ema_warmup_0.99": ("WarmupDecay(beta=0.99)", 100.0, 0.0, 1.5),
    "ema_warmup_0.999": ("WarmupDecay(beta=0.999)", 223.0, 0.0, 1.0),
}
WIDTHS = (0.05, 0.1, 0.15, 0.25)
EXTRACTORS = ("classifier_0", "classifier_1", "classifier_2", "random", "pixels-pca")
LEVELS = {"raw": 4.0} | {name: values[3] for name, values in AVERAGES.items()}
LEVELS |= {names.of_width(w): 1 + 40 * (w - 0.1) ** 2 for w in WIDTHS}


def write(folder, only=None, levels=None, seeds=None):
    """Writes the three files, as if all experiments (or those of `only`) had been run.

    Args:
        folder: where.
        only: names of experiments that train.
        levels: dict weight set -> distance, in place of `LEVELS`.
        seeds: of the trainings, in place of the planned ones.
    """
    random, numbers, points, about = np.random.RandomState(0), [], [], {}
    for experiment in EXPERIMENTS:
        if not experiment.train or (only is not None and experiment.name not in only):
            continue
        chosen = experiment.seeds if seeds is None else seeds
        about[experiment.name] = describe(experiment, chosen)
        for seed in chosen:
            own = {"experiment": experiment.name, "seed": seed}
            numbers += [own | row for row in measured(random, experiment.name, levels or LEVELS)]
            if experiment.name.startswith("main"):
                points += [own | row for row in curves(random, levels or LEVELS)]
    folder.mkdir(parents=True, exist_ok=True)
    results.write_rows(folder / "numbers.csv", (*results.HOW, *results.WHAT), numbers)
    results.write_rows(folder / "curves.csv", (*results.POINT, *results.CURVES), points)
    (folder / "experiments.json").write_text(json.dumps(about))
    return folder


def describe(experiment, seeds):
    return {
        "asks": experiment.asks,
        "planned": list(experiment.seeds),
        "seeds": list(seeds),
        "train": f"python train.py --run-dir {experiment.name}",
        "evaluate": f"python evaluate.py {experiment.name}",
        "steps": 2000,
        "batch_size": 64,
        "optimizer": "adam",
        "network": "UNet",
        "schedule": "linear",
        "parameters": 701345,
        "data": {
            "provenance": "made up",
            "num_train": 1437,
            "num_held_out": 360,
            "image_shape": [8, 8, 1],
        },
        "versions": {
            "machine": "m",
            "devices": ["CPU"],
            "python": "3",
            "tensorflow": "2",
            "keras": "3",
        },
        "metric": "Fréchet distance, digits classifier",
        "way": "Fréchet distance, digits classifier, 1,000 images, by DDIM(steps=25), seed 0",
        "sampler": "DDIM(steps=25)",
        "num_images": 1000,
        "held_out": 1.1,
        "averages": {
            name: {"rule": rule, "window": window, "initial_share": left}
            for name, (rule, window, left, _) in AVERAGES.items()
        },
        "floor": {"classifier_0": 0.55},
        "extractors": {name: f"digits {name}" for name in EXTRACTORS},
        "told_apart_floor": 0.5,
    }


def measured(random, experiment, levels):
    """Rows of numbers.csv of one training: each weight set in each way."""
    levels = levels | ({"ema_scaled": 1.4} if experiment.startswith("batch") else {})
    luck = np.exp(0.1 * random.randn())
    own = {name: luck * value * np.exp(0.02 * random.randn()) for name, value in levels.items()}
    if levels["ema_warmup_0.99"] == levels["ema_constant_0.99"]:
        own["ema_warmup_0.99"] = own["ema_constant_0.99"]
    for name, value in own.items():
        yield row(name, value)
        for extractor in EXTRACTORS:
            for drawing in (1, 2):
                noise = np.exp(0.02 * random.randn())
                yield row(name, value * noise, drawing=drawing, extractor=extractor)
        told = {"extractor": "two_sample", "drawing": 1}
        yield row(name, value, **told) | {"accuracy": 0.5 + 0.4 * value / (1 + value)}
        if names.synthesis(name) or name in ("raw", "ema_warmup_0.999"):
            yield from (row(name, value * (1 + 500 / step), step=step) for step in (500, 1000))
            if experiment.startswith("guidance"):
                yield from (row(name, value * (1 + s), guidance=s) for s in (1.5, 2.0))


def row(weights, value, **how):
    how = {"step": 2000, "drawing": 0, "guidance": 1.0, "extractor": "classifier_0"} | how
    numbers = {"frechet": value, "kid": 0.01 * value, "precision": 0.9 - 0.01 * min(value, 80)}
    numbers |= {"recall": 0.5 + 0.3 / (1 + value), "copying": 0.3, "copying_pixels": 0.4}
    return how | {"weights": weights, "num_images": 1000, **numbers}


def curves(random, levels):
    """Rows of curves.csv of one training: 20 evaluations."""
    for step in range(100, 2001, 100):
        for name in ("raw", *AVERAGES):
            rough = 0.1 if name == "raw" else 0.02
            value = levels[name] * (1 + 500 / step) * np.exp(rough * random.randn())
            yield {"step": step, "weights": name, "val_loss": value / 100, "quality": value}
