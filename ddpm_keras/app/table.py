"""An evaluation as text, for the terminal."""

from .. import names, quality
from ..quality import metrics
from ..report import words
from . import invocation


def text(evaluations):
    """The newest of `Evaluations` as text, the verdict, and what was measured in another way."""
    return "\n".join([rows(evaluations.current), *_told(evaluations)])


def rows(evaluation):
    """An `Evaluation` as text: a line a weight set, and what real images score."""
    reference = evaluation.reference
    lines = [
        f"{evaluation.metric}, of {evaluation.num_images:,} generated images (less is better)",
        *_aligned([["weights", *evaluation.weights], *_columns(evaluation)]),
    ]
    if reference.floor_frechet is not None:
        held_out = f"{reference.num_held_out:,} held-out real images"
        at_n = ""
        if reference.floor is not None:
            at_n = f"; {evaluation.num_images:,} would be at {reference.floor:.2f}"
        found = f"{reference.floor_frechet:.2f} from train{at_n}"
        lines.append(f"For comparison, {held_out} are at {found}.")
    for name, row in evaluation.weights.items():
        if row.bits_per_dim is not None:
            bits = f"{row.bits_per_dim:.3f} ± {row.bits_per_dim_error:.3f}"
            lines.append(f"{name}: {bits} bits per dimension, held-out images")
    return "\n".join([*lines, *evaluation.notes])


def _columns(evaluation):
    """The columns of what was measured: a list of the heading and a cell for each weight set."""
    headings = evaluation.headings
    for key, number in metrics.shown_numbers().items():
        scale = f" x {number.scale}" if number.scale != 1 else ""
        cells = [
            number.text(getattr(row, key), number.spread and getattr(row, number.spread))
            for row in evaluation.weights.values()
        ]
        if any(cells):
            yield [headings[key] + scale, *cells]


def _aligned(columns):
    """Lines of columns, the first flush left, the others flush right."""
    widths = [max(map(len, column)) + 2 for column in columns]
    for cells in zip(*columns, strict=True):
        first, *others = zip(cells, widths, strict=True)
        yield f"{first[0]:<{first[1]}}" + "".join(f"{cell:>{width}}" for cell, width in others)


def tuned(tuning, run):
    """A `quality.Tuning` as text: what was found, how sure it is, and how to draw with it.

    Args:
        tuning: of the run.
        run: a `Run`.
    """
    best, title = tuning.best, tuning.number.title
    found = _settings(tuning, run)
    lines = [
        f"Best of {len(tuning.trials)} tried: {', '.join(map(' '.join, found.items()))}. {title} "
        f"{best.value:.4g} of the images that it was chosen on (seed {tuning.seed}), "
        f"{tuning.judged:.4g} of others (seed {tuning.judged_seed})."
    ]
    if tuning.at_an_end:
        lines.append("It is at an end of the widths tried: a better one may lie beyond.")
    lines.append(f"Draw with it: {invocation.command('sample', run.path, *words.typed(found))}")
    return "\n".join(lines)


def _settings(tuning, run):
    """What draws with the best width, as options of sample.py: dict name -> text."""
    best = tuning.best
    settings = {"sigma-rel": names.number(best.sigma_rel)} | tuning.options
    settings |= words.guidance(tuning, best.guidance)
    if tuning.step is not None and tuning.step < max(run.snapshot_steps):
        settings["step"] = str(tuning.step)
    return settings


def _told(evaluations):
    """The verdict, and what else is known, a line each."""
    found, judged = quality.verdict.of_run(evaluations)
    elsewhere = f"Of {judged.way}: " if judged is not evaluations.current else ""
    lines = [f"{elsewhere}{found.sentence}"] if found.raw is not None else []
    if found.average in judged.protocols:
        lines.append(f"To be quoted with it: {judged.protocols[found.average]}.")
    lines += [
        f"Measured in another way, so kept apart: {', '.join(each.weights)} ({each.way})."
        for each in evaluations.apart
    ]
    return lines
