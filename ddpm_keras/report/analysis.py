"""What one run, or several runs together, have to say: numbers only, no pictures."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .. import checksums, names
from ..quality import Difference, verdict
from ..quality.extractors import base
from . import stability


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


def interval_of_differences(first, second, confidence=0.95):
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
        run: an `app.run_directory.Run`; all but its config.json may be missing.

    Attributes:
        run, path, name: the run, its directory, and the directory's name.
        config: the dict of config.json.
        history: list of rows of history.csv, dicts of floats.
        evaluations: the `quality.Evaluations` of evaluation.json, or None where there is none.
        verdict, evaluation: the `quality.Verdict`, and the `quality.Evaluation` that it is of.
        weight_sets: names of the weight sets, "raw" first.
    """

    def __init__(self, run):
        self.run = run
        self.path = run.path
        self.name = self.path.resolve().name
        self.config = run.config
        self.history = run.read_history()
        self.evaluations = run.whole_evaluations()
        self.verdict, self.evaluation = verdict.Verdict(verdict.UNDECIDED), None
        if self.evaluations:
            self.verdict, self.evaluation = verdict.of_run(self.evaluations)
        self.weight_sets = self._weight_sets()

    def _weight_sets(self):
        columns = dict.fromkeys(column for row in self.history for column in row)
        parsed = filter(None, map(names.parse_column, columns))
        measured = self.evaluations.weight_sets if self.evaluations else ()
        tracked = [name for what, name in parsed if what in ("beta", "val_loss", "quality")]
        return tuple(dict.fromkeys([names.RAW, *tracked, *measured]))

    def curve(self, column):
        """`(steps, values)` of the rows in which `column` was measured, both possibly empty."""
        rows = [(row["step"], row[column]) for row in self.history if column in row]
        steps, values = zip(*rows, strict=True) if rows else ((), ())
        return np.array(steps), np.array(values)

    def curves(self, what):
        """Dict weight set -> `(steps, values)` of the columns of `what`, such as "val_loss"."""
        found = {name: self.curve(names.column(what, name)) for name in self.weight_sets}
        return {name: curve for name, curve in found.items() if len(curve[0])}

    @property
    def last_step(self):
        """Optimizer steps made, 0 for an empty history."""
        return int(self.history[-1]["step"]) if self.history else 0

    @property
    def windows(self):
        """Dict average -> steps that it stood for at the end, where that was written down."""
        return {name: float(values[-1]) for name, (_, values) in self.curves("window").items()}

    @property
    def metric(self):
        """What the distance of evaluation.json is called."""
        return self.evaluation.metric if self.evaluation else base.METRIC

    @property
    def shipped_step(self):
        """The steps that the network to ship has made, fewer where the run has gone on since."""
        return self.config.get("finished") or self.last_step

    def window(self, name, step):
        """The steps that an average stood for at a step; None where that was not written down."""
        steps, values = self.curve(names.column("window", name))
        return float(values[steps <= step][-1]) if (steps <= step).any() else None

    @property
    def since(self):
        """The step that the evaluation is of, where the run has gone on since then; else None."""
        step = self.evaluation.step if self.evaluation else None
        return step if step is not None and step < self.last_step else None

    @property
    def monitored(self):
        """What the distance during training is, with its number of images.

        It is that of the extractor "auto", whatever the run was evaluated by.
        """
        images = self.config.get("data", {})
        metric = base.METRIC
        if images.get("name"):
            target = "labels" if (images.get("num_classes") or 0) > 1 else "rotation"
            metric = base.metric_of(base.learnt_name(images["name"], target))
        count = self.config.get("options", {}).get("quality_images")
        return metric + (f" of {count:,} images" if count else "")

    def measured(self, key="frechet"):
        """Dict weight set -> number of the evaluation, where it is known."""
        weights = self.evaluation.weights if self.evaluation else {}
        numbers = {name: getattr(each, key) for name, each in weights.items()}
        return {name: value for name, value in numbers.items() if value is not None}

    def initial_share(self, name):
        """Share of the initial weights still in an average at the end, or None.

        A run that did not write it down has beta at some steps, each of which stands for the steps
        since the row before it: the share is their product.
        """
        _, shares = self.curve(names.column("initial_share", name))
        if len(shares):
            return float(shares[-1])
        steps, betas = self.curve(names.column("beta", name))
        if not len(steps):
            return None
        lengths = np.diff(steps, prepend=0)
        with np.errstate(divide="ignore"):
            return float(np.exp((np.log(betas) * lengths).sum()))

    def trajectory(self):
        """`(steps, {weight set: sketch (R, D)})` of trajectory.npz, or None."""
        arrays = self.run.read_trajectory()
        sketches = _columns_of("sketch", arrays)
        if names.RAW not in sketches or len(arrays["step"]) < 3:
            return None
        return arrays["step"], sketches

    def block_cosines(self):
        """At the last record: `(names of blocks, {average: cosine with raw (B,)})`, or None."""
        arrays = self.run.read_trajectory()
        last = {name: rows[-1] for name, rows in _columns_of("block_cosine", arrays).items()}
        return (list(arrays["blocks"]), last) if last else None

    def pictures(self, most=24):
        """Sample pictures: dict epoch -> dict weight set -> path, at most `most` epochs.

        Epochs are spread evenly, the first and the last among them (for one, the last); only weight
        sets with a picture at every epoch count.
        """
        epochs = {}
        for path in self.run.samples.glob("*.png"):
            epoch, name = names.parse_picture(path.name) or (None, None)
            if name in self.weight_sets and checksums.is_whole(path):
                epochs.setdefault(epoch, {})[name] = path
        always = set.intersection(*map(set, epochs.values())) if epochs else set()
        keep = sorted(epochs)
        if most == 1:
            keep = keep[-1:]
        elif len(keep) > most:
            keep = [
                keep[i] for i in np.unique(np.linspace(0, len(keep) - 1, most).round().astype(int))
            ]
        shown = [name for name in self.weight_sets if name in always]
        return {epoch: {name: epochs[epoch][name] for name in shown} for epoch in keep}


