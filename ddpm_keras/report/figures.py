"""The figures of a run, each drawn once and written as PNG and as SVG."""

import matplotlib
import numpy as np

from .. import names
from . import analysis, picture


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
        _tuning,
    )
    with matplotlib.rc_context(picture.SETTINGS):
        return [made for make in makers if (made := make(record)) is not None]


def _final_quality(record):
    numbers = record.measured()
    if not numbers:
        return None
    figure, (axis,) = picture.axes(height=1.1 + 0.34 * len(numbers))
    rows = tuple(numbers)
    axis.barh(
        rows,
        list(numbers.values()),
        color=[picture.style(record.weight_sets, name)["color"] for name in rows],
        height=0.6,
    )
    for i, value in enumerate(numbers.values()):
        axis.annotate(f"{value:.4g}", (value, i), (4, 0), textcoords="offset points", va="center")
    axis.invert_yaxis()
    axis.set_xlabel(f"{record.metric} (lower is better)")
    axis.margins(x=0.12)
    floor = _draw_floor(record, axis.axvline)
    return picture.Picture(
        "final_quality",
        f"Quality at step {record.since:,}" if record.since else "Quality at the end of training",
        f"Bars of {record.metric}: "
        + ", ".join(f"{n} {v:.4g}" for n, v in numbers.items())
        + floor,
        f"Distance between generated images and {record.evaluation.reference.images}, for each "
        "weight set of the same training, from the same noise. " + _FLOOR_NOTE * bool(floor),
        figure,
        rows,
    )


_FLOOR_NOTE = (
    "The dotted line is what perfect samples would score: the distance of real held-out images "
    "from training images, extrapolated to as many as were generated where enough were held out."
)


def _draw_floor(record, line):
    reference = record.evaluation.reference
    floor = reference.floor_frechet if reference.floor is None else reference.floor
    if floor is None:
        return ""
    line(floor, color="black", linestyle=":", linewidth=1.2, label="real images")
    return f"; real images {floor:.4g}"


def _quality(record):
    curves = record.curves("quality")
    if not curves:
        return None
    figure, (axis,) = picture.axes()
    picture.overlay(axis, record, curves)
    picture.log_if_wide(axis, curves)
    axis.set_ylabel("Fréchet distance")
    axis.set_title(record.monitored, fontsize=picture.FONT)
    return picture.Picture(
        "quality",
        "Quality during training",
        f"{record.monitored}, of every weight set over the steps; "
        f"at the end {picture.ends(curves)}.",
        "Lower is better. A curve that jumps up and down means that the result depends on when one "
        "happens to stop." + _steadiness(record),
        figure,
    )


def _steadiness(record):
    """How far the raw weights and the best average move between evaluations, in words."""
    table = analysis.stability_table(record, "quality")
    moved = {name: each.variation for name, each in table.items() if each.variation is not None}
    averages = [name for name in moved if name != names.RAW]
    if names.RAW not in moved or not averages:
        return ""
    best = min(averages, key=lambda name: table[name].final)
    return (
        f" From one evaluation to the next of the second half, raw moves by {moved[names.RAW]:.2g} "
        f"and {best} by {moved[best]:.2g}."
    )


def _validation(record):
    curves = record.curves("val_loss")
    if not curves:
        return None
    figure, (axis,) = picture.axes()
    picture.overlay(axis, record, curves)
    picture.log_if_wide(axis, curves)
    axis.set_ylabel("validation loss")
    return picture.Picture(
        "validation_loss",
        "Validation loss",
        f"Validation loss of every weight set over the steps; at the end {picture.ends(curves)}.",
        "Mean squared error on held-out images, with the same noise and timesteps at every point.",
        figure,
    )


