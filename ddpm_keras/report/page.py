"""report.html: one self-contained page that says which weights to use and why.

Pictures and figures are part of the file, nothing is fetched. The same figures as PNG and the same
numbers as CSV are written into `report/` beside it.
"""

import base64
import csv
import io
import os
import time
from pathlib import Path

from .. import checksums, files, names
from ..version import __version__
from . import analysis, card, changes, figures, figures_compared, picture, tables, template, words


def write(run):
    """Writes the report of a run, and its model card where it has a network to ship.

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
    shown = tables.of_run(record)
    _write_beside(run.report_folder, pictures, shown)
    page = template.get("report.html.j2").render(
        record=record,
        summary=words.summary(record),
        protocol=words.protocol(record, record.verdict.average) if record.verdict.average else "",
        tables=shown,
        figures=pictures,
        samples=samples,
        real=_real(record),
        changed=_changed(record, _chosen(record, samples)),
        nearest=_nearest(record),
        chosen=_chosen(record, samples),
        definitions=words.definitions(record.metric, record.windows),
        settings=_settings(record.config),
        dates=_dates(record),
        colours=picture.colour_variables(),
        version=__version__,
    )
    files.write_text(run.report, page)
    card.write(run)
    return run.report


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
    beside = Path(os.path.normpath(records[0].path / os.pardir))  # of "." too
    out = beside / "comparison.html" if out is None else Path(out)
    pictures, shown = figures_compared.draw(records), tables.of_comparison(records)
    _write_beside(out.with_suffix(""), pictures, shown)
    page = template.get("comparison.html.j2").render(
        records=records,
        summary=words.comparison_summary(records),
        samples=_last_samples(records),
        tables=shown,
        figures=pictures,
        definitions=words.definitions(analysis.metrics_of(records)),
        dates=_dates(),
        colours=picture.colour_variables(),
        version=__version__,
    )
    files.write_text(out, page)
    return out


def _write_beside(folder, pictures, tables):
    """Writes figures and tables; what an earlier report wrote and this one has not is removed."""
    written = [f"{each.name}.png" for each in pictures] + [f"{each['name']}.csv" for each in tables]
    for name in set(_written(folder)) - set(written):
        (folder / name).unlink(missing_ok=True)
    files.write_record(folder / names.WRITTEN, {"files": written})
    for each in pictures:
        with files.atomic_path(folder / f"{each.name}.png") as temporary:
            each.png(temporary)
    for table in tables:
        with files.atomic_path(folder / f"{table['name']}.csv") as temporary:
            how = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
            with open(temporary, "w", **how) as file:
                writer = csv.writer(file)
                writer.writerow(["weights", *table["columns"]])
                for name, cells in table["rows"]:
                    writer.writerow([name, *cells])


def _written(folder):
    """The names of the files that an earlier report wrote into a folder, as far as is known."""
    try:
        known = files.read_record(folder / names.WRITTEN)["files"]
        return [name for name in known if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _samples(record):
    """Pictures for the slider: epochs, weight sets, and PNG data by [epoch][weight set]."""
    pictures = record.pictures()
    sets = [
        name for name in record.weight_sets if pictures and name in next(iter(pictures.values()))
    ]
    if not sets:
        return None
    return {
        "epochs": list(pictures),
        "sets": sets,
        "images": [[_base64(paths[name]) for name in sets] for paths in pictures.values()],
    }


def _real(record):
    """The PNG of real images, or None where a run of an older version has none."""
    path = record.run.samples / names.REAL_PICTURE
    return _base64(path) if path.is_file() and checksums.is_whole(path) else None


def _changed(record, chosen):
    """What `changes.most_changed` finds of the last epoch: a dict, or None."""
    shape = record.config.get("data", {}).get("image_shape")
    last = next(iter(record.pictures(most=1).values()), {})
    if not shape or chosen == names.RAW or not {names.RAW, chosen} <= last.keys():
        return None
    found = changes.most_changed(last[names.RAW], last[chosen], shape[:2])
    if found is None:
        return None
    places, rows = found
    titles = (names.RAW, chosen, "difference (white: none)")
    return {"places": places, "rows": list(zip(titles, map(_png, rows), strict=True))}


def _nearest(record):
    """Pictures of the samples nearest to training images: list of (weight set, caption, PNG)."""
    evaluation = record.evaluation
    if not evaluation:
        return []
    folder = record.run.features
    paths = {name: folder / names.nearest(name, evaluation.key) for name in evaluation.weights}
    return [
        (name, words.copying(name, evaluation.weights[name]), _base64(path))
        for name, path in paths.items()
        if path.is_file() and checksums.is_whole(path)
    ]


def _last_samples(records):
    """The last pictures of the first run of each group: list of (heading, [(caption, PNG)]).

    Those of each weight set, then real images where the run has their picture.
    """
    found = []
    for label, runs in analysis.groups(records).items():
        pictures = runs[0].pictures(most=1)
        for epoch, paths in pictures.items():
            shown = [(name, _base64(path)) for name, path in paths.items()]
            if real := _real(runs[0]):
                shown.append(("real images, held out of training", real))
            found.append((f"{label}: {runs[0].name}, epoch {epoch}", shown))
    return found


def _chosen(record, samples):
    """The weight set shown beside raw at first: the best average with a picture, else the last."""
    if samples is None:
        return None
    numbers = record.measured()
    known = [name for name in samples["sets"][1:] if name in numbers]
    return min(known, key=numbers.get, default=samples["sets"][-1])


def _dates(record=None):
    """When the run began and was evaluated, and the day of this page: dict of what is known."""
    known = {}
    if record is not None:
        known["run begun"] = record.config.get("begun", "").replace("T", " ")
        known["evaluated"] = (record.evaluation.time if record.evaluation else "").replace("T", " ")
    known["this page written"] = time.strftime("%Y-%m-%d")
    return {name: value for name, value in known.items() if value}


def _png(image):
    """A `PIL.Image` as base64 of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def _base64(path):
    return base64.b64encode(path.read_bytes()).decode()


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
