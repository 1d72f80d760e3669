"""Quality against sampling steps, on the embedded digits: one training, every sampler.

    python train.py --run-dir runs/digits
    python benchmarks/steps_vs_quality.py runs/digits --minutes 60     # goes on where it stopped
    python benchmarks/steps_vs_quality.py                              # the page and the plot alone

Every sampler starts from the same noise for the same seed, with 5 to 1000 evaluations of the
network, raw and with the run's best average. What is measured goes into docs/steps-vs-quality.json
at once, one row a seed: a call measures what is missing, the cheapest first, for as long as it is
given. docs/steps-vs-quality.md and its plot are made of that file.
"""

import argparse
import dataclasses
import itertools
import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras import choices, files, names  # noqa: E402
from ddpm_keras.app import console  # noqa: E402

PAGE = ROOT / "docs" / "steps-vs-quality.md"
RESULTS, PLOT = PAGE.with_suffix(".json"), ROOT / "docs" / "images" / "steps-vs-quality.png"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
EVALUATIONS = (5, 10, 20, 50, 100, 250, 1000)  # of the network, for each image
DEFAULT, DEFAULT_STEPS = "ddim", 50
NUMBERS = ("frechet", "frechet_held_out", "precision", "recall")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="run directory; none: the page alone")
    parser.add_argument("--weights", nargs="+", help="weight sets (raw and the best average)")
    parser.add_argument("--num-images", type=int, default=1000, help="images a row (1000)")
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds (4)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long (60)")
    options = parser.parse_args(argv)
    if options.run:
        measure(options)
    record = read()
    if record:
        draw(record).savefig(PLOT, dpi=150)
    page = PAGE.read_text(encoding="utf-8")
    files.write_text(PAGE, with_results(page, record))


def read():
    """What was measured: a dict of the run and of a list of rows; None if nothing was."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None


# Measuring


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row to be measured."""

    weights: str
    sampler: str
    evaluations: int
    seed: int

    @property
    def steps(self):
        """Heun's method asks the network twice a step, and once in the last."""
        return (self.evaluations + 1) // 2 if self.sampler == "heun" else self.evaluations


def cells(weight_sets, seeds):
    """Every `Cell`, the cheapest first, and of those all of one seed before the next."""
    return [
        Cell(weights, sampler, evaluations, seed)
        for evaluations in EVALUATIONS
        for seed in range(seeds)
        for sampler in sorted(choices.SAMPLERS.built_in)
        for weights in weight_sets
    ]


def measure(options):
    """Measures what is missing, for as long as the options say."""
    console.load_tensorflow()
    from ddpm_keras.app import dataset, models, references
    from ddpm_keras.app.run_directory import Run

    run = Run.open(options.run)
    model, images = models.load_model(run), dataset.of_run(run, run.options)
    extractor = references.choose_extractor("auto", images)
    real = references.real_features(extractor, images)
    record = begun(run, extractor, real, options.num_images)
    known = {tuple(row[field.name] for field in dataclasses.fields(Cell)) for row in record["rows"]}
    weight_sets = options.weights or (names.RAW, best_average(run, model))
    wanted = cells(tuple(map(model.resolve, weight_sets)), options.seeds)
    wanted = [cell for cell in wanted if dataclasses.astuple(cell) not in known]
    end = time.monotonic() + 60 * options.minutes
    for place, cell in enumerate(wanted):
        began = time.monotonic()
        if began > end:
            print(f"{len(wanted) - place} rows are left; the same command goes on with them.")
            return
        row = measured(model, cell, extractor, real, options.num_images)
        record["rows"].append(row)
        files.write_json(RESULTS, record)
        left = sum(each.evaluations for each in wanted[place + 1 :])
        minutes = (time.monotonic() - began) / 60 / cell.evaluations * left
        print(f"{cell}: {row['frechet']:.3f}; at this pace {minutes:.0f} minutes are left")


def begun(run, extractor, real, num_images):
    """The record of earlier calls, or a new one.

    Raises:
        SystemExit: it is of another run, or of other images.
    """
    from ddpm_keras import quality

    head = {
        "command": run.config["command"],
        "fingerprint": run.config["data"]["fingerprint"],
        "steps": run.last_step,
        "metric": extractor.metric,
        "num_images": num_images,
        "floor": quality.frechet_distance(real["train"], real["held_out"]),
        "num_real": [len(real["train"]), len(real["held_out"])],
    }
    record = read() or head | {"rows": []}
    for key, value in head.items():
        if record[key] != value and key != "floor":
            sys.exit(
                f"{RESULTS} was measured with {key} {record[key]!r}, not {value!r}; remove it, or "
                "measure as before."
            )
    return record


def best_average(run, model):
    """The average of the lowest distance in the run's own evaluation, else the last one."""
    evaluations = run.read_evaluations()
    tracked = evaluations.current.weights if evaluations else {}
    tracked = {name: tracked[name] for name in model.weight_sets[1:] if name in tracked}
    return min(tracked, key=lambda name: tracked[name].frechet, default=model.weight_sets[-1])


def measured(model, cell, extractor, real, num_images):
    """One row: a cell with its numbers and its seconds."""
    from ddpm_keras import quality, samplers

    sampler = samplers.get(cell.sampler, model.schedule, steps=cell.steps)
    began = time.monotonic()
    drawn = model.sample(num_images, cell.weights, sampler, cell.seed, batch_size=250)
    seconds = time.monotonic() - began
    found = quality.evaluate_features(real["train"], extractor(drawn), real["held_out"])
    numbers = {name: float(found[name]) for name in NUMBERS}
    return dataclasses.asdict(cell) | {"is": repr(sampler), "seconds": round(seconds, 2)} | numbers


