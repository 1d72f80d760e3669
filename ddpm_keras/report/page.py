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

from .. import files
from ..version import __version__
from . import analysis, figures, stability

_EVALUATION_COLUMNS = {
    "fid": "to training images",
    "fid_held_out": "to held-out images",
    "kid": "KID",
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


def write(run_dir):
    """Writes the report of a run.

    Args:
        run_dir: a run directory with config.json. Whatever else it holds (history.csv,
            evaluation.json, samples/, trajectory.npz) is reported; what is missing is left out.

    Returns:
        Path of `report.html` in the run directory.

    Raises:
        UsageError: `run_dir` is not a run directory.
    """
    record = analysis.RunRecord(run_dir)
    pictures, samples = figures.draw(record), _samples(record)
    tables = [_evaluation_table(record), *_stability_tables(record), _loss_table(record)]
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


def write_comparison(run_dirs, out=None):
    """Writes a page that compares runs: seeds together, settings side by side.

    Args:
        run_dirs: at least two run directories.
        out: path of the page; None is `comparison.html` beside the first run. Figures and CSV go
            to a folder beside it that has its name without suffix.

    Returns:
        Path of the page.

    Raises:
        UsageError: one of them is not a run directory.
        ValueError: fewer than two runs.
    """
    out = Path(run_dirs[0]).parent / "comparison.html" if out is None else Path(out)
    records = [analysis.RunRecord(path) for path in run_dirs]
    if len(records) < 2:
        raise ValueError(f"A comparison needs at least two runs; got {len(records)}.")
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
    """The answer: dict of "advice", "evidence" and "reason", each a sentence or two."""
    found = analysis.verdict(record)
    if found.weights is None:
        return {
            "advice": "Nothing has been measured yet.",
            "evidence": f"Evaluate the weights: {_command(record, 'evaluate')} {record.path}",
            "reason": "",
            "use": "",
        }
    return {
        "advice": _advice(found),
        "evidence": _evidence(record, found),
        "reason": _reason(record, found),
        "use": _use(record, found.weights),
    }


def _advice(found):
    if found.weights == "raw":
        return "Use the raw weights: no average is better in this run."
    if not found.clear:
        return (
            f"Raw weights and averages are about equally good here; {found.weights} has the lowest "
            "number, by less than chance may give."
        )
    return f"Use the averaged weights {found.weights} rather than the raw ones."


def _evidence(record, found):
    if found.by == "validation loss":
        return (
            f"Its validation loss at step {number(record.last_step)} is {number(found.value)}; the "
            f"raw weights have {number(found.raw)}. Sample quality has not been evaluated."
        )
    row = record.evaluation["weights"][found.weights]
    text = (
        f"{record.metric}, of {number(row['num_images'])} generated images to the training images "
        f"(lower is better): {found.weights} {number(found.value)}"
    )
    if found.weights == "raw":
        others = {k: v for k, v in record.distances().items() if k != "raw"}
        best = min(others, key=others.get)
        text += f", against {number(others[best])} of the best average, {best}."
        low, high = analysis.difference_to_raw(record, best)
        if high is not None:
            text += f" Its difference to raw: 95% interval {number(low)} to {number(high)}."
    else:
        text += f", raw {number(found.raw)}: {found.gain:.1f} times closer to real images."
    if found.low is not None:
        text += f" Difference to raw: 95% interval {number(found.low)} to {number(found.high)}."
    floor = record.evaluation.get("reference", {}).get("floor_fid")
    if floor is not None:
        text += f" Real images that were held out are at {number(floor)}."
    return text


def _reason(record, found):
    if found.weights != "raw" and found.clear:
        return (
            "Training never settles: every step moves the weights by the noise of its batch. The "
            "average of many steps has less of that noise, and is nearer to where training heads."
        )
    late = {name: record.initial_share(name) for name in record.weight_sets if name != "raw"}
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
    steps, values = record.curve("val_loss_raw")
    if len(steps) < 2:
        return None
    before = np.interp(0.75 * steps[-1], steps, values)
    return float(1 - values[-1] / before) if before > 0 else None


def _use(record, name):
    """How to get the advised weights: a command or, for synthesised ones, a call."""
    for prefix, argument in (("posthoc_sigma_", "sigma_rel"), ("posthoc_ema_", "decay")):
        if name.startswith(prefix):
            value = name.removeprefix(prefix)
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
        table = analysis.across_seeds(runs, lambda record: record.distances())
        if len(table) < 2:
            continue
        best = min(table, key=lambda name: table[name][0].mean)
        text = f"{label} ({_count(runs)}): {best} is best, {_interval(table[best][0])}"
        paired = table[best][1]
        if paired is not None:
            text += f"; raw minus {best} is {_interval(paired)}"
        lines.append(text + ".")
    return lines or ["Sample quality has not been evaluated; the curves show the validation loss."]


def _count(runs):
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


def _interval(found):
    if found.low is None:
        return number(found.mean)
    return f"{number(found.mean)} (95% interval {number(found.low)} to {number(found.high)})"


# Tables: dicts with name, title, columns, rows as (weight set, cells), and a note


def _evaluation_table(record):
    weights = record.evaluation.get("weights", {})
    if not weights:
        return None
    columns = dict(_EVALUATION_COLUMNS)
    rows = []
    for name, values in weights.items():
        rows.append((name, [values.get(key) for key in columns]))
    titles = list(columns.values())
    position = titles.index("KID") + 1
    titles.insert(position, "KID spread")
    for (_, cells), values in zip(rows, weights.values(), strict=True):
        cells.insert(position, values.get("kid_std"))
    return {
        "name": "quality",
        "title": "Quality of every weight set",
        "columns": titles,
        "rows": rows,
        "note": f"Distances are: {record.metric}. Lower is better, but for precision and recall. "
        "Every weight set was sampled from the same noise.",
    }


_CURVES = {"val_loss_": "Validation loss", "quality_": "Fréchet distance during training"}


def _stability_tables(record):
    for prefix, title in _CURVES.items():
        summaries = analysis.stability_table(record, prefix)
        if summaries:
            yield {
                "name": f"stability_{prefix.strip('_')}",
                "title": f"{title}: stability and convergence",
                "columns": list(_STABILITY_COLUMNS.values()),
                "rows": [
                    (name, [summary.as_dict()[key] for key in _STABILITY_COLUMNS])
                    for name, summary in summaries.items()
                ],
                "note": (f"{record.monitored}. " if prefix == "quality_" else "")
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
        table = analysis.across_seeds(runs, lambda record: record.distances())
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
    for prefix, title in _CURVES.items():
        rows = []
        for label, runs in analysis.groups(records).items():
            for key in ("final", "best", "variation", "steps_to_10_percent", "steps_to_2_percent"):

                def read(record, prefix=prefix, key=key):
                    table = analysis.stability_table(record, prefix)
                    numbers = {name: each.as_dict()[key] for name, each in table.items()}
                    return {name: value for name, value in numbers.items() if value is not None}

                for weights, (found, paired) in analysis.across_seeds(runs, read).items():
                    cells = [*_interval_cells(found), *_interval_cells(paired)]
                    rows.append((weights, [label, _STABILITY_COLUMNS[key], found.count, *cells]))
        yield {
            "name": f"stability_{prefix.strip('_')}_by_group",
            "title": f"{title}: stability and convergence, over seeds",
            "columns": ["settings", "measure", "runs", *_INTERVAL_COLUMNS],
            "rows": rows,
            "note": (f"{records[0].monitored}. " if prefix == "quality_" else "") + _GROUP_NOTE,
        }


def _run_table(records):
    rows = []
    for record in records:
        for name, values in record.evaluation.get("weights", {}).items():
            cells = [record.name, record.config.get("options", {}).get("seed"), record.last_step]
            rows.append((name, [*cells, *(values.get(key) for key in _RUN_KEYS)]))
    return {
        "name": "runs",
        "title": "Every run",
        "columns": ["run", "training seed", "steps", *(_EVALUATION_COLUMNS[k] for k in _RUN_KEYS)],
        "rows": rows,
        "note": f"Distances are: {records[0].metric}.",
    }


_RUN_KEYS = ("fid", "fid_held_out", "num_images", "extractor")


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
    numbers = record.distances()
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
