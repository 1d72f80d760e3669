"""Does each kind of interval of the study hold the truth as often as it says?

    python studies/coverage_of_intervals.py   # a minute; writes docs/study/coverage.json

Every kind is made many times from numbers whose truth is known. A row says how often the 95%
interval held it, with the standard error of that share.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from scipy import special, stats

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ddpm_keras import files, quality  # noqa: E402
from ddpm_keras.report import inference, stability  # noqa: E402

OUT = ROOT / "docs" / "study" / "coverage.json"
REPEATS = 4000
NORMAL = 1.959964  # standard errors on either side


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of the cheap kinds")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    rows = [row(kind, options.repeats) for kind in KINDS]
    files.write_record(options.out, {"rows": rows})
    for each in rows:
        print(f"{each['kind']}: {each['coverage']:.1%} of {each['repeats']:,}")


def row(kind, repeats):
    """The row of one kind, a dict; its random numbers are its own."""
    name, cost, make = kind
    repeats = max(20, repeats // cost)
    random = np.random.RandomState(sum(map(ord, name)))
    held = float(np.mean([make(random) for _ in range(repeats)]))
    error = math.sqrt(held * (1 - held) / repeats)
    return {"kind": name, "coverage": held, "standard_error": error, "repeats": repeats}


def holds(interval, truth):
    """Whether an interval (or an `Effect`) holds a number."""
    low, high = interval if isinstance(interval, tuple) else (interval.low, interval.high)
    return low <= truth <= high


# A training's own level and effect, and the noise of its images, all on the log scale.
SPREAD, EFFECT_SPREAD, NOISE = 0.2, 0.08, 0.04


def ratio(count):
    """Ratio of two distances over trainings."""

    def make(random):
        raw = SPREAD * random.randn(count) + NOISE * random.randn(count)
        effect = 0.5 + EFFECT_SPREAD * random.randn(count) + NOISE * random.randn(count)
        return holds(inference.ratio(np.exp(raw), np.exp(raw - effect)), math.exp(0.5))

    return make


def difference(count):
    """Difference of two precisions over trainings, each a share of 1,000 images."""

    def make(random):
        first, second = (
            random.binomial(1000, special.expit(middle + 0.2 * random.randn(count))) / 1000
            for middle in (0.5, 0.5)
        )
        return holds(inference.difference(first, second), 0)

    return make


def share(count, middle):
    """Middle of shares of 1,000 images over trainings."""

    def make(random):
        odds = special.logit(middle) + 0.3 * random.randn(count)
        return holds(
            inference.share(random.binomial(1000, special.expit(odds)) / 1000, 1000), middle
        )

    return make


def jitter(count):
    """Ratio of the jitters of two curves over trainings: 20 evaluations on a falling course."""

    def make(random):
        course = 3 * np.exp(-np.arange(20) / 8)
        rough, calm = (
            [stability.jitter(course + spread * random.randn(20)) for _ in range(count)]
            for spread in (0.2, 0.05)
        )
        return holds(inference.ratio(rough, calm), 4)

    return make


def restricted_time(count, reach=1500.0, horizon=2000):
    """Difference of mean times to a threshold, seen every 200 steps and cut at the end."""
    grid = np.arange(200, horizon + 1, 200)

    def times(random, middle, count):
        exact = middle * np.exp(0.4 * random.randn(count))
        place = np.searchsorted(grid, exact)
        return np.where(place < len(grid), grid[np.minimum(place, len(grid) - 1)], horizon)

    many = np.random.RandomState(0)
    truth = times(many, reach, 10**6).mean() - times(many, 800.0, 10**6).mean()

    def make(random):
        first, second = times(random, reach, count), times(random, 800.0, count)
        return holds(inference.difference(first, second), truth)

    return make


def correlation(count, num_items=15):
    """Middle of rank correlations of 15 weight sets over trainings."""

    def one(random):
        first = random.randn(num_items)
        return stats.spearmanr(first, first + 0.5 * random.randn(num_items)).statistic

    many = np.random.RandomState(3)
    z = [np.arctanh(one(many) * num_items / (num_items + 1)) for _ in range(3000)]
    truth = math.tanh(float(np.mean(z)))

    def make(random):
        return holds(inference.correlation([one(random) for _ in range(count)], num_items), truth)

    return make


def paired_images(num_images=300, dim=8):
    """Difference of the distances of two weight sets drawn from the same noise (bootstrap)."""
    reference = quality.FeatureStatistics.of(np.random.RandomState(1).randn(5000, dim))

    def draw(random):
        noise = random.randn(num_images, dim)
        other = noise + 0.2 * random.randn(num_images, dim)
        return 1.25 * noise + 0.2, 1.1 * other

    def distances(random):
        each = (quality.FeatureStatistics.of(rows) for rows in draw(random))
        return [quality.frechet_distance(reference, one) for one in each]

    many = np.random.RandomState(2)
    truth = float(np.mean([np.subtract(*distances(many)) for _ in range(3000)]))

    def make(random):
        found = quality.paired_difference(reference, *draw(random), num_resamples=500)
        return holds(found, truth)

    return make


def infinity(num_images=600, dim=4):
    """Distance extrapolated to infinitely many images (jackknife)."""
    truth = dim * 0.1**2 + dim * (1.2 - 1) ** 2

    def make(random):
        real, drawn = random.randn(num_images, dim), 1.2 * random.randn(num_images, dim) + 0.1
        estimate, error = quality.frechet_distance_infinity(real, drawn, seed=random.randint(9999))
        return abs(estimate - truth) <= NORMAL * error

    return make


def copying(random):
    """Share of copying, by its standard error (DeLong)."""
    drawn, held_out = random.rand(300), random.rand(200) ** 0.8
    share, error = quality.copying(drawn, held_out)
    return abs(share - 1 / 1.8) <= NORMAL * error  # P(U < V^0.8) is the mean of V^0.8


def two_sample(random):
    """Accuracy of the two-sample test by its standard error, Gaussians 1 apart in one of three."""
    real, drawn = random.randn(1000, 3), random.randn(1000, 3)
    drawn[:, 0] += 1
    accuracy, error = quality.two_sample_accuracy(real, drawn)
    return abs(accuracy - special.ndtr(0.5)) <= NORMAL * error


def family(random):
    """Holm's correction of 12 tests where nothing is there: whether none is found."""
    p = [inference.difference(random.randn(8), random.randn(8)).p for _ in range(12)]
    return min(inference.holm(p)) >= 0.05


