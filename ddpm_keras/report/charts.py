"""Figures as data, for the charts that a page draws of them: of curves, paths, bars and whiskers.

A figure is drawn once, by Matplotlib; what its axes hold is read back here, so that the chart that
a reader moves about in and the picture beside it show the same.
"""

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

DIGITS = 6  # of a number in a page
_DASHES = {"--": [7, 4], "-.": [7, 3, 2, 3], ":": [2, 3]}  # pixels drawn and left out, in turn


def of_figure(figure, categories=(), steps=()):
    """The curves of every axis of a figure.

    Args:
        figure: a `matplotlib.figure.Figure`.
        categories, steps: as of `picture.Picture`.

    Returns:
        A list of dicts, one for each axis: "x" (R,), the places of all points, `steps`, or the
        numbers of rows; "lines", each with its "label", "colour", "dash" (lengths in pixels, or
        []), "marker" (whether its points are drawn), "width" and "y" (R,), None where it has no
        point, and those of a path or in rows with "across" (R,); of a bar or whiskers with "low"
        and "high", their ends; "x_title", "y_title", "title"; "x_log", "y_log"; "categories". None
        where an axis holds something else than curves over x, paths or rows.
    """
    found = [_of_axis(axis, categories, steps) for axis in figure.axes]
    if not found or not all(found):
        return None
    return [each | {"categories": list(categories)} for each in found]


def _of_axis(axis, categories, steps):
    lines = axis.get_lines()
    if axis.containers:
        return _titled(axis) | {"x": list(range(len(categories))), "lines": _rows(axis, categories)}
    if axis.patches or not lines:
        return None
    if len(steps):
        return _titled(axis) | {"x": _plain(steps), "lines": _paths(lines, steps)}
    if not all(map(_is_over_x, lines)):
        return None
    places = np.unique(np.concatenate([line.get_xdata() for line in lines]))
    return _titled(axis) | {"x": _plain(places), "lines": _lines(lines, places)}


def _titled(axis):
    return {
        "x_title": axis.get_xlabel(),
        "y_title": axis.get_ylabel(),
        "title": axis.get_title(),
        "x_log": axis.get_xscale() == "log",
        "y_log": axis.get_yscale() == "log",
    }


def _is_over_x(line):
    return bool(np.all(np.diff(np.asarray(line.get_xdata(), float)) > 0))


def _paths(lines, steps):
    """The lines that have a point for each step; the marker at an end is drawn by the chart."""
    return [
        {"label": line.get_label(), **_look(line), "across": _plain(x), "y": _plain(y)}
        for line in lines
        for x, y in [line.get_data()]
        if len(x) == len(steps)
    ]


def _rows(axis, categories):
    """Horizontal bars or points with whiskers, a row each; then rules across all, if labelled."""
    rows = [row for container in axis.containers for row in _of_container(container)]
    rules = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    every = range(len(rows))
    return [
        {"label": label, "dash": [], **look, **_placed(value, [i], every)}
        for i, (label, (value, look)) in enumerate(zip(categories, rows, strict=True))
    ] + [
        {"label": rule.get_label(), **_look(rule), **_placed(rule.get_xdata()[0], every, every)}
        for rule in rules
    ]


def _of_container(container):
    """The value of each bar, or of the point with whiskers, and how it looks."""
    if isinstance(container, BarContainer):
        for bar in container:
            value = bar.get_x() + bar.get_width()
            look = {"colour": to_hex(bar.get_facecolor()), "marker": False, "width": 1}
            yield value, look | _ends(bar.get_x(), value)
    else:
        point, _, (whiskers,) = container
        (ends,) = whiskers.get_segments()
        yield point.get_xdata()[0], _look(point) | {"width": 1} | _ends(*ends[:, 0])


def _ends(low, high):
    return dict(zip(("low", "high"), _plain((low, high)), strict=True))


def _placed(value, rows, every):
    """A value in some rows of all."""
    (value,) = _plain([value])
    return {
        "across": [value if row in rows else None for row in every],
        "y": [row if row in rows else None for row in every],
    }


def _lines(lines, places):
    """A line without a label of its own belongs to the one before that looks like it."""
    labels, result = {}, []
    for line in lines:
        look = _look(line)
        own, alike = line.get_label(), (look["colour"], tuple(look["dash"]))
        label = labels.get(alike, "") if own.startswith("_") else own
        labels.setdefault(alike, label)
        result.append({"label": label, **look, "y": _at(places, *line.get_data())})
    return result


def _look(line):
    return {
        "colour": to_hex(line.get_color()),
        "dash": _DASHES.get(line.get_linestyle(), []),
        "marker": line.get_marker() not in ("None", "none", None, ""),
        "width": 0 if line.get_linestyle() in ("None", "none") else line.get_linewidth(),
    }


def _at(places, x, y):
    """The values of a line at all places, None between its points and where it is not finite."""
    values = np.full(len(places), np.nan)
    values[np.searchsorted(places, x)] = y
    return _plain(values)


def _plain(values):
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in map(float, values)]
