"""A figure of a report, and what all of them share: colours, axes, legends.

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

# Okabe and Ito's colours and one of Tol's, which colour-blind readers can tell apart; raw is always
# dark grey.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#882255")
LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
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


def style(weight_sets, name):
    """Line style of a weight set, the same in every figure of a report."""
    if name == names.RAW:
        return {"color": "#444444", "linestyle": "-", "marker": "o", "label": "raw"}
    i = [each for each in weight_sets if each != names.RAW].index(name)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + 1) % len(LINES)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "label": name,
    }


def axes(count=1, height=3.4):
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
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
    axis.legend(frameon=False, fontsize="medium" if few else "small", **place)


def log_if_wide(axis, curves, ratio=10):
    values = np.concatenate([values for _, values in curves.values()])
    if values.min() > 0 and values.max() / values.min() > ratio:
        axis.set_yscale("log")


def ends(curves):
    return ", ".join(f"{name} {values[-1]:.4g}" for name, (_, values) in curves.items())
