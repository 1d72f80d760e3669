"""The tables of a report: dicts of name, title, columns, rows as (weight set, cells), and note.

A table with "shown" has so many columns on the page; the others, which are in its CSV, are the same
in every row, and the note tells them.
"""

from ..quality import metrics
from . import analysis, stability

# What the numbers of an evaluation were got with, shown beside them.
_SETTINGS = {"num_images": "images", "extractor": "features", "sampler": "sampler", "seed": "seed"}
_CURVES = {"val_loss": "Validation loss", "quality": "Fréchet distance during training"}
_COMPARED_MEASURES = ("final", "best", "variation", "steps_to_10_percent", "steps_to_2_percent")
_RUN_COLUMNS = {
    **{"frechet": "to real images", "frechet_held_out": "to held-out images"},
    **{"num_images": "images", "extractor": "features"},
}
_INTERVAL_COLUMNS = (
    *("mean", "mean: 95% low", "mean: 95% high"),
    *("raw minus it", "difference: 95% low", "difference: 95% high"),
)
_GROUP_NOTE = (
    "Runs that differ by the seed alone are one group; intervals are Student's t over runs, and "
    "those of differences are paired by run."
)


def of_run(record):
    """Every table for which a run holds the numbers, in reading order."""
    return [*_of_evaluations(record), *_of_stability(record), *_of_loss(record)]


def of_comparison(records):
    """The tables of several runs for which they hold the numbers."""
    tables = [_of_groups(records), *_of_stability_over_seeds(records), _of_runs(records)]
    return [table for table in tables if table["rows"]]


def _of_evaluations(record):
    """What was evaluated: in one way, and in every other way apart."""
    if not record.evaluation:
        return
    yield _evaluation_table("quality", "Quality of every weight set", record.evaluation)
    known = [record.evaluations.current, *record.evaluations.apart]
    for i, each in enumerate(each for each in known if each is not record.evaluation):
        yield _evaluation_table(f"quality_{i + 2}", "Quality, measured in another way", each)


def _evaluation_table(name, title, evaluation):
    columns = evaluation.headings | _SETTINGS
    numbers = metrics.shown_numbers().values()
    higher = " and ".join(each.title for each in numbers if not each.lower_is_better)
    return {
        "name": name,
        "title": title,
        "columns": list(columns.values()),
        "rows": [
            (weights, [getattr(each, key) for key in columns])
            for weights, each in evaluation.weights.items()
        ],
        "note": " ".join(
            [
                f"Measured: {evaluation.way}. Lower is better, but for {higher}. "
                "Every weight set was sampled from the same noise.",
                *evaluation.notes,
            ]
        ),
        "shown": len(evaluation.headings),
    }


def _of_stability(record):
    for what, title in _CURVES.items():
        summaries = analysis.stability_table(record, what)
        if summaries:
            yield {
                "name": f"stability_{what}",
                "title": f"{title}: stability and convergence",
                "columns": list(stability.COLUMNS.values()),
                "rows": [
                    (name, [summary.as_dict()[key] for key in stability.COLUMNS])
                    for name, summary in summaries.items()
                ],
                "note": (f"{record.monitored}. " if what == "quality" else "")
                + "Each number's formula is under “What the numbers mean”.",
            }


def _of_loss(record):
    found = analysis.loss_stability(record)
    if found["variance"] is None:
        return
    yield {
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


def _interval_cells(*intervals):
    """Mean and both ends of each `Interval`, empty where there is none."""
    return [getattr(each, part, None) for each in intervals for part in ("mean", "low", "high")]


def _of_groups(records):
    rows = []
    for label, runs in analysis.groups(records).items():
        table = analysis.quality_across_seeds(runs)
        for weights, (found, paired) in table.items():
            cells = [label, found.count, *_interval_cells(found, paired)]
            rows.append((weights, cells))
    return {
        "name": "quality_by_group",
        "title": "Quality, over seeds",
        "columns": ["settings", "runs", *_INTERVAL_COLUMNS],
        "rows": rows,
        "note": f"Measured: {analysis.ways_of_groups(records)}. {_GROUP_NOTE}",
    }


def _of_stability_over_seeds(records):
    """Every stability measure of every curve, grouped like the quality."""
    for what, title in _CURVES.items():
        rows = [
            (weights, [label, stability.COLUMNS[key], found.count, *_interval_cells(found, paired)])
            for label, runs in analysis.groups(records).items()
            for key in _COMPARED_MEASURES
            for weights, (found, paired) in analysis.stability_across_seeds(runs, what, key).items()
        ]
        yield {
            "name": f"stability_{what}_by_group",
            "title": f"{title}: stability and convergence, over seeds",
            "columns": ["settings", "measure", "runs", *_INTERVAL_COLUMNS],
            "rows": rows,
            "note": (f"{analysis.monitored_of(records)}. " if what == "quality" else "")
            + _GROUP_NOTE,
        }


def _of_runs(records):
    rows = []
    for record in records:
        for name, values in (record.evaluation.weights if record.evaluation else {}).items():
            seed = record.config.get("options", {}).get("seed")
            cells = [record.name, seed, record.evaluation.step or record.last_step]
            rows.append((name, [*cells, *(getattr(values, key) for key in _RUN_COLUMNS)]))
    return {
        "name": "runs",
        "title": "Every run",
        "columns": ["run", "training seed", "steps", *_RUN_COLUMNS.values()],
        "rows": rows,
        "note": f"Distances are: {analysis.metrics_of(records)}.",
    }
