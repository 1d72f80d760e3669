"""The figures of several runs: quality with intervals, paired gains, curves."""

import textwrap

import matplotlib

from . import analysis, picture

_LETTERS = 48  # of a line as wide as a figure


def draw(records):
    """Figures of several runs: quality with intervals, paired gains, validation loss."""
    makers = (_grouped_quality, _paired_gains, _grouped_curves)
    with matplotlib.rc_context(picture.SETTINGS):
        return [made for make in makers if (made := make(records)) is not None]


def _grouped_quality(records):
    return _bars(
        records,
        "comparison_quality",
        "Quality of every weight set",
        "Mean over runs that differ by the seed alone; whiskers are 95% t-intervals.",
        lambda found, paired: found,
    )


def _paired_gains(records):
    return _bars(
        records,
        "comparison_gain",
        "Gain over the raw weights of the same run",
        "Raw minus average, run by run; right of zero the average is better. Whiskers are 95% "
        "t-intervals: where one does not touch zero, the gain is more than chance.",
        lambda found, paired: paired,
    )


def _bars(records, name, title, note, pick):
    if not analysis.measured_in_one_way(records):
        return None
    rows = []
    weight_sets = list(dict.fromkeys(n for record in records for n in record.weight_sets))
    for label, runs in analysis.groups(records).items():
        for weights, pair in analysis.quality_across_seeds(runs).items():
            if pick(*pair) is not None:
                rows.append((f"{label}: {weights}", weights, pick(*pair)))
    if not rows:
        return None
    labels = tuple(label for label, _, _ in rows)
    shown = [textwrap.fill(label, _LETTERS) for label in labels]
    lines = max(label.count("\n") + 1 for label in shown)
    figure, (axis,) = picture.axes(height=1.2 + (0.22 + 0.19 * lines) * len(rows))
    for i, (_, weights, found) in enumerate(rows):
        look = picture.style(weight_sets, weights)
        low, high = (found.low, found.high) if found.low is not None else (found.mean,) * 2
        whiskers = [[found.mean - low], [high - found.mean]]
        axis.errorbar(
            found.mean, i, xerr=whiskers, fmt=look["marker"], color=look["color"], capsize=4
        )
        axis.annotate(  # above the row, where a name of any length has room
            *(shown[i], (0, i), (2, 5)),
            xycoords=axis.get_yaxis_transform(),
            textcoords="offset points",
        )
    axis.set_yticks([])
    axis.set_ylim(len(rows) - 0.5, -0.5 - 0.5 * lines)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(analysis.metrics_of(records))
    text = "; ".join(f"{label} {found.mean:.4g}" for label, _, found in rows)
    return picture.Picture(name, title, f"{title}: {text}.", note, figure, labels)


def _grouped_curves(records):
    what = "quality" if any(record.curves("quality") for record in records) else "val_loss"
    called = {"quality": analysis.monitored_of(records), "val_loss": "validation loss"}[what]
    weight_sets = list(dict.fromkeys(n for record in records for n in record.weight_sets))
    grouped = {
        label: followed
        for label, runs in analysis.groups(records).items()
        if (followed := [record for record in runs if record.curves(what)])
    }
    if not grouped:
        return None
    figure, axes = picture.axes(len(grouped)) if len(grouped) <= 3 else picture.axes()
    axes[0].set_ylabel("Fréchet distance" if what == "quality" else called)
    for i, (label, runs) in enumerate(grouped.items()):
        axis = axes[i % len(axes)]
        labelled = set()
        for record in runs:
            for name, (steps, values) in record.curves(what).items():
                look = picture.style(weight_sets, name) | {"marker": None}
                look["label"] = None if name in labelled else look["label"]
                labelled.add(name)
                axis.plot(steps, values, linewidth=1, alpha=0.8, **look)
        axis.set_xlabel("optimizer step")
        title = textwrap.fill(label, _LETTERS) if len(axes) == len(grouped) else "all runs"
        axis.set_title(title, fontsize=picture.FONT)
        picture.legend(axis)
    return picture.Picture(
        "comparison_curves",
        "Quality during training" if what == "quality" else "Validation loss",
        f"The {called}, of every weight set and run over the steps.",
        f"One line for each run and weight set: {called}.",
        figure,
    )
