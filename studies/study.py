"""The published study: what averages of the weights do to training, in numbers from files.

    python studies/study.py run                       # all experiments, a day; goes on where it was
    python studies/study.py run main-digits           # one of them
    python studies/study.py collect runs/study        # copies the result files to docs/study/
    python studies/study.py write                     # docs/study.md, its figures, the README

`make study` does all of it. The text is studies/*.md.j2; every number in it comes from the
result files, and nothing is claimed that they do not show.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import emoji  # noqa: E402
import experiments  # noqa: E402
import figures  # noqa: E402

from ddpm_keras import files, names  # noqa: E402
from ddpm_keras.app import training  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402
from ddpm_keras.quality import metrics, verdict  # noqa: E402
from ddpm_keras.report import analysis, stability  # noqa: E402

RESULTS = ROOT / "docs" / "study"
FINISHED = "finished.txt"  # beside the runs: commands that ended well
BEGIN, END = "<!-- results -->", "<!-- /results -->"
MEASURES = (
    *("final", "variation", "relative_variation", "share_above_raw"),
    *("steps_to_10_percent", "steps_to_2_percent", "steps_to_best_raw"),
)
STALE = 0.01  # an average that holds more of its initial weights than this is called too long
# Columns of history.csv that are kept for every row; the rows of evaluations are kept whole.
KEPT = ("step", "epoch", "seconds", "loss", "grad_norm", "learning_rate")
PATH_RECORDS = 50  # records of the path of the weights that are kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("run", help="train and measure what is missing (hours)")
    action.add_argument("experiments", nargs="*", help="their names (default: all)")
    action.add_argument("--root", type=Path, default=Path("runs/study"), help="where runs go")
    action = actions.add_parser("plan", help="print what would be run")
    action.add_argument("experiments", nargs="*", help="their names (default: all)")
    action.add_argument("--root", type=Path, default=Path("runs/study"), help="where runs go")
    action = actions.add_parser("collect", help="copy the result files of finished runs")
    action.add_argument("root", type=Path, help="where the runs are")
    action.add_argument("--out", type=Path, default=RESULTS)
    actions.add_parser("write", help="write docs/study.md, its figures and the README's results")
    options = parser.parse_args()
    if options.action in ("run", "plan"):
        {"run": run, "plan": plan}[options.action](options.root, chosen(parser, options))
    elif options.action == "collect":
        print("\n".join(map(str, collect(options.root, options.out))))
    else:
        write()


# Running


def chosen(parser, options):
    """The experiments that the command line names."""
    try:
        return experiments.find(options.experiments)
    except KeyError as error:
        known = ", ".join(each.name for each in experiments.EXPERIMENTS)
        parser.error(f"there is no experiment {error}; name some of {known}")


def plan(root, wanted):
    """Prints experiments with what is missing of them."""
    done = finished(root)
    for each in wanted:
        commands = [shlex.join(command) for seed in each.seeds for command in each.commands(seed)]
        missing = [command for command in commands if command not in done]
        print(f"{each.name}: {len(commands) - len(missing)} of {len(commands)} done; {each.asks}")
        print("".join(f"  {command}\n" for command in missing), end="")


def run(root, wanted):
    """Runs what is missing of experiments, in their order, in the folder `root`.

    The commands that ended well are kept in `root`/finished.txt, one a line; they are left out the
    next time. A training that was begun goes on.
    """
    root.mkdir(parents=True, exist_ok=True)
    make_emoji(root, wanted)
    for experiment in wanted:
        for seed in experiment.seeds:
            for command in experiment.commands(seed):
                if shlex.join(command) not in finished(root):
                    call(command, root)


def finished(root):
    """The commands that ended well."""
    path = root / FINISHED
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def make_emoji(root, wanted):
    """Draws the emoji, where an experiment wants them and they are not there."""
    folder = root / experiments.EMOJI
    if any(f"--dataset {experiments.EMOJI} " in each.train for each in wanted):
        if not folder.is_dir():
            emoji.main([str(folder)])


def call(command, root):
    """Runs a command of the project with this Python in `root`, and stops where it fails."""
    script, *options = command
    begun = script == "train.py" and Run(root / options[-1]).config_file.is_file()
    now = ["--resume", "--run-dir", options[-1]] if begun else options
    print(f"\n$ {shlex.join([script, *now])}", flush=True)
    place = ROOT / script
    subprocess.run([sys.executable, str(place), *now], check=True, cwd=root)
    with open(root / FINISHED, "a", encoding="utf-8") as file:
        file.write(shlex.join(command) + "\n")


# Collecting


def collect(root, out):
    """Copies what the study reads of each finished run: configuration, results, curves, pictures.

    Returns:
        The directories written.

    Raises:
        SystemExit: there is no finished run.
    """
    runs = [Run(path.parent) for path in sorted(root.glob("*/evaluation.json"))]
    if not runs:
        sys.exit(f"{root} holds no evaluated run; first: python studies/study.py run")
    return [thin(each, Run(out / each.path.name)) for each in runs]


def thin(source, target):
    """The files of one run that the study reads, a tenth of their size."""
    target.path.mkdir(parents=True, exist_ok=True)
    record = analysis.RunRecord(source)
    shutil.copyfile(source.config_file, target.config_file)  # it says which run this is
    thin_path(record, target.trajectory)
    shutil.rmtree(target.samples, ignore_errors=True)
    target.samples.mkdir()
    for pictures in record.pictures(most=1).values():
        for picture in pictures.values():
            shutil.copyfile(picture, target.samples / picture.name)
    shutil.copyfile(source.evaluation, target.evaluation)
    rows = record.history
    whole = [any(map(evaluated, row)) for row in rows]
    columns = dict.fromkeys(key for row in rows for key in row)
    target.write_history(
        [
            {key: row[key] for key in columns if key in row and (all_of_it or key in KEPT)}
            for row, all_of_it in zip(rows, whole, strict=True)
        ]
    )
    return target.path


def evaluated(column):
    """Whether a column is measured at evaluations only."""
    what, _ = names.parse_column(column) or (None, None)
    return what in ("val_loss", "quality", "quality_kid")


def thin_path(record, path):
    """Writes at most `PATH_RECORDS` records of the path of the weights, as float16."""
    steps, sketches = record.trajectory()
    kept = np.unique(np.linspace(0, len(steps) - 1, PATH_RECORDS).round().astype(int))
    arrays = {
        names.column("sketch", name): sketch[kept].astype("float16")
        for name, sketch in sketches.items()
    }
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, step=steps[kept], **arrays)


# Reading


def read(results=RESULTS):
    """The study of each data set: dict name -> dict of what the templates show.

    Raises:
        SystemExit: runs of one data set differ by more than the seed.
    """
    records = [
        analysis.RunRecord(Run(path.parent)) for path in sorted(results.glob("*/config.json"))
    ]
    by_dataset = {}
    for record in records:
        by_dataset.setdefault(record.config["options"]["dataset"], []).append(record)
    for name, group in by_dataset.items():
        if len(analysis.groups(group)) > 1:
            sys.exit(f"The {name} runs in {results} differ by {analysis.differing_options(group)}.")
    return {name: describe(group) for name, group in sorted(by_dataset.items())}


def describe(records):
    """All numbers of one data set.

    Args:
        records: `analysis.RunRecord`s that differ by the seed alone.
    """
    first = records[0]
    options = first.run.options
    averages = training.averages(options).decays
    decays = {names.average(name): decay for name, decay in averages.items()}
    tracked = (names.RAW, *decays)
    quality = rows_of(analysis.quality_across_seeds(records), tracked)
    if missing := set(tracked) - set(quality):
        sys.exit(f"{first.path} is not evaluated for {', '.join(sorted(missing))}.")
    best = min(decays, key=lambda name: quality[name]["value"].mean)
    shares = {name: decay.initial_share(options.steps) for name, decay in decays.items()}
    verdicts = {name: analysis.outcome(quality[name]["gain"]) for name in decays}
    return {
        "records": records,
        "config": first.config,
        "options": options,
        "count": len(records),
        "seeds": [record.config["options"]["seed"] for record in records],
        "evaluation": first.evaluation,
        "drawn": first.evaluation.weights[names.RAW],
        "metric": first.metric,
        "monitored": first.monitored,
        "decays": decays,
        "tracked": tracked,
        "windows": {k: float(d.effective_window(options.steps - 1)) for k, d in decays.items()},
        "shares": shares,
        "stale": [name for name, share in shares.items() if share > STALE],
        "same": equal_decays(decays, options.steps),
        "quality": quality,
        "best": best,
        "verdicts": verdicts,
        "worse": [name for name in decays if verdicts[name] == verdict.WORSE],
        "unclear": [n for n in decays if verdicts[n] in (verdict.CHANCE, verdict.UNDECIDED)],
        "others": {
            key: other_metric(records, tracked, best, key)
            for key in metrics.shown_numbers()
            if key != "frechet"
        },
        "val_loss": curves(records, tracked, "val_loss"),
        "during": curves(records, tracked, "quality"),
        "evaluations": {
            "val_loss": len(first.curve(names.column("val_loss", names.RAW))[0]),
            "during": len(first.curve(names.column("quality", names.RAW))[0]),
        },
        "posthoc": posthoc(records, best),
        "path": {
            key: table(records, tracked, lambda record, key=key: last(record.curves(key)))
            for key in ("relative_distance", "cosine")
        },
        "explained": sum(analysis.principal_plane(first.trajectory()[1])[1]),
        "loss": training_loss(records),
    }


def last(curves):
    """The last value of each curve: dict weight set -> number."""
    return {name: float(values[-1]) for name, (_, values) in curves.items()}


def training_loss(records):
    """Noise of the training loss at the end of training: variance and spikes, as `Interval`s."""
    found = [analysis.loss_stability(record) for record in records]
    return {
        "window": found[0]["window"],
        "rows": found[0]["rows"],
        "variance": analysis.interval([each["last_variance"] for each in found]),
        "spikes": analysis.interval([each["spikes"] for each in found]),
    }


def other_metric(records, tracked, best, key):
    """Another metric of evaluation.json, and whether the best average is better in it."""
    rows = table(records, tracked, lambda record: record.measured(key))
    if best not in rows:
        return None
    number = metrics.shown_numbers()[key]
    gain = rows[best]["gain"]
    found = analysis.outcome(gain)
    if gain.low is None:  # one training: by the sign alone, and the text says so
        found = "better" if gain.mean > 0 else "worse"
    if not number.lower_is_better:
        found = {"better": "worse", "worse": "better"}.get(found, found)
    return {"title": number.title, "rows": rows, "verdict": found}


def table(records, tracked, numbers):
    """Weight set -> its mean over the runs and raw minus it, both as `analysis.Interval`s."""
    return rows_of(analysis.across_seeds(records, numbers), tracked)


def rows_of(found, tracked):
    """The tracked weight sets of a table over seeds, by what the templates call its columns."""
    return {n: {"value": found[n][0], "gain": found[n][1]} for n in tracked if n in found}


def curves(records, tracked, what):
    """Stability of the curves: measure -> weight set -> value and gain (`table`)."""

    def measure(key):
        def numbers(record):
            summaries = analysis.stability_table(record, what)
            known = {name: getattr(summary, key) for name, summary in summaries.items()}
            if key == "steps_to_best_raw" and names.RAW in summaries:
                known[names.RAW] = summaries[names.RAW].best_step
            return {name: value for name, value in known.items() if value is not None}

        return table(records, tracked, numbers)

    return {key: measure(key) for key in MEASURES}


def equal_decays(decays, steps):
    """Groups of averages whose decays are the same numbers throughout a run of `steps` steps."""
    rates = {name: np.asarray(decay.rate(np.arange(steps))) for name, decay in decays.items()}
    groups = []
    for name, values in rates.items():
        group = next((g for g in groups if np.array_equal(rates[g[0]], values)), None)
        groups.append([name]) if group is None else group.append(name)
    return [group for group in groups if len(group) > 1]


def posthoc(records, best):
    """The curve of quality against the width of averages made after training, or None."""
    found = [analysis.posthoc_curve(record) for record in records]
    if any(curve is None for curve in found):
        return None
    widths = found[0][0]
    if any(not np.array_equal(widths, other) for other, _ in found):
        sys.exit("The runs were evaluated at different --sigma-rel; evaluate them alike.")
    points = [analysis.interval(values) for values in zip(*(d for _, d in found), strict=True)]
    means = np.array([point.mean for point in points])
    lowest = int(means.argmin())
    at_lowest = [distances[lowest] for _, distances in found]
    levels = {name: [r.measured()[name] for r in records] for name in (names.RAW, best)}
    return {
        "widths": [float(width) for width in widths],
        "points": points,
        "optimum": analysis.optimum(widths, means),
        "at_end": lowest in (0, len(points) - 1),
        "lowest": lowest,
        "gains": {n: analysis.interval_of_differences(v, at_lowest) for n, v in levels.items()},
    }


# Writing


def estimate(found, form=".2f"):
    """An `Interval` as text: the mean, and the interval where there is one."""
    if found is None:
        return "–"
    if found.low is None:
        return format(found.mean, form)
    return f"{found.mean:{form}} ({found.low:{form}} to {found.high:{form}})"


def listing(called):
    """Names in code letters, joined by commas and "and"."""
    code = [f"`{name}`" for name in called]
    return " and ".join([", ".join(code[:-1]), code[-1]] if len(code) > 1 else code)


def environment():
    """Jinja2 with the formats of the study; a name that is missing is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"estimate": estimate, "listing": listing, "outcome": analysis.outcome}
    found.globals |= {
        "definitions": stability.DEFINITIONS,
        "stale_share": STALE,
    }
    return found


def tidy(text):
    """Without the blank lines and spaces that the templates' own lines leave."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def render(studies, readme):
    """The texts: `(docs/study.md, README.md)` from the studies and the README as it is."""
    templates = environment()
    page, section = (
        tidy(templates.get_template(name).render(studies=studies))
        for name in ("study.md.j2", "results.md.j2")
    )
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return page, f"{before}{BEGIN}\n{section}{END}{after}"


def write(results=RESULTS, out=ROOT):
    """Writes docs/study.md, the figures and the results of README.md below `out`."""
    studies = read(results)
    if not studies:
        sys.exit(f"{results} holds no results; first: python studies/study.py collect runs/study")
    page, readme = render(studies, (ROOT / "README.md").read_text(encoding="utf-8"))
    for name, study in studies.items():
        for key, figure in figures.draw(study).items():
            with files.atomic_path(out / "docs" / "study" / f"{name}-{key}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=150)
    files.write_text(out / "docs" / "study.md", page)
    files.write_text(out / "README.md", readme)
    print(f"{out / 'docs' / 'study.md'}, its figures and the results in {out / 'README.md'}")


if __name__ == "__main__":
    main()