# The page


def values(record, weights, sampler, evaluations, number="frechet"):
    """A number of every seed, by seed, (seeds,)."""
    asked = (weights, sampler, evaluations)
    rows = [row for row in record["rows"] if asked == tuple(row[key] for key in _KEYS)]
    return np.array([row[number] for row in sorted(rows, key=lambda row: row["seed"])])


_KEYS = ("weights", "sampler", "evaluations")


def distinct(record, key):
    """The values of a column, in the order they came."""
    return list(dict.fromkeys(row[key] for row in record["rows"]))


def with_results(page, record):
    """The page with the tables between its two marks."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    text = "\n".join(lines(record)) if record else "With this version nothing is measured yet."
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def lines(record):
    """The record as lines of Markdown."""
    training, held_out = record["num_real"]
    yield (
        f"{record['metric']} to the {training:,} training images, of {record['num_images']:,} "
        f"images for each of {len(distinct(record, 'seed'))} seeds: mean and 95% interval over the "
        f"seeds (t, n - 1). Less is better. The {held_out:,} held-out real images are at "
        f"{record['floor']:.2f}. Trained by `{record['command']}`."
    )
    yield ""
    yield f"![Distance against evaluations of the network](images/{PLOT.name})"
    for weights in distinct(record, "weights"):
        yield from ("", f"## {weights}", "")
        yield from table(record, weights)
        for words in (steps_of_default(record, weights), against_default(record, weights)):
            words = list(words)
            yield from ["", *words] if words else []
    yield ""
    yield f"The default is `{DEFAULT}`: {what_is(record, DEFAULT)}."


def table(record, weights):
    """A row for each sampler, a column for each number of evaluations."""
    columns = sorted(distinct(record, "evaluations"))
    yield f"| evaluations | {' | '.join(map(str, columns))} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for sampler in sorted(distinct(record, "sampler")):
        found = [values(record, weights, sampler, each) for each in columns]
        yield f"| `{sampler}` | {' | '.join(map(shown, found))} |"


def shown(found):
    """Values of all seeds in one cell."""
    from ddpm_keras.report.analysis import interval

    if not len(found):
        return ""
    whole = interval(found)
    if whole.low is None:
        return f"{whole.mean:.2f}"
    return f"{whole.mean:.2f} ± {whole.mean - whole.low:.2f}"


def steps_of_default(record, weights):
    """What more steps do to the default, seed by seed, in which the noise is the same."""
    from ddpm_keras.report.analysis import interval_of_differences

    for fewer, more in itertools.pairwise((20, 50, 100, 250, 1000)):
        pair = [values(record, weights, DEFAULT, each) for each in (more, fewer)]
        if len(pair[0]) == len(pair[1]) > 1:
            change = interval_of_differences(*pair)
            yield (
                f"From {fewer} to {more} steps the distance of `{DEFAULT}` changes by "
                f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})."
            )


def against_default(record, weights):
    """Each other sampler where it is lowest, against the default as it is, seed by seed."""
    from ddpm_keras.report.analysis import interval_of_differences

    default = values(record, weights, DEFAULT, DEFAULT_STEPS)
    for sampler in sorted({*distinct(record, "sampler")} - {DEFAULT}):
        found = {n: values(record, weights, sampler, n) for n in distinct(record, "evaluations")}
        found = {n: each for n, each in found.items() if len(each) == len(default) > 1}
        if found:
            lowest = min(found, key=lambda n: found[n].mean())
            change = interval_of_differences(found[lowest], default)
            yield (
                f"- `{sampler}` is lowest with {lowest} evaluations: {change.mean:+.2f} "
                f"({change.low:+.2f} to {change.high:+.2f}) against `{DEFAULT}` with "
                f"{DEFAULT_STEPS}."
            )


def what_is(record, sampler):
    """How a sampler was made, whatever its number of steps."""
    made = next((row["is"] for row in record["rows"] if row["sampler"] == sampler), None)
    return "not measured" if made is None else f"`{re.sub('steps=[0-9]+', 'steps=N', made)}`"


def draw(record):
    """The distance of every sampler against evaluations: a figure, with a panel a weight set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ddpm_keras.report.analysis import interval

    weight_sets = distinct(record, "weights")
    figure = Figure(figsize=(4.8 * len(weight_sets), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(weight_sets), squeeze=False)[0]
    for axis, weights in zip(axes, weight_sets, strict=True):
        lowest = np.inf
        for sampler in sorted(distinct(record, "sampler")):
            found = {n: values(record, weights, sampler, n) for n in EVALUATIONS}
            points = {n: interval(each) for n, each in found.items() if len(each)}
            whiskers = [point.mean - (point.low or point.mean) for point in points.values()]
            means = [point.mean for point in points.values()]
            lowest = min([lowest, *means])
            axis.errorbar(list(points), means, whiskers, fmt="o-", ms=3, capsize=3, label=sampler)
        axis.set(xscale="log", yscale="log", xlabel="evaluations of the network", title=weights)
        axis.set_xticks(EVALUATIONS, list(map(str, EVALUATIONS)))
        axis.minorticks_off()
        axis.set_ylim(bottom=lowest / 2)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("distance (lower is better)")
    axes[0].legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(main())
