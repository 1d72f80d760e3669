"""The figures of a report, each drawn once and written as PNG and as SVG.

A weight set has the same colour, line and marker in every figure, so that figures can be read
without colours and next to each other.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import names
from . import analysis

# Okabe and Ito's colours and one of Tol's, which colour-blind readers can tell apart; raw is always
# dark grey.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#882255")
_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("s", "^", "D", "v", "P", "X", "*")
_SETTINGS = {"svg.hashsalt": "ddpm-keras", "svg.fonttype": "path"}


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes:
        name: file name without suffix.
        title: heading.
        text: what it shows, for readers who do not see it, with its main numbers.
        note: how to read it, one or two sentences.
        figure: the `matplotlib.figure.Figure`.
    """

    name: str
    title: str
    text: str
    note: str
    figure: Figure

    def png(self, path):
        """Writes the figure as PNG."""
        self.figure.savefig(path, format="png", dpi=150)

    def svg(self):
        """The figure as an SVG `data:` address."""
        import matplotlib

        with matplotlib.rc_context(_SETTINGS):
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def draw(record):
    """All figures for which a run holds the numbers, in reading order.

    Args:
        record: an `analysis.RunRecord`.

    Returns:
        A list of `Picture`.
    """
    makers = (
        _final_quality,
        _quality,
        _validation,
        _loss,
        _loss_by_timestep,
        _betas,
        _distances,
        _blocks,
        trajectory,
        _posthoc,
    )
    return [picture for make in makers if (picture := make(record)) is not None]


def draw_comparison(records):
    """Figures of several runs: quality with intervals, paired gains, validation loss."""
    makers = (_grouped_quality, _paired_gains, _grouped_curves)
    return [picture for make in makers if (picture := make(records)) is not None]


def style(weight_sets, name):
    """Line style of a weight set, the same in every figure of a report."""
    if name == names.RAW:
        return {"color": "#444444", "linestyle": "-", "marker": "o", "label": "raw"}
    i = [each for each in weight_sets if each != names.RAW].index(name)
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "linestyle": _LINES[(i + 1) % len(_LINES)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "label": name,
    }


def _axes(count=1, height=3.4):
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
        each.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _overlay(axis, record, curves, markers=True):
    for name, (steps, values) in curves.items():
        look = style(record.weight_sets, name)
        look |= {} if markers and len(steps) <= 60 else {"marker": None}
        axis.plot(steps, values, markersize=4, linewidth=1.6, **look)
    axis.set_xlabel("optimizer step")
    _legend(axis)


