"""report.html: one self-contained page that says which weights to use and why.

Pictures and figures are part of the file, nothing is fetched. The same figures as PNG and the same
numbers as CSV are written into `report/` beside it.
"""

import base64
import csv
import functools
import math
import re
from pathlib import Path

import jinja2
import numpy as np

from .. import files, names
from ..quality import verdict
from ..version import __version__
from . import analysis, figures, stability

_EVALUATION_COLUMNS = {
    "frechet": "to real images",
    "frechet_held_out": "to held-out images",
    "kid": "KID",
    "kid_std": "KID spread",
    "precision": "precision",
    "recall": "recall",
    "num_images": "images",
    "extractor": "features",
    "sampler": "sampler",
    "seed": "seed",
}
_STABILITY_COLUMNS = {
    "final": "final",
    "best": "best",
    "best_step": "at step",
    "variation": "variation",
    "relative_variation": "relative variation",
    "steps_to_10_percent": "steps to 10% of best",
    "steps_to_2_percent": "steps to 2% of best",
    "steps_to_best_raw": "steps to raw's best",
    "share_above_raw": "share worse than raw",
}


def write(run):
    """Writes the report of a run.

    Args:
        run: an `app.run_directory.Run` with a config.json. Whatever else it holds (history.csv,
            evaluation.json, samples/, trajectory.npz) is reported; what is missing is left out.

    Returns:
        Path of `report.html` in the run directory.

    Raises:
        UsageError: a file of the run is damaged.
    """
    record = analysis.RunRecord(run)
    pictures, samples = figures.draw(record), _samples(record)
    tables = [*_evaluation_tables(record), *_stability_tables(record), _loss_table(record)]
    tables = [table for table in tables if table is not None]
    folder = record.path / "report"
    _write_beside(folder, pictures, tables)
    page = _template("report.html.j2").render(
        record=record,
        summary=_summary(record),
        tables=tables,
        figures=pictures,
        samples=samples,
        chosen=_chosen(record, samples),
        definitions=_definitions(record.metric),
        settings=_settings(record.config),
        version=__version__,
    )
    path = record.path / "report.html"
    files.write_text(path, page)
    return path


def write_comparison(runs, out=None):
    """Writes a page that compares runs: seeds together, settings side by side.

    Args:
        runs: at least two `app.run_directory.Run`s.
        out: path of the page; None is `comparison.html` beside the first run. Figures and CSV go
            to a folder beside it that has its name without suffix.

    Returns:
        Path of the page.

    Raises:
        UsageError: a file of a run is damaged.
        ValueError: fewer than two runs.
    """
    records = list(map(analysis.RunRecord, runs))
    if len(records) < 2:
        raise ValueError(f"A comparison needs at least two runs; got {len(records)}.")
    out = records[0].path.parent / "comparison.html" if out is None else Path(out)
    pictures = figures.draw_comparison(records)
    tables = [_group_table(records), *_stability_over_seeds(records), _run_table(records)]
    tables = [table for table in tables if table["rows"]]
    _write_beside(out.with_suffix(""), pictures, tables)
    page = _template("comparison.html.j2").render(
        records=records,
        summary=_comparison_summary(records),
        samples=_last_samples(records),
        tables=tables,
        figures=pictures,
        definitions=_definitions(records[0].metric),
        version=__version__,
    )
    files.write_text(out, page)
    return out


@functools.cache
def _environment():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm_keras.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    return environment


def _template(name):
    return _environment().get_template(name)


