"""What one run, or several runs together, have to say: numbers only, no pictures."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ..app.run import Run
from . import stability

# Below this ratio of the raw weights' distance to an average's, the report does not call it a gain.
CLEAR_GAIN = 1.05


@dataclass(frozen=True)
class Interval:
    """A mean over `count` runs with its 95% t-interval; low and high are None for a single run."""

    mean: float
    low: float | None
    high: float | None
    count: int


def interval(values, confidence=0.95):
    """Mean and t-interval of independent values.

    Args:
        values: at least one number, one for each run.
        confidence: of the interval, in (0, 1).

    Returns:
        An `Interval`: mean ± t · s / √n with n - 1 degrees of freedom.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise ValueError("An interval needs at least one value.")
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
    half = float(quantile * values.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(first, second, confidence=0.95):
    """Interval of `first - second`, run by run: what the runs share cancels."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"Paired values must come from the same runs; got {first.shape} and {second.shape}."
        )
    return interval(first - second, confidence)


def principal_plane(sketches):
    """Projects the trajectories of all weight sets on the plane the raw weights move in most.

    A sketch holds the products of a weight vector with fixed random directions, so distances
    between sketches estimate distances between weights. The plane is that of the first two
    principal components of the raw trajectory.

    Args:
        sketches: dict weight set -> float array `(R, D)`, among them "raw", R >= 3.

    Returns:
        `(points, explained)`: dict weight set -> `(R, 2)`, and the share of the raw trajectory's
        variance along each of the two axes.

    Reference:
        Li et al. 2018, Visualizing the loss landscape of neural nets, section 7.
    """
    raw = np.asarray(sketches["raw"], np.float64)
    center = raw.mean(axis=0)
    _, singular, axes = np.linalg.svd(raw - center, full_matrices=False)
    total = (singular**2).sum()
    explained = singular[:2] ** 2 / total if total > 0 else np.zeros(2)
    points = {
        name: (np.asarray(s, np.float64) - center) @ axes[:2].T for name, s in sketches.items()
    }
    return points, tuple(float(share) for share in explained)


class RunRecord:
    """What a run directory holds, read once.

    Args:
        path: the run directory; config.json must exist, all else may be missing.

    Attributes:
        name: the directory's name.
        config, evaluation: the dicts of config.json and evaluation.json ({} where missing).
        history: list of rows of history.csv, dicts of floats.
        weight_sets: names of the weight sets, "raw" first.
    """

    def __init__(self, path):
        run = Run.open(path)
        self.path = Path(path)
        self.name = self.path.resolve().name
        self.config = run.config
        self.history = run.read_history()
        self.evaluation = _read_json(run.evaluation)
        self.weight_sets = self._weight_sets()

    def _weight_sets(self):
        names = dict.fromkeys(["raw"])
        for row in self.history:
            names.update(dict.fromkeys(k.removeprefix("beta_") for k in row if k[:5] == "beta_"))
        for row in self.history:
            prefix = "val_loss_"
            names.update(dict.fromkeys(k.removeprefix(prefix) for k in row if k.startswith(prefix)))
        names.update(dict.fromkeys(self.evaluation.get("weights", {})))
        return tuple(names)

    def curve(self, column):
        """`(steps, values)` of the rows in which `column` was measured, both possibly empty."""
        rows = [(row["step"], row[column]) for row in self.history if column in row]
        steps, values = zip(*rows, strict=True) if rows else ((), ())
        return np.array(steps), np.array(values)

    def curves(self, prefix):
        """Dict weight set -> `(steps, values)` of the columns `prefix` + weight set."""
        found = {name: self.curve(f"{prefix}{name}") for name in self.weight_sets}
        return {name: curve for name, curve in found.items() if len(curve[0])}

    @property
    def last_step(self):
        """Optimizer steps made, 0 for an empty history."""
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def metric(self):
        """What the distance of evaluation.json is called."""
        return self.evaluation.get("metric") or "Fréchet distance"

    @property
    def monitored(self):
        """What the distance during training is, with its number of images."""
        count = self.config.get("options", {}).get("quality_images")
        return self.metric + (f" of {count:,} images" if count else "")

    def distances(self, key="fid"):
        """Dict weight set -> number of evaluation.json, where it is known."""
        weights = self.evaluation.get("weights", {})
        return {k: v[key] for k, v in weights.items() if v.get(key) is not None}

    def initial_share(self, name):
        """Share of the initial weights still in an average: the product of its betas, or None.

        history.csv holds beta at some steps; each stands for the steps since the row before it.
        """
        steps, betas = self.curve(f"beta_{name}")
        if not len(steps):
            return None
        lengths = np.diff(steps, prepend=0)
        with np.errstate(divide="ignore"):
            return float(np.exp((np.log(betas) * lengths).sum()))

    def trajectory(self):
        """`(steps, {weight set: sketch (R, D)})` of trajectory.npz, or None."""
        path = self.path / "trajectory.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            sketches = {k.removeprefix("sketch_"): arrays[k] for k in arrays if k[:7] == "sketch_"}
            steps = arrays["step"]
        return (steps, sketches) if "raw" in sketches and len(steps) >= 3 else None

    def block_cosines(self):
        """At the last record: `(names of blocks, {average: cosine with raw (B,)})`, or None."""
        path = self.path / "trajectory.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            prefix = "block_cosine_"
            found = {k.removeprefix(prefix): arrays[k][-1] for k in arrays if k.startswith(prefix)}
            return (list(arrays["blocks"]), found) if found else None

    def pictures(self, most=24):
        """Sample pictures: dict epoch -> dict weight set -> path, at most `most` epochs.

        Epochs are spread evenly, the first and the last among them (for one, the last); only weight
        sets with a picture at every epoch count.
        """
        folder = self.path / "samples"
        whole = sorted(folder.glob("epoch-[0-9]*-raw.png"))
        epochs = {}
        for path in whole:
            stem = path.name.removesuffix("-raw.png")
            paths = {name: folder / f"{stem}-{name}.png" for name in self.weight_sets}
            paths = {name: path for name, path in paths.items() if path.is_file()}
            epochs[int(stem.removeprefix("epoch-"))] = paths
        names = set.intersection(*map(set, epochs.values())) if epochs else set()
        keep = sorted(epochs)
        if most == 1:
            keep = keep[-1:]
        elif len(keep) > most:
            keep = [
                keep[i] for i in np.unique(np.linspace(0, len(keep) - 1, most).round().astype(int))
            ]
        return {e: {n: p for n, p in epochs[e].items() if n in names} for e in keep}


def stability_table(record, prefix):
    """Summaries of the curves `prefix` + weight set: dict weight set -> `CurveSummary`."""
    curves = record.curves(prefix)
    raw = curves.get("raw")
    table = {}
    for name, (steps, values) in curves.items():
        same = raw is not None and np.array_equal(steps, raw[0])
        table[name] = stability.summarize(steps, values, raw[1] if same and name != "raw" else None)
    return table


def loss_stability(record, window=20):
    """Noise of the training loss: dict of the median windowed variance, spikes and rows."""
    steps, loss = record.curve("loss")
    variances = stability.windowed_variance(loss, window)
    found = stability.spikes(loss, window)
    return {
        "window": window,
        "rows": len(loss),
        "variance": float(np.median(variances)) if len(variances) else None,
        "last_variance": float(variances[-1]) if len(variances) else None,
        "spikes": len(found),
        "spike_steps": [int(steps[i]) for i in found],
    }


@dataclass(frozen=True)
class Verdict:
    """Which weights to use, by what, and how sure that is.

    Attributes:
        weights: the weight set with the lowest number; None if nothing was measured.
        value, raw: its number and that of the raw weights.
        gain: raw / value.
        low, high: 95% interval of its number minus that of the raw weights, or None.
        clear: whether that interval lies below zero; where there is none, whether the gain is at
            least `CLEAR_GAIN`.
        by: "quality" (evaluation.json) or "validation loss" (history.csv).
    """

    weights: str | None
    value: float | None
    raw: float | None
    gain: float | None
    clear: bool
    by: str | None
    low: float | None = None
    high: float | None = None


def verdict(record):
    """Chooses by quality where it was evaluated, else by the last validation loss."""
    numbers, by = record.distances(), "quality"
    if "raw" not in numbers or len(numbers) < 2:
        curves = record.curves("val_loss_")
        numbers, by = (
            {name: float(values[-1]) for name, (_, values) in curves.items()},
            "validation loss",
        )
    if not numbers:
        return Verdict(None, None, None, None, False, None)
    best = min(numbers, key=numbers.get)
    raw, value = numbers.get("raw"), numbers[best]
    gain = raw / value if raw is not None and value > 0 else None
    low, high = difference_to_raw(record, best) if by == "quality" else (None, None)
    clear = gain is not None and gain >= CLEAR_GAIN if high is None else high < 0
    return Verdict(best, value, raw, gain, clear, by, low, high)


def difference_to_raw(record, name):
    """95% interval of a weight set's distance minus that of raw, as evaluated, or (None, None)."""
    difference = record.evaluation.get("differences", {}).get(name, {})
    return difference.get("low"), difference.get("high")


def differing_options(records):
    """Options that are not the same in all runs: dict name -> list of values, in order of runs."""
    options = [record.config.get("options", {}) for record in records]
    names = dict.fromkeys(name for each in options for name in each)
    table = {name: [each.get(name) for each in options] for name in names}
    return {
        name: values
        for name, values in table.items()
        if any(value != values[0] for value in values) and name not in _NOT_SETTINGS
    }


# Options that name places or say how a run was started; runs that differ only by them are alike.
_NOT_SETTINGS = ("run_dir", "resume", "data_dir", "keep", "preset")


def groups(records):
    """Runs that differ by the seed alone, together: dict label -> list of `RunRecord`."""
    differing = {k: v for k, v in differing_options(records).items() if k != "seed"}
    found = {}
    for i, record in enumerate(records):
        parts = [f"{name}={_plain(values[i])}" for name, values in differing.items()]
        found.setdefault(", ".join(parts) or "all runs", []).append(record)
    return found


def across_seeds(records, read):
    """Mean over runs and paired difference to raw of a number that each weight set has.

    Args:
        records: runs that differ by the seed alone.
        read: function `RunRecord` -> dict weight set -> number.

    Returns:
        dict weight set -> `(Interval, Interval of raw minus this one or None)`; a weight set is
        listed with the runs that have it.
    """
    numbers = [read(record) for record in records]
    table = {}
    for name in dict.fromkeys(name for each in numbers for name in each):
        values = [each[name] for each in numbers if name in each]
        pairs = [(each["raw"], each[name]) for each in numbers if name in each and "raw" in each]
        paired = paired_difference(*zip(*pairs, strict=True)) if pairs and name != "raw" else None
        table[name] = (interval(values), paired)
    return table


def posthoc_curve(record):
    """Quality against the length of averages synthesised after training.

    Taken from the last evaluation and from all earlier ones of the same step that were made in the
    same way.

    Returns:
        `(sigma_rel, distance)` arrays, sorted by width; None for fewer than two widths.
    """
    last = record.evaluation
    found = {}
    for each in [*last.get("evaluations", []), last]:
        if any(each.get(key) != last.get(key) for key in ("metric", "step")):
            continue
        for name, row in each.get("weights", {}).items():
            if name.startswith(_SYNTHESISED) and _alike(row, last):
                found[float(name.removeprefix(_SYNTHESISED))] = row["fid"]
    points = sorted(found.items())
    if len(points) < 2:
        return None
    widths, distances = np.array(points, np.float64).T
    return widths, distances


_SYNTHESISED = "posthoc_sigma_"


def _alike(row, evaluation):
    """Whether a weight set was measured like the others of an evaluation."""
    other = next(iter(evaluation["weights"].values()))
    return all(row.get(k) == other.get(k) for k in ("num_images", "extractor", "sampler", "seed"))


def optimum(widths, distances):
    """Vertex of the parabola through the lowest point and its neighbours: `(width, distance)`.

    At an end of the curve the lowest point itself is returned.
    """
    lowest = int(np.argmin(distances))
    if lowest in (0, len(widths) - 1):
        return float(widths[lowest]), float(distances[lowest])
    x, y = np.log(widths[lowest - 1 : lowest + 2]), distances[lowest - 1 : lowest + 2]
    a, b, c = np.polyfit(x, y, 2)
    vertex = -b / (2 * a)
    return float(np.exp(vertex)), float(c - b**2 / (4 * a))


def _plain(value):
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