def _loss(record):
    steps, loss = record.curve("loss")
    if not len(steps):
        return None
    norm_steps, norm = record.curve("grad_norm")
    figure, axes = picture.axes(2 if len(norm) else 1)
    axes[0].plot(steps, loss, color=picture.FAINT, linewidth=0.7, label="mean of a log interval")
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    axes[0].plot(
        steps[window - 1 :], smooth, color=picture.RAW_COLOUR, label=f"mean of {window} intervals"
    )
    axes[0].set(xlabel="optimizer step", ylabel="training loss")
    axes[0].legend(frameon=False)
    picture.log_if_wide(axes[0], {"loss": (steps, loss)})
    if len(norm):
        axes[1].plot(norm_steps, norm, color=picture.RAW_COLOUR, linewidth=0.8)
        axes[1].set(xlabel="optimizer step", ylabel="gradient norm")
        picture.log_if_wide(axes[1], {"norm": (norm_steps, norm)})
    return picture.Picture(
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
    figure, (axis,) = picture.axes()
    labels = ("1st quarter (least noise)", "2nd quarter", "3rd quarter", "4th quarter (most noise)")
    for i, (steps, values) in enumerate(curves.values()):
        look = {"color": picture.COLOURS[i], "linestyle": picture.LINES[i], "label": labels[i]}
        axis.plot(steps, values, linewidth=1, **look)
    axis.set(xlabel="optimizer step", ylabel="training loss")
    axis.legend(frameon=False)
    picture.log_if_wide(axis, curves)
    return picture.Picture(
        "loss_by_timestep",
        "Training loss by noise level",
        f"Training loss by quarter of the timesteps; at the end {picture.ends(curves)}.",
        "Where the network finds the task hard: fine detail (little noise) or overall shape.",
        figure,
    )


def _betas(record):
    betas, windows = record.curves("beta"), record.curves("window")
    if not betas:
        return None
    figure, axes = picture.axes(2 if windows else 1)
    # 1 - beta, since the betas that matter differ in their last digits.
    forgets = {name: (steps, 1 - values) for name, (steps, values) in betas.items()}
    picture.overlay(axes[0], record, forgets, markers=False)
    picture.log_if_wide(axes[0], forgets, ratio=3)
    axes[0].set_ylabel("1 - beta")
    if windows:
        picture.overlay(axes[1], record, windows, markers=False)
        axes[1].set_ylabel("effective window (steps)")
    return picture.Picture(
        "betas",
        "Decay of each average",
        f"Beta of each average over the steps; at the end {picture.ends(betas)}.",
        "1 - beta is the share that the newest weights get at a step; the effective window is the "
        "number of recent steps that the average stands for.",
        figure,
    )


def _distances(record):
    distances, cosines = record.curves("relative_distance"), record.curves("cosine")
    if not distances:
        return None
    figure, axes = picture.axes(2 if cosines else 1)
    picture.overlay(axes[0], record, distances, markers=False)
    axes[0].set_ylabel("distance to raw / norm of raw")
    if cosines:
        picture.overlay(axes[1], record, cosines, markers=False)
        axes[1].set_ylabel("cosine with raw")
        axes[1].ticklabel_format(axis="y", useOffset=False)
    return picture.Picture(
        "distances",
        "How far each average is from the raw weights",
        "Relative distance between raw weights and averages; "
        f"at the end {picture.ends(distances)}.",
        "An average lags behind the raw weights and rests near the centre of their jitter; the "
        "longer its window, the farther it is.",
        figure,
    )


def _blocks(record):
    recorded = record.block_cosines()
    if recorded is None:
        return None
    blocks, cosines = recorded
    figure, (axis,) = picture.axes(height=4.4)
    places = range(len(blocks))
    for name, values in cosines.items():
        look = picture.style(record.weight_sets, name) | {"linestyle": "none"}
        axis.plot(places, np.maximum(1 - values, 1e-9), markersize=4, **look)
    axis.set_yscale("log")
    shown = places[:: max(1, len(blocks) // 16)]
    axis.set_xticks(shown, [blocks[i] for i in shown], rotation=60, ha="right")
    axis.set_ylabel("1 - cosine with raw")
    axis.legend(frameon=False)
    farthest = {name: blocks[int(np.argmin(values))] for name, values in cosines.items()}
    return picture.Picture(
        "blocks",
        "Which layers an average differs in",
        "Angle between averaged and raw weights of each layer at the end of training; largest in "
        + ", ".join(f"{block} for {name}" for name, block in farthest.items())
        + ".",
        "Layers from input to output. High: the raw weights of that layer move about most.",
        figure,
        tuple(map(str, blocks)),
    )


def trajectory(record):
    """The path of raw weights and averages in a plane, as a `Picture`; None where not recorded."""
    recorded = record.trajectory()
    if recorded is None:
        return None
    steps, sketches = recorded
    points, explained = analysis.principal_plane(sketches)
    figure, (axis,) = picture.axes(height=4.2)
    for name in record.weight_sets:
        if name in points:
            look = picture.style(record.weight_sets, name)
            marker = look.pop("marker")
            x, y = points[name].T
            axis.plot(x, y, linewidth=0.8 if name == names.RAW else 1.6, **look)
            axis.plot(x[-1:], y[-1:], marker, color=look["color"], markersize=8)
    axis.set_xlabel(f"1st principal component ({explained[0]:.0%})")
    axis.set_ylabel(f"2nd ({explained[1]:.0%})")
    axis.set_aspect("equal", adjustable="datalim")
    picture.legend(axis)
    return picture.Picture(
        "trajectory",
        "Path of the weights",
        "Two-dimensional path of the raw weights and of each average; the two axes hold "
        f"{sum(explained):.0%} of the variance of the raw path.",
        "Principal components of a fixed random projection of the weights; the large marker is the "
        "end of training. Raw weights jitter; an average takes the same way, smoother and later.",
        figure,
        steps=tuple(map(int, steps)),
    )


def _posthoc(record):
    curve = analysis.posthoc_curve(record)
    if curve is None:
        return None
    widths, distances = curve
    width, lowest = analysis.optimum(widths, distances)
    figure, (axis,) = picture.axes()
    axis.plot(widths, distances, "o-", color=picture.COLOURS[1])
    look = {"color": picture.COLOURS[0], "markersize": 14, "label": f"optimum {width:.3g}"}
    axis.plot([width], [lowest], "*", **look)
    axis.set(xlabel="relative width of the average (sigma_rel)", ylabel=record.metric)
    axis.legend(frameon=False)
    return picture.Picture(
        "posthoc",
        "Quality against the length of the average",
        f"{record.metric} of synthesised averages; lowest near a width of {width:.3g}.",
        "Averages of any length, made after training from stored snapshots: whether a longer or a "
        "shorter average than the tracked ones would have been better.",
        figure,
    )


def _tuning(record):
    """The last search for the best width of an average."""
    if not (record.evaluations and record.evaluations.tunings):
        return None
    tuning = record.evaluations.tunings[-1]
    best, title = tuning.best, tuning.number.title
    figure, (axis,) = picture.axes()
    for i, (guidance, trials) in enumerate(tuning.curves.items()):
        points = [(trial.sigma_rel, trial.value) for trial in trials]
        label = f"guidance {guidance:g}" if guidance != 1 else "no guidance"
        color = picture.COLOURS[i % len(picture.COLOURS)]
        axis.plot(*zip(*points, strict=True), "o-", color=color, label=label)
    dark = {"color": picture.RAW_COLOUR, "linestyle": "none"}
    axis.plot(best.sigma_rel, best.value, "*", markersize=14, label="chosen", **dark)
    axis.plot(best.sigma_rel, tuning.judged, "D", label="on other images", **dark)
    axis.set(xlabel="relative width of the average (sigma_rel)", ylabel=title, xscale="log")
    picture.legend(axis)
    guided = f" at guidance {best.guidance:g}" if best.guidance != 1 else ""
    judged = f" Judged by: {tuning.way}." if tuning.way else ""
    return picture.Picture(
        "tuning",
        "Search for the best width",
        f"{title} of {len(tuning.trials)} averages of {len(tuning.curves)} strengths of guidance; "
        f"best at a width of {best.sigma_rel:g}{guided}: {best.value:.4g}, on other images "
        f"{tuning.judged:.4g}.",
        f"Each point is an average made after training, of {tuning.num_images:,} images from seed "
        f"{tuning.seed}. The best is judged on images from seed {tuning.judged_seed}, since the "
        f"number by which it was chosen flatters it.{judged}",
        figure,
    )
