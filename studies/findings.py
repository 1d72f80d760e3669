"""What the study finds: a function a question, each of a `results.Study`.

None stands for a question whose experiment was not run. Numbers are paired by the seed of the
training, and all tests of a question are corrected together.
"""

import math

import numpy as np
from checks import components, ranking
from effects import PRIMARY, RAW, corrected, level, paired, ratio, widths_of
from maps import batches, guidance, rates, stages

from ddpm_keras import names
from ddpm_keras.report import inference, stability

SAME = 1e-3  # averages whose distances differ by no more in any training are one row
MAINS = {"main-digits": "digits", "main-fashion": "Fashion-MNIST", "main-emoji": "emoji"}


# 0: the primary comparison


def primary(study, experiment):
    """Raw over average, `ema_warmup_0.999`: dict of the `Effect`, and of the levels of both."""
    table = study.table(experiment)
    found = ratio(table, RAW, PRIMARY)
    if found is None:
        return None
    return {
        "effect": found,
        "raw": level(table, RAW),
        "average": level(table, PRIMARY),
        "excludes": found.low is not None and not found.low <= 1 <= found.high,
        "each": [
            first / second for first, second in zip(*paired(table, RAW, PRIMARY), strict=True)
        ],
    }


# 1 and 10: every average against raw and against the primary one


def averages(study, experiment):
    """Rows of every tracked average: dict name -> dict; averages that are the same are one row."""
    table = study.table(experiment)
    if RAW not in table:
        return None
    tracked = [name for name in study.about[experiment]["averages"] if name in table]
    rows = merged(table, tracked)
    to_raw = corrected({name: ratio(table, RAW, name) for name in rows})
    others = [name for name in rows if PRIMARY not in rows[name]]
    to_primary = corrected({name: ratio(table, PRIMARY, name) for name in others})
    shares = {key: study.table(experiment, key) for key in ("precision", "recall")}
    count = study.about[experiment]["num_images"]
    return {
        name: {
            "names": rows.get(name, [name]),
            "level": level(table, name),
            "raw": to_raw.get(name),
            "primary": to_primary.get(name),
            **{
                key: inference.share(list(values[name].values()), count)
                for key, values in shares.items()
            },
            **study.about[experiment]["averages"].get(name, {}),
        }
        for name in (RAW, *rows)
    }


def merged(table, tracked):
    """Dict of the first name of each group of averages that are the same -> all its names."""
    groups = {}
    for name in tracked:
        same = [other for other in groups if _same(table[name], table[other])]
        if same:
            groups[same[0]].append(name)
        else:
            groups[name] = [name]
    return groups


def _same(first, second):
    seeds = first.keys() & second.keys()
    return bool(seeds) and all(abs(math.log(first[s] / second[s])) <= SAME for s in seeds)


# 2 and 11: the best average, chosen on other images than it is judged on


def chosen(study, experiment):
    """The best tracked average and the best post-hoc width, chosen on drawing 1, judged on 0."""
    choice, judged = study.table(experiment, drawing=1), study.table(experiment)
    seeds = sorted(choice.get(RAW, {}))
    if not seeds:
        return None
    tracked = [name for name in choice if name.startswith("ema_")]
    made = [name for name in choice if names.synthesis(name)]
    kinds = {"tracked": tracked, "posthoc": made}
    found = {
        kind: [_best(choice, judged, seed, those) for seed in seeds]
        for kind, those in kinds.items()
    }
    values = {kind: [value for _, value in each] for kind, each in found.items()}
    values[RAW] = [judged[RAW][seed] for seed in seeds]
    effects = {
        "tracked": inference.ratio(values[RAW], values["tracked"]),
        "posthoc": inference.ratio(values[RAW], values["posthoc"]),
        "posthoc against tracked": inference.ratio(values["tracked"], values["posthoc"]),
    }
    return {
        "effects": corrected(effects),
        "chosen": {kind: [name for name, _ in each] for kind, each in found.items()},
    }


def _best(choice, judged, seed, those):
    return inference.chosen_elsewhere(
        {name: choice[name][seed] for name in those if seed in choice[name]},
        {name: judged[name][seed] for name in those if seed in judged.get(name, {})},
    )


def widths(study, experiment, step=None):
    """Dict σ_rel -> `Effect` of the distance there."""
    table = study.table(experiment, step=step)
    return {width: level(table, name) for width, name in widths_of(table)}


# 3: steadiness


def steadiness(study, experiment):
    """Raw over average of jitter and of the older variation, of each curve: corrected together."""
    effects = {}
    for what in ("val_loss", "quality"):
        curves = study.curves(experiment, what)
        for measure in (stability.jitter, stability.variation):
            table = {
                name: {seed: measure(values) for seed, (_, values) in curves.get(name, {}).items()}
                for name in (RAW, PRIMARY)
            }
            known = [value for each in table.values() for value in each.values()]
            if known and all(known):  # neither unknown nor zero
                effects[what, measure.__name__] = ratio(table, RAW, PRIMARY)
    return corrected(effects) or None


# 4 and 5: speed, and when an average begins to pay


def speed(study, experiment):
    """Steps to the level of the settled raw weights, cut at the end of training."""
    curves = study.curves(experiment, "quality")
    if RAW not in curves:
        return None
    end = study.last(experiment)
    times = {name: [] for name in (RAW, PRIMARY)}
    for seed, (_, raw) in sorted(curves[RAW].items()):
        target = float(np.median(raw[len(raw) // 2 :]))
        for name, found in times.items():
            found.append(stability.steps_to_reach(*curves[name][seed], target))
    cut = {name: [end if t is None else t for t in each] for name, each in times.items()}
    infinite = {name: [math.inf if t is None else t for t in each] for name, each in times.items()}
    below, above, p = inference.sign_test(infinite[PRIMARY], infinite[RAW])
    return {
        "means": {name: float(np.mean(each)) for name, each in cut.items()},
        "never": {name: each.count(None) for name, each in times.items()},
        "effect": inference.difference(cut[RAW], cut[PRIMARY]),
        "first": below,
        "last": above,
        "p": p,
        "every": int(np.diff(curves[RAW][min(curves[RAW])][0]).min()),
    }


def pays(study, experiment):
    """From which step on each average stays below raw: dict curve -> weight set -> steps."""
    found = {}
    for what in ("quality", "val_loss"):
        curves = study.curves(experiment, what)
        if RAW in curves:
            found[what] = {
                name: [
                    stability.pays_from(*curve, curves[RAW][seed][1])
                    for seed, curve in sorted(seeds.items())
                ]
                for name, seeds in curves.items()
                if name != RAW
            }
    return found or None


def everything(study):
    """All findings: dict question -> dict main experiment -> finding."""
    by_main = {
        "primary": primary,
        "averages": averages,
        "chosen": chosen,
        "widths": widths,
        "steadiness": steadiness,
        "speed": speed,
        "pays": pays,
        "stages": stages,
        "ranking": ranking,
        "components": components,
        "rates": rates,
        "guidance": guidance,
        "batches": batches,
    }
    found = {}
    for question, find in by_main.items():
        each = {name: find(study, name) for name in MAINS if name in study.about}
        found[question] = {name: finding for name, finding in each.items() if finding}
    return found
