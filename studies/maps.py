"""What changes the best length of an average: stage of training, learning rate, guidance, batch."""

import numpy as np
from effects import (
    PRIMARY,
    RAW,
    SHORT,
    corrected,
    correlation,
    level,
    ratio,
    widths_of,
)

from ddpm_keras import names
from ddpm_keras.report import inference

_of = names.of_width

# The trainings of a question, by the data set's main experiment.
RATES = {
    "main-digits": {"constant": "main-digits", "cosine": "rate-cosine", "linear": "rate-linear"},
    "main-fashion": {kind: f"rate-{kind}-fashion" for kind in ("constant", "cosine", "linear")},
}
GUIDED = {"main-digits": "guidance", "main-fashion": "guidance-fashion"}
BATCHES = {
    "main-digits": {16: "batch-16", 64: "main-digits", 256: "batch-256"},
    "main-fashion": {16: "batch-16-fashion", 64: "rate-constant-fashion", 256: "batch-256-fashion"},
}

# 6: length by stage


def stages(study, experiment):
    """The map of stage and length: distance, precision and recall, and how they move."""
    steps = sorted({r["step"] for r in study.numbers if r["experiment"] == experiment})
    tables = {step: study.table(experiment, step=step) for step in steps}
    tables = {step: table for step, table in tables.items() if widths_of(table)}
    if len(tables) < 2:
        return None
    common = set.intersection(*({width for width, _ in widths_of(t)} for t in tables.values()))
    grid = sorted(common)
    seeds = sorted(set.intersection(*(set(t[_of(grid[0])]) for t in tables.values())))
    if not seeds:
        return None
    cells = {
        key: np.array(
            [[_mean(study, experiment, key, step, w, seeds) for w in grid] for step in tables]
        )
        for key in ("frechet", "precision", "recall")
    }
    best = {
        seed: [min(grid, key=lambda w: tables[step][_of(w)][seed]) for step in tables]
        for seed in seeds
    }
    grows = [correlation(list(tables), best[seed]) for seed in seeds]
    effects = {"best length with the stage": inference.correlation(grows, len(tables))}
    for key in ("precision", "recall"):
        table = study.table(experiment, key)
        trend = [correlation(grid, [table[_of(w)][seed] for w in grid]) for seed in seeds]
        effects[f"{key} with the length, at the end"] = inference.correlation(trend, len(grid))
    return {
        "steps": list(tables),
        "widths": grid,
        "seeds": seeds,
        "cells": cells,
        "best": best,
        "effects": corrected(effects),
        "raw": [ratio(table, RAW, PRIMARY) for table in tables.values()],
    }


def _mean(study, experiment, key, step, width, seeds):
    values = [study.table(experiment, key, step=step)[_of(width)][seed] for seed in seeds]
    return float(np.exp(np.mean(np.log(values))) if key == "frechet" else np.mean(values))


# 7: the learning rate


def rates(study, main):
    """Raw and average at a constant and at falling learning rates."""
    tables = {kind: study.table(name) for kind, name in RATES.get(main, {}).items()}
    tables = {kind: table for kind, table in tables.items() if PRIMARY in table}
    seeds = set.intersection(*(set(table[RAW]) for table in tables.values())) if tables else ()
    if "constant" not in tables or len(tables) < 2 or not seeds:
        return None
    tables = {
        kind: {name: {s: v for s, v in each.items() if s in seeds} for name, each in table.items()}
        for kind, table in tables.items()
    }
    effects = {f"gain, {kind}": ratio(table, RAW, PRIMARY) for kind, table in tables.items()}
    for kind in tables.keys() - {"constant"}:
        both = {"falling": tables[kind][RAW], "average": tables["constant"][PRIMARY]}
        effects[f"raw, {kind}, over the average, constant"] = ratio(both, "falling", "average")
    return {
        "experiment": RATES[main]["constant"],
        "seeds": sorted(seeds),
        "levels": {
            kind: {name: level(table, name) for name in (RAW, SHORT, PRIMARY)}
            for kind, table in tables.items()
        },
        "effects": corrected(dict(sorted(effects.items()))),
    }


# 8: guidance


def guidance(study, main):
    """The distance by length and strength of guidance, and where its minimum is."""
    experiment = GUIDED.get(main)
    rows = [row for row in study.numbers if row["experiment"] == experiment]
    strengths = sorted({row["guidance"] for row in rows})
    if len(strengths) < 2:
        return None
    tables = {s: study.table(experiment, guidance=s) for s in strengths}
    grid = [width for width, _ in widths_of(tables[strengths[0]])]
    seeds = sorted(set.intersection(*(set(t.get(_of(grid[0]), ())) for t in tables.values())))
    if not seeds:
        return None
    cells = np.array([[level_of(tables[s][_of(w)], seeds) for w in grid] for s in strengths])
    places = {
        seed: min(
            ((s, w) for s in strengths for w in grid),
            key=lambda place: tables[place[0]][_of(place[1])][seed],
        )
        for seed in seeds
    }
    row, column = np.unravel_index(cells.argmin(), cells.shape)
    return {
        "experiment": experiment,
        "strengths": strengths,
        "widths": grid,
        "seeds": seeds,
        "cells": cells,
        "raw": [level_of(tables[s][RAW], seeds) for s in strengths],
        "best": (strengths[row], grid[column], float(cells.min())),
        "places": places,
        "best_widths": [grid[i] for i in cells.argmin(axis=1)],
    }


def level_of(values, seeds):
    """Geometric mean of a dict seed -> number over some seeds."""
    return float(np.exp(np.mean([np.log(values[seed]) for seed in seeds])))


# 9: batches


def batches(study, main):
    """The average scaled by beta^k against 0.99 as it is, at other batches than 64."""
    scaled = names.average("scaled")
    tables = {size: study.table(name) for size, name in BATCHES.get(main, {}).items()}
    others = {size: table for size, table in tables.items() if scaled in table}
    if not others:
        return None
    seeds = sorted(set.union(*(set(table[RAW]) for table in others.values())))
    return {
        "experiment": BATCHES[main][min(others)],
        "seeds": seeds,
        "levels": {
            size: {
                name: inference.level([table[name][s] for s in seeds if s in table[name]])
                for name in (RAW, SHORT, scaled, PRIMARY)
                if name in table
            }
            for size, table in tables.items()
            if not set(seeds).isdisjoint(table.get(SHORT, ()))
        },
        "effects": corrected({size: ratio(t, SHORT, scaled) for size, t in others.items()}),
    }