def _legend(axis):
    """A legend: among the curves if it is short, else below them."""
    few = len(axis.get_legend_handles_labels()[1]) <= 4
    place = {} if few else {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    axis.legend(frameon=False, fontsize="medium" if few else "small", **place)


def _log_if_wide(axis, curves, ratio=10):
    values = np.concatenate([values for _, values in curves.values()])
    if values.min() > 0 and values.max() / values.min() > ratio:
        axis.set_yscale("log")


def _ends(curves):
    return ", ".join(f"{name} {values[-1]:.4g}" for name, (_, values) in curves.items())


def _final_quality(record):
    numbers = record.measured()
    if not numbers:
        return None
    figure, (axis,) = _axes()
    names = list(numbers)
    axis.barh(
        names,
        list(numbers.values()),
        color=[style(record.weight_sets, name)["color"] for name in names],
        height=0.6,
    )
    for i, value in enumerate(numbers.values()):
        axis.annotate(f"{value:.4g}", (value, i), (4, 0), textcoords="offset points", va="center")
    axis.invert_yaxis()
    axis.set_xlabel(f"{record.metric} (lower is better)")
    axis.margins(x=0.12)
    floor = _draw_floor(record, axis.axvline)
    return Picture(
        "final_quality",
        "Quality at the end of training",
        f"Bars of {record.metric}: "
        + ", ".join(f"{n} {v:.4g}" for n, v in numbers.items())
        + floor,
        "Distance between generated and real training images, for each weight set of the same "
        "training, from the same noise. " + _FLOOR_NOTE * bool(floor),
        figure,
    )


_FLOOR_NOTE = (
    "The dotted line is the distance between training images and real held-out ones, for scale: "
    "what perfect samples would score if there were as many of them."
)


def _draw_floor(record, line):
    floor = record.evaluation.reference.floor_frechet
    if floor is None:
        return ""
    line(floor, color="black", linestyle=":", linewidth=1.2)
    return f"; real held-out images {floor:.4g}"


def _quality(record):
    curves = record.curves("quality")
    if not curves:
        return None
    figure, (axis,) = _axes()
    _overlay(axis, record, curves)
    _log_if_wide(axis, curves)
    axis.set_ylabel("Fréchet distance")
    axis.set_title(record.monitored, fontsize="medium")
    return Picture(
        "quality",
        "Quality during training",
        f"{record.monitored}, of every weight set over the steps; at the end {_ends(curves)}.",
        "Lower is better. A curve that jumps up and down means that the result depends on when one "
        "happens to stop; averages are smoother.",
        figure,
    )


def _validation(record):
    curves = record.curves("val_loss")
    if not curves:
        return None
    figure, (axis,) = _axes()
    _overlay(axis, record, curves)
    _log_if_wide(axis, curves)
    axis.set_ylabel("validation loss")
    return Picture(
        "validation_loss",
        "Validation loss",
        f"Validation loss of every weight set over the steps; at the end {_ends(curves)}.",
        "Mean squared error on held-out images, with the same noise and timesteps at every point.",
        figure,
    )


def _loss(record):
    steps, loss = record.curve("loss")
    if not len(steps):
        return None
    norm_steps, norm = record.curve("grad_norm")
    figure, axes = _axes(2 if len(norm) else 1)
    axes[0].plot(steps, loss, color="#999999", linewidth=0.7, label="mean of a log interval")
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    axes[0].plot(steps[window - 1 :], smooth, color="#444444", label=f"mean of {window} intervals")
    axes[0].set(xlabel="optimizer step", ylabel="training loss")
    axes[0].legend(frameon=False)
    _log_if_wide(axes[0], {"loss": (steps, loss)})
    if len(norm):
        axes[1].plot(norm_steps, norm, color="#444444", linewidth=0.8)
        axes[1].set(xlabel="optimizer step", ylabel="gradient norm")
        _log_if_wide(axes[1], {"norm": (norm_steps, norm)})
    return Picture(
        "training_loss",
        "Training loss and gradient norm",
        f"Training loss over the steps, from {loss[0]:.4g} to {smooth[-1]:.4g}.",
        "Of the raw weights; averages have no training loss, since they are not trained.",
        figure,
    )


def _loss_by_timestep(record):
    curves = {f"loss_q{quartile}": record.curve(f"loss_q{quartile}") for quartile in (1, 2, 3, 4)}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    if not curves:
        return None
    figure, (axis,) = _axes()
    labels = ("1st quarter (least noise)", "2nd quarter", "3rd quarter", "4th quarter (most noise)")
    for i, (steps, values) in enumerate(curves.values()):
        axis.plot(
            steps, values, color=_COLOURS[i], linestyle=_LINES[i], linewidth=1, label=labels[i]
        )
    axis.set(xlabel="optimizer step", ylabel="training loss")
    axis.legend(frameon=False)
    _log_if_wide(axis, curves)
    return Picture(
        "loss_by_timestep",
        "Training loss by noise level",
        f"Training loss by quarter of the timesteps; at the end {_ends(curves)}.",
        "Where the network finds the task hard: fine detail (little noise) or overall shape.",
        figure,
    )


def _betas(record):
    betas, windows = record.curves("beta"), record.curves("window")
    if not betas:
        return None
    figure, axes = _axes(2 if windows else 1)
    # 1 - beta, since the betas that matter differ in their last digits.
    forgets = {name: (steps, 1 - values) for name, (steps, values) in betas.items()}
    _overlay(axes[0], record, forgets, markers=False)
    _log_if_wide(axes[0], forgets, ratio=3)
    axes[0].set_ylabel("1 - beta")
    if windows:
        _overlay(axes[1], record, windows, markers=False)
        axes[1].set_ylabel("effective window (steps)")
    return Picture(
        "betas",
        "Decay of each average",
        f"Beta of each average over the steps; at the end {_ends(betas)}.",
        "1 - beta is the share that the newest weights get at a step; the effective window is the "
        "number of recent steps that the average stands for.",
        figure,
    )


def _distances(record):
    distances, cosines = record.curves("relative_distance"), record.curves("cosine")
    if not distances:
        return None
    figure, axes = _axes(2 if cosines else 1)
    _overlay(axes[0], record, distances, markers=False)
    axes[0].set_ylabel("distance to raw / norm of raw")
    if cosines:
        _overlay(axes[1], record, cosines, markers=False)
        axes[1].set_ylabel("cosine with raw")
        axes[1].ticklabel_format(axis="y", useOffset=False)
    return Picture(
        "distances",
        "How far each average is from the raw weights",
        f"Relative distance between raw weights and averages; at the end {_ends(distances)}.",
        "An average lags behind the raw weights and rests near the centre of their jitter; the "
        "longer its window, the farther it is.",
        figure,
    )


def _blocks(record):
    recorded = record.block_cosines()
    if recorded is None:
        return None
    blocks, cosines = recorded
    figure, (axis,) = _axes(height=4.2)
    places = range(len(blocks))
    for name, values in cosines.items():
        look = style(record.weight_sets, name) | {"linestyle": "none"}
        axis.plot(places, np.maximum(1 - values, 1e-9), markersize=4, **look)
    axis.set_yscale("log")
    shown = places[:: max(1, len(blocks) // 16)]
    axis.set_xticks(shown, [blocks[i] for i in shown], rotation=60, ha="right", fontsize="small")
    axis.set_ylabel("1 - cosine with raw")
    axis.legend(frameon=False)
    farthest = {name: blocks[int(np.argmin(values))] for name, values in cosines.items()}
    return Picture(
        "blocks",
        "Which layers an average differs in",
        "Angle between averaged and raw weights of each layer at the end of training; largest in "
        + ", ".join(f"{block} for {name}" for name, block in farthest.items())
        + ".",
        "Layers from input to output. High: the raw weights of that layer move about most.",
        figure,
    )


def trajectory(record):
    """The path of raw weights and averages in a plane, as a `Picture`; None where not recorded."""
    recorded = record.trajectory()
    if recorded is None:
        return None
    points, explained = analysis.principal_plane(recorded[1])
    figure, (axis,) = _axes(height=4.6)
    for name in record.weight_sets:
        if name in points:
            look = style(record.weight_sets, name)
            marker = look.pop("marker")
            x, y = points[name].T
            axis.plot(x, y, linewidth=0.8 if name == names.RAW else 1.6, **look)
            axis.plot(x[-1:], y[-1:], marker, color=look["color"], markersize=8)
    axis.set_xlabel(f"1st principal component ({explained[0]:.0%} of the variance)")
    axis.set_ylabel(f"2nd ({explained[1]:.0%})")
    axis.set_aspect("equal", adjustable="datalim")
    _legend(axis)
    return Picture(
        "trajectory",
        "Path of the weights",
        "Two-dimensional path of the raw weights and of each average; the two axes hold "
        f"{sum(explained):.0%} of the variance of the raw path.",
        "Principal components of a fixed random projection of the weights; the large marker is the "
        "end of training. Raw weights jitter; an average takes the same way, smoother and later.",
        figure,
    )


def _posthoc(record):
    curve = analysis.posthoc_curve(record)
    if curve is None:
        return None
    widths, distances = curve
    width, lowest = analysis.optimum(widths, distances)
    figure, (axis,) = _axes()
    axis.plot(widths, distances, "o-", color=_COLOURS[1])
    axis.plot(
        [width], [lowest], "*", color=_COLOURS[0], markersize=14, label=f"optimum {width:.3g}"
    )
    axis.set(xlabel="relative width of the average (sigma_rel)", ylabel=record.metric)
    axis.legend(frameon=False)
    return Picture(
        "posthoc",
        "Quality against the length of the average",
        f"{record.metric} of synthesised averages; lowest near a width of {width:.3g}.",
        "Averages of any length, made after training from stored snapshots: whether a longer or a "
        "shorter average than the tracked ones would have been better.",
        figure,
    )


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
    rows = []
    weight_sets = list(dict.fromkeys(n for record in records for n in record.weight_sets))
    for label, runs in analysis.groups(records).items():
        for weights, pair in analysis.quality_across_seeds(runs).items():
            if pick(*pair) is not None:
                rows.append((f"{label}: {weights}", weights, pick(*pair)))
    if not rows:
        return None
    figure, (axis,) = _axes(height=1.4 + 0.32 * len(rows))
    for i, (_, weights, found) in enumerate(rows):
        look = style(weight_sets, weights)
        low, high = (found.low, found.high) if found.low is not None else (found.mean,) * 2
        whiskers = [[found.mean - low], [high - found.mean]]
        axis.errorbar(
            found.mean, i, xerr=whiskers, fmt=look["marker"], color=look["color"], capsize=4
        )
    axis.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(records[0].metric)
    text = "; ".join(f"{label} {found.mean:.4g}" for label, _, found in rows)
    return Picture(name, title, f"{title}: {text}.", note, figure)


def _grouped_curves(records):
    what = "quality" if any(record.curves("quality") for record in records) else "val_loss"
    called = {"quality": records[0].monitored, "val_loss": "validation loss"}[what]
    grouped = {label: runs for label, runs in analysis.groups(records).items()}
    weight_sets = list(dict.fromkeys(n for record in records for n in record.weight_sets))
    if not any(record.curves(what) for record in records):
        return None
    figure, axes = _axes(len(grouped)) if len(grouped) <= 3 else _axes()
    axes[0].set_ylabel("Fréchet distance" if what == "quality" else called)
    for i, (label, runs) in enumerate(grouped.items()):
        axis = axes[i % len(axes)]
        labelled = set()
        for record in runs:
            for name, (steps, values) in record.curves(what).items():
                look = style(weight_sets, name) | {"marker": None}
                look["label"] = None if name in labelled else look["label"]
                labelled.add(name)
                axis.plot(steps, values, linewidth=1, alpha=0.8, **look)
        axis.set_xlabel("optimizer step")
        axis.set_title(label if len(axes) == len(grouped) else "all runs", fontsize="medium")
        axis.legend(frameon=False, fontsize="small")
    return Picture(
        "comparison_curves",
        "Quality during training" if what == "quality" else "Validation loss",
        f"The {called}, of every weight set and run over the steps.",
        f"One line for each run and weight set: {called}.",
        figure,
    )
