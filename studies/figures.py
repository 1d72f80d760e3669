"""The figures of the study, each over all runs of a data set."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from ddpm_keras import names
from ddpm_keras.report import figures, picture


def draw(study):
    """Figures by name, of what `study.describe` gives; those without numbers are left out.

    Returns:
        dict name -> `matplotlib.figure.Figure`.
    """
    makers = {
        "samples": _samples,
        "quality": _quality,
        "validation-loss": lambda study: _curves(study, "val_loss", "validation loss"),
        "quality-curves": lambda study: _curves(study, "quality", study["monitored"]),
        "posthoc": _posthoc,
        "initial-share": _initial_share,
        "trajectory": _trajectory,
    }
    found = {name: make(study) for name, make in makers.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _samples(study, columns=4):
    """The last picture of every weight set of the first run: the same noise in each."""
    (pictures,) = study["records"][0].pictures(most=1).values()
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(9.6, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, path) in zip(axes, pictures.items(), strict=False):
        axis.imshow(np.asarray(Image.open(path).convert("RGB")), interpolation="nearest")
        axis.set_title(name, fontsize="medium")
    return figure


def _trajectory(study):
    """The figure that the report of the first run has, too."""
    return figures.trajectory(study["records"][0]).figure


def _axis(height=3.4):
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _whiskers(points):
    """Half the 95% intervals; None for a single run, which has none."""
    if points[0].low is None:
        return None
    return [point.mean - point.low for point in points]


def _quality(study):
    """Bars; points on a logarithmic axis, where the length of a bar would mean nothing."""
    names, points = list(study["quality"]), [row["value"] for row in study["quality"].values()]
    means, whiskers = [point.mean for point in points], _whiskers(points)
    colours = [picture.style(study["tracked"], name)["color"] for name in names]
    figure, axis = _axis(1.2 + 0.32 * len(names))
    if _wide(means):
        axis.errorbar(means, names, xerr=whiskers, fmt="none", ecolor="black", capsize=4)
        axis.scatter(means, names, color=colours, zorder=3)
        axis.set_xscale("log")
        _label_few(axis.xaxis)
    else:
        axis.barh(names, means, 0.6, xerr=whiskers, color=colours, capsize=4)
    axis.invert_yaxis()
    axis.set_xlabel(f"{study['metric']} (lower is better)")
    return figure


def _wide(values, ratio=10):
    """Whether positive values span so much that a logarithmic axis shows them better."""
    return min(values) > 0 and max(values) > ratio * min(values)


def _label_few(axis):
    """Labels 1, 2 and 5 times the powers of ten on a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curves(study, what, label):
    """Mean over the runs of each weight set, with the range of the runs as a band."""
    figure, axis = _axis(4.2)
    every = []
    for name in study["tracked"]:
        found = [record.curve(names.column(what, name)) for record in study["records"]]
        if not all(len(steps) for steps, _ in found):
            continue
        steps, values = found[0][0], np.stack([values for _, values in found])
        look = picture.style(study["tracked"], name)
        axis.plot(steps, values.mean(axis=0), markersize=4, linewidth=1.6, **look)
        axis.fill_between(
            steps, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.15
        )
        every.extend(values.ravel())
    if not every:
        return None
    if _wide(every):
        axis.set_yscale("log")
        _label_few(axis.yaxis)
    axis.set(xlabel="optimizer step", ylabel="lower is better")
    axis.set_title(label, fontsize="medium")
    figure.legend(loc="outside lower center", frameon=False, fontsize="small", ncols=4)
    return figure


def _posthoc(study):
    curve = study["posthoc"]
    if curve is None:
        return None
    figure, axis = _axis()
    points = curve["points"]
    means = [point.mean for point in points]
    axis.errorbar(
        curve["widths"], means, _whiskers(points), fmt="o-", capsize=4, label="synthesised"
    )
    for name in (names.RAW, study["best"]):
        look = picture.style(study["tracked"], name)
        level = study["quality"][name]["value"].mean
        axis.axhline(level, color=look["color"], linestyle="--", linewidth=1.2, label=name)
    axis.set(xlabel="relative width of the average (sigma_rel)", ylabel="lower is better")
    axis.set_title(study["metric"], fontsize="medium")
    axis.legend(frameon=False)
    return figure


def _initial_share(study):
    """Share of the initial weights in each average over the steps, where one is too long."""
    if not study["stale"]:
        return None
    figure, axis = _axis()
    steps = np.unique(np.linspace(0, study["options"].steps, 101).round().astype(int))
    for name, decay in study["decays"].items():
        look = picture.style(study["tracked"], name) | {"marker": None}
        axis.plot(steps, [decay.initial_share(int(step)) for step in steps], **look)
    axis.set(xlabel="optimizer step", ylabel="share of the initial weights", ylim=(-0.02, 1.02))
    axis.legend(frameon=False, fontsize="small")
    return figure
