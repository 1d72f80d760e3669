"""What a report says in words: the answer, its evidence and its reason, and what numbers mean."""

import math
import re
import shlex

import numpy as np

from .. import files, names
from ..quality import metrics, verdict
from ..quality import protocol as protocols
from . import analysis, stability


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


def summary(record):
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
    evaluate = command(record, "evaluate", record.path)
    if not losses:
        return {
            "advice": "Nothing has been measured yet.",
            "evidence": f"Evaluate the weights: {evaluate}",
            "reason": "",
            "use": "",
        }
    best, raw = next(iter(losses)), losses.get(names.RAW)
    beside = f"; the raw weights have {number(raw)}" if raw and best != names.RAW else ""
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
        f"to {evaluation.reference.images} (lower is better): {record.verdict.sentence}"
    )
    floor = evaluation.reference.floor_frechet
    if floor is not None:
        text += f" Real images that were held out are at {number(floor)}{_fewer(evaluation)}."
    if evaluation.reference.floor is not None:
        text += f" As many as were generated would be at {number(evaluation.reference.floor)}."
    if record.since:
        text += (
            f" That was at step {number(record.since)}, and the run has come to step "
            f"{number(record.last_step)} since: {command(record, 'evaluate', record.path)}"
        )
    return text


def _fewer(evaluation):
    """A caveat where fewer held-out images than generated ones were measured."""
    count = evaluation.reference.num_held_out
    if not count or count >= evaluation.num_images:
        return ""
    return f" ({number(count)} of them; the fewer the images, the larger the distance)"


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
    """The command that draws with the advised weights as they were measured, guided or not.

    "" where one of them is not stored any more.
    """
    step, run = record.since, record.run
    options = {"weights": name}
    if record.evaluation:
        measured = next(iter(record.evaluation.weights.values()))
        options |= record.evaluation.options | guidance(measured, measured.guidance)
    for option in {"weights", "guide"} & options.keys() if step is not None else ():
        plain, _ = names.split_step(options[option])
        if step not in (run.snapshot_steps if names.synthesis(plain) else run.checkpoint_steps):
            return ""
        options[option] = names.at_step(plain, step)
    return command(record, "sample", record.path, *typed(options))


def guidance(how, scale):
    """The options of sample.py by which images are guided as they were, a dict name -> text.

    Args:
        how: a `quality.Measurement` or a `quality.Tuning`.
        scale: the strength; None and 1 are none.
    """
    if scale in (None, 1):
        return {}
    found = {"guidance": names.number(scale)}
    found |= {"guide": how.guide} if how.guide else {}
    if how.guidance_rescale:
        found["guidance-rescale"] = names.number(how.guidance_rescale)
    if how.guidance_high:
        found["guidance-interval"] = f"{how.guidance_low} {how.guidance_high}"
    return found


def typed(options):
    """Options, a dict name -> text of one value or several, as words of a command line."""
    return [word for name, text in options.items() for word in (f"--{name}", *text.split())]


def protocol(record, name):
    """How an average was made and measured, in one line: what numbers of it are to be quoted with.

    Args:
        record: an `analysis.RunRecord`.
        name: a weight set.

    Returns:
        Rule, effective window and step; and, where it was measured, metric, N, sampler and seed.
    """
    measured = record.evaluation
    if measured and name in measured.protocols:
        return measured.protocols[name]
    known = measured and name in measured.weights
    return made(record, name, record.last_step, measured.way if known else None)


def made(record, name, step, way=None):
    """How an average was made, in one line, as it is at a step of the run.

    Args:
        record, name: as of `protocol`.
        step: optimizer steps.
        way: how it was measured, in words, if it was.
    """
    rule = record.config.get("averages", {}).get(name, "")
    way = way or f"step {number(step)}"
    return protocols.line(name, rule, record.window(name, step), way)


def command(record, job, *arguments):
    """How `job` is called where the run was trained, from a checkout or installed; as typed."""
    installed = re.match("(ddpm-keras|python -m ddpm_keras) ", record.config.get("command", ""))
    program = f"{installed[0]}{job}" if installed else f"python {job}.py"
    return f"{program} {shlex.join(map(files.typed, arguments))}"


def comparison_summary(records):
    """One sentence for each group of runs, and whether numbers of several may be compared."""
    lines, groups = [], analysis.groups(records)
    for label, runs in groups.items():
        found = analysis.verdict_across_seeds(analysis.quality_across_seeds(runs))
        if not analysis.measured_alike(runs):
            lines.append(
                f"{label} ({_count(runs)}): evaluated in different ways, so their numbers are not "
                "put together; evaluate them alike."
            )
        if found.sentence:
            lines.append(f"{label} ({_count(runs)}): {found.sentence}")
    if len(groups) > 1 and not analysis.measured_in_one_way(records):
        lines.append(
            "Not all runs were evaluated in the same way: compare no number of one with those of "
            "another before all are evaluated alike."
        )
    return lines or ["Sample quality has not been evaluated; the curves show the validation loss."]


def copying(name, measurement):
    """How often samples of a weight set are nearer to training images than held-out images are."""
    if measurement.copying is None:
        return name
    by_pixels = ""
    if measurement.copying_pixels is not None:
        error = f"standard error {measurement.copying_pixels_error:.1%}"
        by_pixels = f", by pixels in {measurement.copying_pixels:.1%} ({error})"
    return (
        f"{name}: nearer than a held-out image in {measurement.copying:.1%} of pairs "
        f"(standard error {measurement.copying_error:.1%}; 50% without copying){by_pixels}"
    )


def _count(runs):
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


def definitions(metric, windows=None):
    """What every number means: list of (term, formula, meaning).

    Args:
        metric: what the distance of the report is called.
        windows: dict average -> steps that it stood for at the end of the run, to be told.
    """
    titles = stability.COLUMNS | {"variance": "variance", "spikes": "spikes"}
    found = [(titles[key], *text) for key, text in stability.DEFINITIONS.items()]
    return [
        (
            "raw weights, average (EMA)",
            "ema ← ema + (1 - beta) (raw - ema) after each step",
            "The raw weights are those that training moves. An average follows them, forgetting "
            f"old weights at the rate 1 - beta.{_told(windows)}",
        ),
        *_metrics(metric),
        *found,
    ]


def _told(windows):
    """How many steps each average stood for at the end of a run."""
    if not windows:
        return ""
    parts = (f"{name} about {number(round(window))}" for name, window in windows.items())
    return f" Steps that each stood for at the end of this run: {', '.join(parts)}."


def _metrics(frechet):
    """`definitions` of every metric; `frechet` is what the distance of the report is called."""
    for each in metrics.every_metric().values():
        numbers = each.shown.values() or list(each.numbers.values())[:1]
        titles = ", ".join(number.title for number in numbers)
        yield frechet if "frechet" in each.numbers else titles, each.formula, each.meaning
