"""Whether a finding hangs on the extractor, the drawing or the classifier."""

import math

import numpy as np
from effects import PRIMARY, RAW, corrected, correlation, ratio
from results import CLASSIFIER

from ddpm_keras.report import inference

# 12: other opinions, and where variance comes from


def ranking(study, experiment):
    """Agreement of other extractors with the classifier about the order of weight sets."""
    order = study.table(experiment, drawing=1)
    seeds = sorted(order.get(RAW, {}))
    if not seeds:
        return None
    found, gains = {}, {}
    for extractor in ("classifier_1", "classifier_2", "random", "pixels-pca"):
        other = study.table(experiment, drawing=1, extractor=extractor)
        found[extractor] = inference.correlation(
            [correlation(*([t[n][seed] for n in order] for t in (order, other))) for seed in seeds],
            len(order),
        )
        gains[extractor] = ratio(other, RAW, PRIMARY)
    told = study.table(experiment, "accuracy", drawing=1, extractor="two_sample")
    copied = study.table(experiment, "copying")
    pixels = study.table(experiment, "copying_pixels")
    count = study.about[experiment]["num_images"]
    shown = [RAW, PRIMARY]
    return {
        "correlations": found,
        "gains": corrected(gains),
        "accuracy": {n: inference.share(list(told[n].values()), 2 * count) for n in shown},
        "copying": {n: inference.share(list(copied[n].values()), count) for n in shown},
        "copying_pixels": {n: inference.share(list(pixels[n].values()), count) for n in shown},
        "count": len(seeds),
    }


def components(study, experiment):
    """Components of variance of the logarithm of raw over average, and of raw alone."""
    classifiers = (CLASSIFIER, "classifier_1", "classifier_2")
    tables = [
        [study.table(experiment, drawing=drawing, extractor=each) for each in classifiers]
        for drawing in (1, 2)
    ]
    both = [t.get(PRIMARY, {}).keys() & t.get(RAW, {}).keys() for row in tables for t in row]
    seeds = sorted(set.intersection(*map(set, both)))
    if len(seeds) < 2:
        return None

    def values(number):
        return np.array([[[number(t, seed) for t in row] for row in tables] for seed in seeds])

    return {
        "raw over average": inference.variance_components(
            values(lambda t, seed: math.log(t[RAW][seed] / t[PRIMARY][seed]))
        ),
        "raw": inference.variance_components(values(lambda t, seed: math.log(t[RAW][seed]))),
        "average": inference.variance_components(values(lambda t, s: math.log(t[PRIMARY][s]))),
    }
