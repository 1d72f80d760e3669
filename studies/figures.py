"""The figures of the study: one a finding, of `findings.everything`."""

import numpy as np
from effects import PRIMARY, RAW
from findings import MAINS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from ddpm_keras.report import picture


def draw(study, found, folder):
    """Figures by name; those without numbers are left out.

    Args:
        study: a `results.Study`.
        found: its `findings.everything`.
        folder: where the pictures of samples are.

    Returns:
        dict name -> `matplotlib.figure.Figure`.
    """
    figures = {"samples": samples(folder, found["primary"])}
    for name in MAINS:
        figures[f"{name}-averages"] = forest(found["averages"].get(name))
        figures[f"{name}-stages"] = stage_map(found["stages"].get(name))
        figures[f"{name}-curves"] = curves(study, name)
        figures[f"{name}-rates"] = levels(found["rates"].get(name), "learning rate")
        figures[f"{name}-guidance"] = guidance_map(found["guidance"].get(name))
        figures[f"{name}-batches"] = levels(found["batches"].get(name), "batch")
    figures["widths"] = width_curves(found)
    return {name: figure for name, figure in figures.items() if figure is not None}


def canvas(width=7.2, height=3.4, columns=1):
    """A figure and its axes, an array."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plain_numbers(axis):
    """Labels 1, 2 and 5 times the powers of ten on a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def samples(folder, primary):
    """Images of the raw weights and of the average, from the same noise, of each data set."""
    names = [name for name in primary if (folder / f"{name}-{RAW}.png").is_file()]
    if not names:
        return None
    figure = Figure(figsize=(7.2, 3.8 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, weights in zip(row, (RAW, PRIMARY), strict=True):
            shown = Image.open(folder / f"{name}-{weights}.png").convert("RGB")
            axis.imshow(np.asarray(shown), interpolation="nearest")
            axis.set_title(f"{MAINS[name]}: {weights}", fontsize="medium")
            axis.axis("off")
    return figure


def forest(rows):
    """How many times nearer than raw every average is, with its interval."""
    shown = [(name, row["raw"].effect) for name, row in (rows or {}).items() if row["raw"]]
    if not shown:
        return None
    figure, (axis,) = canvas(height=1.2 + 0.34 * len(shown))
    weight_sets = [RAW, *(name for name, _ in shown)]
    for i, (name, effect) in enumerate(shown):
        look = picture.style(weight_sets, name)
        axis.plot(effect.estimate, i, marker="o", color=look["color"])
        if effect.low is not None:
            axis.plot([effect.low, effect.high], [i, i], color=look["color"], linewidth=2)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_yticks(range(len(shown)), [", ".join(rows[name]["names"]) for name, _ in shown])
    axis.invert_yaxis()
    axis.set_xscale("log")
    plain_numbers(axis.xaxis)
    axis.set_xlabel("raw / average, distances (above 1: the average is nearer)")
    return figure


def curves(study, experiment):
    """Validation loss and distance while training: geometric mean and range over trainings."""
    kinds = [("val_loss", "validation loss"), ("quality", "Fréchet distance, fewer images")]
    kinds = [(key, title) for key, title in kinds if study.curves(experiment, key)]
    if not kinds:
        return None
    figure, axes = canvas(height=3.9, columns=len(kinds), width=max(7.2, 4.6 * len(kinds)))
    for axis, (key, title) in zip(axes, kinds, strict=True):
        found = study.curves(experiment, key)
        for name, seeds in found.items():
            steps = next(iter(seeds.values()))[0]
            values = np.stack([each for _, each in seeds.values()])
            look = picture.style(list(found), name) | {"marker": None}
            axis.plot(steps, np.exp(np.log(values).mean(axis=0)), **look)
            axis.fill_between(
                steps, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.12
            )
        axis.set_yscale("log")
        plain_numbers(axis.yaxis)
        axis.set_xlabel("optimizer step")
        axis.set_title(title, fontsize="medium")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize="small"
    )
    return figure


def heat(axis, cells, rows, columns, form, title):
    """A table as colours, the numbers in it."""
    shown = axis.imshow(cells, aspect="auto", cmap="cividis")
    middle = (cells.min() + cells.max()) / 2
    for i, j in np.ndindex(*cells.shape):
        colour = "white" if shown.norm(cells[i, j]) < shown.norm(middle) else "black"
        axis.text(j, i, format(cells[i, j], form), ha="center", va="center", color=colour, size=8)
    axis.set_xticks(range(len(columns)), [f"{each:g}" for each in columns])
    axis.set_yticks(range(len(rows)), [f"{each:g}" for each in rows])
    axis.set_xlabel("σ_rel")
    axis.set_title(title, fontsize="medium")


def stage_map(found):
    """Distance, precision and recall by stage and length."""
    if not found:
        return None
    figure, axes = canvas(width=10.5, height=1.4 + 0.45 * len(found["steps"]), columns=3)
    titles = {"frechet": "distance", "precision": "precision", "recall": "recall"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        form = ".2f" if key == "frechet" else ".3f"
        heat(axis, found["cells"][key], found["steps"], found["widths"], form, title)
    axes[0].set_ylabel("step")
    return figure


def guidance_map(found):
    """Distance by strength of guidance and length."""
    if not found:
        return None
    figure, (axis,) = canvas(height=1.4 + 0.45 * len(found["strengths"]))
    heat(axis, found["cells"], found["strengths"], found["widths"], ".2f", "distance")
    axis.set_ylabel("guidance")
    return figure


def width_curves(found):
    """Distance against the width of averages made after training, beside raw and the average."""
    kinds = {name: widths for name, widths in found["widths"].items() if len(widths) > 1}
    if not kinds:
        return None
    figure, axes = canvas(columns=len(kinds), width=max(7.2, 3.6 * len(kinds)))
    for axis, (name, widths) in zip(axes, kinds.items(), strict=True):
        effects = list(widths.values())
        interval(axis, list(widths), effects, color="#0072b2", marker="o", label="synthesised")
        for key, line, label in (("raw", "--", RAW), ("average", ":", PRIMARY)):
            middle = found["primary"][name][key].estimate
            axis.axhline(middle, linestyle=line, color="black", linewidth=1.2, label=label)
        axis.set_yscale("log")
        plain_numbers(axis.yaxis)
        axis.set_xlabel("σ_rel")
        axis.set_title(MAINS[name], fontsize="medium")
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def interval(axis, x, effects, **look):
    """Points with their intervals, where they have one."""
    middle = [each.estimate for each in effects]
    whiskers = None
    if effects[0].low is not None:
        whiskers = np.abs([[each.low, each.high] for each in effects] - np.array(middle)[:, None]).T
    axis.errorbar(x, middle, whiskers, capsize=4, **look)


def levels(found, label):
    """Distances of several weight sets in several settings, side by side."""
    if not found:
        return None
    figure, (axis,) = canvas(height=3.6)
    settings = list(found["levels"])
    every = list(dict.fromkeys(name for each in found["levels"].values() for name in each))
    for k, name in enumerate(every):
        have = [i for i, setting in enumerate(settings) if name in found["levels"][setting]]
        effects = [found["levels"][settings[i]][name] for i in have]
        look = picture.style(every, name) | {"linestyle": "none"}
        interval(axis, [i + 0.12 * (k - len(every) / 2) for i in have], effects, **look)
    axis.set_xticks(range(len(settings)), [f"{label} {each}" for each in settings])
    axis.set_yscale("log")
    plain_numbers(axis.yaxis)
    axis.set_ylabel("Fréchet distance")
    axis.legend(frameon=False, fontsize="small")
    return figure
