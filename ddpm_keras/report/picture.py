"""A figure of a report, and what all of them share: colours, axes, legends.

A weight set has the same colour, line and marker in every figure, so that figures can be read
without colours and next to each other.
"""

import base64
import io
import re
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import names
from . import charts

# Okabe and Ito's colours, two of Tol's and a violet, which colour-blind readers can tell apart, as
# dark as 3:1 on white asks for; raw is always dark grey.
COLOURS = (
    *("#d55e00", "#0072b2", "#008f68", "#b8568c"),
    *("#2f86ba", "#8a6d00", "#882255", "#4b3fb5"),
)
RAW_COLOUR, FAINT = "#444444", "#8c8c8c"
# What stands for each on a dark page.
DARK = {
    "#000000": "#e8e8e8",
    "#d55e00": "#ff8f40",
    "#0072b2": "#5ab4f0",
    "#008f68": "#2fc99a",
    "#b8568c": "#e59ac2",
    "#2f86ba": "#8fd0f5",
    "#8a6d00": "#d8b93a",
    "#882255": "#e06a9f",
    "#4b3fb5": "#a79bff",
    RAW_COLOUR: "#c4c4c4",
    FAINT: "#8c8c8c",
}
LINES = ("-", "--", "-.", ":")
_MARKERS = ("s", "^", "D", "v", "P", "X", "*")
# A figure is as wide as a phone, on which its text is then read as it is.
WIDTH, FONT = 4.8, 11
SETTINGS = {"font.size": FONT, "svg.hashsalt": "ddpm-keras", "svg.fonttype": "path"}


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes:
        name: file name without suffix.
        title: heading.
        text: what it shows, for readers who do not see it, with its main numbers.
        note: how to read it, one or two sentences.
        figure: the `matplotlib.figure.Figure`.
        categories: what the places 0, 1, 2 ... of its horizontal axis are called, where they are
            no numbers; or its rows, from above.
        steps: of a picture of paths: the optimizer step of each of their points.
    """

    name: str
    title: str
    text: str
    note: str
    figure: Figure
    categories: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()

    def png(self, path):
        """Writes the figure as PNG."""
        self.figure.savefig(path, format="png", dpi=220)

    def svg(self):
        """The figure as an SVG `data:` address, with other colours where the page is dark."""
        import matplotlib

        with matplotlib.rc_context(SETTINGS):
            buffer = io.StringIO()
            self.figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
        text = _with_variables(buffer.getvalue())
        return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()

    def chart(self):
        """What an interactive chart of it needs, as of `charts.of_figure`."""
        return charts.of_figure(self.figure, self.categories, self.steps)


def _with_variables(svg):
    """An SVG whose colours are variables with a light and a dark value."""
    svg = re.sub("|".join(DARK), lambda found: f"var(--c{found[0][1:]})", svg)
    start = svg.index(">", svg.index("<svg")) + 1
    return (
        f"{svg[:start]}<style>{colour_variables()}svg{{fill:var(--c000000)}}</style>{svg[start:]}"
    )


def colour_variables():
    """CSS that gives every colour of the figures a variable: `--cd55e00` of "#d55e00"."""
    light, dark = (
        "".join(f"--c{name[1:]}:{value};" for name, value in pairs)
        for pairs in (zip(DARK, DARK, strict=True), DARK.items())
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def style(weight_sets, name):
    """Line style of a weight set, the same in every figure of a report."""
    if name == names.RAW:
        return {"color": RAW_COLOUR, "linestyle": "-", "marker": "o", "label": "raw"}
    i = [each for each in weight_sets if each != names.RAW].index(name)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + 1) % len(LINES)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "label": name,
    }


def axes(count=1, height=3.2):
    """A figure of `count` axes below each other, each `height` inches high: (figure, axes)."""
    figure = Figure(figsize=(WIDTH, height * count), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
        each.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def overlay(axis, record, curves, markers=True):
    for name, (steps, values) in curves.items():
        look = style(record.weight_sets, name)
        look |= {} if markers and len(steps) <= 60 else {"marker": None}
        axis.plot(steps, values, markersize=4, linewidth=1.6, **look)
    axis.set_xlabel("optimizer step")
    legend(axis)


def legend(axis):
    """A legend: among the curves if it is short, else below them."""
    few = len(axis.get_legend_handles_labels()[1]) <= 4
    place = {} if few else {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    axis.legend(frameon=False, **place)


def log_if_wide(axis, curves, ratio=10):
    values = np.concatenate([values for _, values in curves.values()])
    if values.min() > 0 and values.max() / values.min() > ratio:
        axis.set_yscale("log")


def ends(curves):
    return ", ".join(f"{name} {values[-1]:.4g}" for name, (_, values) in curves.items())