def _columns_of(what, arrays):
    """Dict weight set -> array of trajectory.npz."""
    parsed = {key: names.parse_column(key) for key in arrays}
    return {pair[1]: arrays[key] for key, pair in parsed.items() if pair and pair[0] == what}


def stability_table(record, what):
    """Summaries of the curves of `what`, such as "val_loss": dict weight set -> `CurveSummary`."""
    curves = record.curves(what)
    raw = curves.get(names.RAW)
    table = {}
    for name, (steps, values) in curves.items():
        beside_raw = name != names.RAW and raw is not None and np.array_equal(steps, raw[0])
        table[name] = stability.summarize(steps, values, raw[1] if beside_raw else None)
    return table


def stability_across_seeds(records, what, key):
    """`across_seeds` of one number of the curves' summaries, such as "best" of "val_loss"."""

    def read(record):
        summaries = stability_table(record, what)
        numbers = {name: each.as_dict()[key] for name, each in summaries.items()}
        return {name: value for name, value in numbers.items() if value is not None}

    return across_seeds(records, read)


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


def by_validation_loss(record):
    """The last validation loss of every weight set, the lowest first: dict name -> number."""
    last = {name: float(values[-1]) for name, (_, values) in record.curves("val_loss").items()}
    return dict(sorted(last.items(), key=lambda item: item[1]))


def differing_options(records):
    """Options that are not the same in all runs: dict name -> list of values, in order of runs."""
    options = [settings(record.config) for record in records]
    names = dict.fromkeys(name for each in options for name in each)
    table = {name: [each.get(name) for each in options] for name in names}
    return {k: values for k, values in table.items() if any(each != values[0] for each in values)}


def settings(config):
    """The options of a run, of its config.json, that its numbers follow from."""
    return {k: v for k, v in config.get("options", {}).items() if k not in _NOT_SETTINGS}


# Options that name places, or say how a run was started and where its numbers go as well; runs that
# differ only by them are alike.
_NOT_SETTINGS = ("run_dir", "resume", "data_dir", "data_cache", "keep", "preset", "config")
_NOT_SETTINGS += ("logger", "evaluate")


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
        pairs = [
            (each[names.RAW], each[name]) for each in numbers if {name, names.RAW} <= each.keys()
        ]
        paired = None
        if pairs and name != names.RAW:
            paired = interval_of_differences(*zip(*pairs, strict=True))
        table[name] = (interval(values), paired)
    return table


def measured_in_one_way(records):
    """Whether the numbers of runs may stand beside one another: all but the step is the same."""
    found = [dataclasses.replace(each.evaluation, step=None) for each in _measured(records)]
    return all(each.compares_with(found[0]) for each in found)


def measured_alike(records):
    """Whether they may be put together: at the end of each run besides, or at one step of all."""
    return measured_in_one_way(records) and len({each.since for each in _measured(records)}) <= 1


def _measured(records):
    return [record for record in records if record.evaluation]


def metrics_of(records):
    """What the distances of runs are called."""
    return "; ".join(dict.fromkeys(each.metric for each in _measured(records))) or base.METRIC


def monitored_of(records):
    """What the distances of runs during training are, see `RunRecord.monitored`."""
    followed = (each.monitored for each in records if each.curves("quality"))
    return "; ".join(dict.fromkeys(followed)) or base.METRIC


def ways_of_groups(records):
    """How each group of runs was measured, in words; as one where all were in the same way."""
    first = {label: _measured(runs)[:1] for label, runs in groups(records).items()}
    ways = {label: runs[0].evaluation.way for label, runs in first.items() if runs}
    if len(set(ways.values())) == 1:
        return next(iter(ways.values()))
    return "; ".join(f"{label}: {way}" for label, way in ways.items())


def quality_across_seeds(records):
    """`across_seeds` of the distances to the real images.

    A single run has no interval over runs; the differences have that of its evaluation, over the
    noise of the images. Runs that were evaluated in different ways have no numbers in common.
    """
    if not measured_alike(records):
        return {}
    table = across_seeds(records, lambda record: record.measured())
    if len(records) == 1 and records[0].evaluation:
        for name, found in records[0].evaluation.differences.items():
            gain = Interval(-found.estimate, -found.high, -found.low, 1)
            table[name] = (table[name][0], gain)
    return table


def verdict_across_seeds(table):
    """The `quality.Verdict` on a table as of `quality_across_seeds`: means in place of numbers."""
    values = {name: found.mean for name, (found, _) in table.items()}
    gains = {name: gain for name, (_, gain) in table.items() if gain and gain.low is not None}
    differences = {
        name: Difference(-gain.mean, -gain.high, -gain.low) for name, gain in gains.items()
    }
    return verdict.verdict(values, differences)


def posthoc_curve(record):
    """Quality against the length of averages synthesised after training.

    Returns:
        `(sigma_rel, distance)` arrays, sorted by width; None for fewer than two widths.
    """
    made = {name: names.synthesis(name) for name in record.measured()}
    points = sorted(
        (float(pair[1]), record.measured()[name])
        for name, pair in made.items()
        if pair and pair[0] == "sigma_rel"
    )
    if len(points) < 2:
        return None
    widths, distances = np.array(points, np.float64).T
    return widths, distances


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