# What it is called in the study, how many times a cheap one it costs, and what makes one.
KINDS = (
    ("ratio of distances, 8 trainings", 1, ratio(8)),
    ("ratio of distances, 3 trainings", 1, ratio(3)),
    ("ratio of distances, 2 trainings", 1, ratio(2)),
    ("difference of shares, 8 trainings", 1, difference(8)),
    ("difference of shares, 3 trainings", 1, difference(3)),
    ("share near 0.6, 8 trainings", 1, share(8, 0.6)),
    ("share near 0.98, 3 trainings", 1, share(3, 0.98)),
    ("ratio of jitters, 8 trainings", 1, jitter(8)),
    ("ratio of jitters, 3 trainings", 1, jitter(3)),
    ("difference of times to a threshold, 8 trainings", 1, restricted_time(8)),
    ("rank correlation, 8 trainings", 4, correlation(8)),
    ("rank correlation, 3 trainings", 4, correlation(3)),
    ("difference of distances over the noise of 300 images", 4, paired_images()),
    ("distance extrapolated in 1/N", 8, infinity()),
    ("copying, 300 images against 200", 1, copying),
    ("two-sample accuracy, 1,000 images", 4, two_sample),
    ("no false finding in a family of 12", 4, family),
)

if __name__ == "__main__":
    sys.exit(main())