def number(value):
    """A value as a reader wants it: four digits, thousands apart; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _write_beside(folder, pictures, tables):
    for picture in pictures:
        with files.atomic_path(folder / f"{picture.name}.png") as temporary:
            picture.png(temporary)
    for table in tables:
        with files.atomic_path(folder / f"{table['name']}.csv") as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["weights", *table["columns"]])
                for name, cells in table["rows"]:
                    writer.writerow([name, *cells])


# Words


def _summary(record):
    """The answer: dict of "advice", "evidence", "reason" and "use", each a sentence or two."""
    if record.evaluation:
        found = record.verdict
        return {
            "advice": _ADVICE[_case(found)].format(found.average or names.RAW),
            "evidence": _evidence(record),
            "reason": _reason(record) if found.difference else "",
            "use": _use(record, found.weights),
        }
    losses = analysis.by_validation_loss(record)
    evaluate = f"{_command(record, 'evaluate')} {record.path}"
    if not losses:
        return {
            "advice": "Nothing has been measured yet.",
            "evidence": f"Evaluate the weights: {evaluate}",
            "reason": "",
            "use": "",
        }
    best, raw = next(iter(losses)), losses.get(names.RAW)
    beside = "" if raw is None else f"; the raw weights have {number(raw)}"
    return {
        "advice": f"By the validation loss alone, {best} is ahead.",
        "evidence": f"Its validation loss at step {number(record.last_step)} is "
        f"{number(losses[best])}{beside}. Sample quality has not been evaluated: {evaluate}",
        "reason": "",
        "use": _use(record, best),
    }


_ADVICE = {
    verdict.BETTER: "Use the averaged weights {} rather than the raw ones.",
    verdict.WORSE: "Use the raw weights: no average is better in this run.",
    verdict.CHANCE: "Raw weights and averages are about equally good here: the difference between "
    "raw and {}, the best average, is within chance.",
    verdict.UNDECIDED: "Whether {} is better than the raw weights cannot be told: there is no "
    "interval of the difference.",
    "alone": "Only {} was evaluated in this way, so there is nothing to compare it with.",
}


def _case(found):
    """Which advice a verdict calls for."""
    return "alone" if None in (found.average, found.raw) else found.outcome


def _evidence(record):
    evaluation = record.evaluation
    text = (
        f"{record.metric}, of {number(evaluation.num_images)} generated images "
        f"{_to(evaluation.reference)} (lower is better): {record.verdict.sentence}"
    )
    floor = evaluation.reference.floor_frechet
    if floor is not None:
        text += f" Real images that were held out are at {number(floor)}."
    return text


def _to(reference):
    """What the distance is measured to, in words."""
    real = {"train": "training images", "held-out": "held-out images"}
    return f"to {real.get(reference.split, reference.split)}"


def _reason(record):
    if record.verdict.outcome == verdict.BETTER:
        return (
            "Training never settles: every step moves the weights by the noise of its batch. The "
            "average of many steps has less of that noise, and is nearer to where training heads."
        )
    averages = [name for name in record.weight_sets if name != names.RAW]
    late = {name: record.initial_share(name) for name in averages}
    late = {name: share for name, share in late.items() if share is not None and share > 0.01}
    if late:
        name = max(late, key=late.get)
        return (
            f"The run is short for {name}: {late[name]:.0%} of it are still the weights before "
            "training. A longer run, a smaller decay or a warm-up of the decay would help."
        )
    drop = _recent_drop(record)
    if drop is not None and drop > 0.05:
        return (
            f"Training is still fast: the validation loss of the raw weights fell by {drop:.0%} in "
            "the last quarter of the run, and an average lags behind. Averages gain in longer runs."
        )
    return (
        "An average gains by the jitter of the raw weights, which a small or falling learning rate "
        "leaves little of."
    )


def _recent_drop(record):
    """Share by which the raw validation loss fell in the last quarter of the run, or None."""
    steps, values = record.curve(names.column("val_loss", names.RAW))
    if len(steps) < 2:
        return None
    before = np.interp(0.75 * steps[-1], steps, values)
    return float(1 - values[-1] / before) if before > 0 else None


def _use(record, name):
    """How to get the advised weights: a command or, for synthesised ones, a call."""
    if synthesised := names.synthesis(name):
        argument, value = synthesised
        return f'ddpm_keras.posthoc.synthesize("{record.path}", {argument}={value})'
    return f"{_command(record, 'sample')} {record.path} --weights {name}"


def _command(record, job):
    """How `job` is called where the run was trained: from a checkout, or installed."""
    installed = re.match("(ddpm-keras|python -m ddpm_keras) ", record.config.get("command", ""))
    return f"{installed[0]}{job}" if installed else f"python {job}.py"


def _comparison_summary(records):
    """One sentence for each group of runs."""
    lines = []
    for label, runs in analysis.groups(records).items():
        found = analysis.verdict_across_seeds(analysis.quality_across_seeds(runs))
        if not analysis.measured_alike(runs):
            lines.append(
                f"{label} ({_count(runs)}): evaluated in different ways, so their numbers are not "
                "put together; evaluate them alike."
            )
        if found.sentence:
            lines.append(f"{label} ({_count(runs)}): {found.sentence}")
    return lines or ["Sample quality has not been evaluated; the curves show the validation loss."]


def _count(runs):
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


# Tables: dicts with name, title, columns, rows as (weight set, cells), and a note


def _evaluation_tables(record):
    """What was evaluated: in one way, and in every other way apart."""
    if not record.evaluation:
        return
    yield _evaluation_table("quality", "Quality of every weight set", record.evaluation)
    known = [record.evaluations.current, *record.evaluations.apart]
    for i, each in enumerate(each for each in known if each is not record.evaluation):
        yield _evaluation_table(f"quality_{i + 2}", "Quality, measured in another way", each)


def _evaluation_table(name, title, evaluation):
    held_out = evaluation.reference.split == "held-out"
    to = "to these held-out images" if held_out else _to(evaluation.reference)
    return {
        "name": name,
        "title": title,
        "columns": list((_EVALUATION_COLUMNS | {"frechet": to}).values()),
        "rows": [
            (weights, [getattr(each, key) for key in _EVALUATION_COLUMNS])
            for weights, each in evaluation.weights.items()
        ],
        "note": f"Measured: {evaluation.way}. Lower is better, but for precision and recall. "
        "Every weight set was sampled from the same noise.",
    }


_CURVES = {"val_loss": "Validation loss", "quality": "Fréchet distance during training"}


def _stability_tables(record):
    for what, title in _CURVES.items():
        summaries = analysis.stability_table(record, what)
        if summaries:
            yield {
                "name": f"stability_{what}",
                "title": f"{title}: stability and convergence",
                "columns": list(_STABILITY_COLUMNS.values()),
                "rows": [
                    (name, [summary.as_dict()[key] for key in _STABILITY_COLUMNS])
                    for name, summary in summaries.items()
                ],
                "note": (f"{record.monitored}. " if what == "quality" else "")
                + "Each number's formula is under “What the numbers mean”.",
            }


def _loss_table(record):
    found = analysis.loss_stability(record)
    if found["variance"] is None:
        return None
    return {
        "name": "stability_loss",
        "title": "Training loss: noise",
        "columns": ["log rows", "window", "median variance", "last variance", "spikes"],
        "rows": [
            (
                "raw",
                [found[k] for k in ("rows", "window", "variance", "last_variance", "spikes")],
            )
        ],
        "note": "Only the raw weights are trained, so only they have a training loss.",
    }


def _interval_cells(found):
    return [None] * 3 if found is None else [found.mean, found.low, found.high]


def _group_table(records):
    rows = []
    for label, runs in analysis.groups(records).items():
        table = analysis.quality_across_seeds(runs)
        for weights, (found, paired) in table.items():
            cells = [label, found.count, *_interval_cells(found), *_interval_cells(paired)]
            rows.append((weights, cells))
    return {
        "name": "quality_by_group",
        "title": "Quality, over seeds",
        "columns": ["settings", "runs", *_INTERVAL_COLUMNS],
        "rows": rows,
        "note": f"{records[0].metric}. {_GROUP_NOTE}",
    }


_INTERVAL_COLUMNS = (
    *("mean", "mean: 95% low", "mean: 95% high"),
    *("raw minus it", "difference: 95% low", "difference: 95% high"),
)
_GROUP_NOTE = (
    "Runs that differ by the seed alone are one group; intervals are Student's t over runs, and "
    "those of differences are paired by run."
)


def _stability_over_seeds(records):
    """Every stability measure of every curve, grouped like the quality."""
    for what, title in _CURVES.items():
        rows = []
        for label, runs in analysis.groups(records).items():
            for key in ("final", "best", "variation", "steps_to_10_percent", "steps_to_2_percent"):

                def read(record, what=what, key=key):
                    table = analysis.stability_table(record, what)
                    numbers = {name: each.as_dict()[key] for name, each in table.items()}
                    return {name: value for name, value in numbers.items() if value is not None}

                for weights, (found, paired) in analysis.across_seeds(runs, read).items():
                    cells = [*_interval_cells(found), *_interval_cells(paired)]
                    rows.append((weights, [label, _STABILITY_COLUMNS[key], found.count, *cells]))
        yield {
            "name": f"stability_{what}_by_group",
            "title": f"{title}: stability and convergence, over seeds",
            "columns": ["settings", "measure", "runs", *_INTERVAL_COLUMNS],
            "rows": rows,
            "note": (f"{records[0].monitored}. " if what == "quality" else "") + _GROUP_NOTE,
        }


def _run_table(records):
    rows = []
    for record in records:
        for name, values in (record.evaluation.weights if record.evaluation else {}).items():
            cells = [record.name, record.config.get("options", {}).get("seed"), record.last_step]
            rows.append((name, [*cells, *(getattr(values, key) for key in _RUN_KEYS)]))
    return {
        "name": "runs",
        "title": "Every run",
        "columns": ["run", "training seed", "steps", *(_EVALUATION_COLUMNS[k] for k in _RUN_KEYS)],
        "rows": rows,
        "note": f"Distances are: {records[0].metric}.",
    }


_RUN_KEYS = ("frechet", "frechet_held_out", "num_images", "extractor")


# Parts of the page


def _samples(record):
    """Pictures for the slider: epochs, weight sets, and PNG data by [epoch][weight set]."""
    pictures = record.pictures()
    names = [
        name for name in record.weight_sets if pictures and name in next(iter(pictures.values()))
    ]
    if not names:
        return None
    return {
        "epochs": list(pictures),
        "sets": names,
        "images": [[_base64(paths[name]) for name in names] for paths in pictures.values()],
    }


def _last_samples(records):
    """The last pictures of the first run of each group: list of (heading, [(weight set, PNG)])."""
    found = []
    for label, runs in analysis.groups(records).items():
        pictures = runs[0].pictures(most=1)
        for epoch, paths in pictures.items():
            shown = [(name, _base64(path)) for name, path in paths.items()]
            found.append((f"{label}: {runs[0].name}, epoch {epoch}", shown))
    return found


def _chosen(record, samples):
    """The weight set shown beside raw at first: the best average with a picture, else the last."""
    if samples is None:
        return None
    numbers = record.measured()
    known = [name for name in samples["sets"][1:] if name in numbers]
    return min(known, key=numbers.get, default=samples["sets"][-1])


def _base64(path):
    return base64.b64encode(path.read_bytes()).decode()


def _definitions(metric):
    """What every number means: list of (term, formula, meaning)."""
    names = _STABILITY_COLUMNS | {"variance": "variance", "spikes": "spikes"}
    found = [(names[key], *text) for key, text in stability.DEFINITIONS.items()]
    return [
        (
            "raw weights, average (EMA)",
            "ema ← ema + (1 - beta) (raw - ema) after each step",
            "The raw weights are those that training moves. An average follows them, forgetting "
            "old weights at the rate 1 - beta: ema_0.999 is about the mean of the last 1,000.",
        ),
        (
            metric,
            "|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)",
            "Distance between the features of generated and of real images, by their means and "
            "covariances. It depends on the feature network and the number of images: compare it "
            "only with numbers of the same kind.",
        ),
        (
            "KID",
            "unbiased MMD² with the kernel (x·y / d + 1)³",
            "Another distance between features, without bias by the number of images; it may be "
            "negative. Its spread is the standard deviation over subsets.",
        ),
        (
            "precision, recall",
            "shares of points within the k-th neighbour radius of the other set, k = 3",
            "Precision: how many generated images look real. Recall: how many real images the "
            "generator could have made.",
        ),
        *found,
    ]


def _settings(config):
    """Configuration as sections of (name, value)."""
    sections = {}
    for title in ("options", "data", "versions"):
        values = config.get(title, {})
        if values:
            sections[title] = [(key, _plain(value)) for key, value in values.items()]
    return sections


def _plain(value):
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
