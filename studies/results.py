"""The numbers of the study: gathered from the runs into three small files, and read back.

numbers.csv has a row for each weight set that was measured: how (experiment, seed of the training,
step, seed of the drawing, guidance, extractor) and what. curves.csv has the numbers that were taken
while training. experiments.json says how each experiment was trained and drawn.
"""

import csv
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from experiments import EXPERIMENTS
from opinions import FILE as OPINIONS

from ddpm_keras import files, names
from ddpm_keras.app import training
from ddpm_keras.app.run_directory import Run
from ddpm_keras.report import analysis

HOW = ("experiment", "seed", "step", "weights", "drawing", "guidance", "extractor", "num_images")
WHAT = ("frechet", "kid", "precision", "recall", "copying", "copying_pixels", "accuracy")
POINT = ("experiment", "seed", "step", "weights")
CURVES = ("val_loss", "quality")
CLASSIFIER = "classifier_0"  # what evaluate.py measures by
PICTURED = (names.RAW, names.average("warmup_0.999"))


# Gathering


def collect(root, out):
    """Writes the files of the study from the runs in `root` that are trained and measured.

    What was gathered before of other trainings stays, so that runs may be made in several places.

    Returns:
        How many runs were found.
    """
    before = read(out)
    numbers, points, about, count = {}, [], {}, 0
    for experiment in filter(lambda each: each.train, EXPERIMENTS):
        runs = {seed: Run(root / experiment.run(seed)) for seed in experiment.seeds}
        found = {seed: run for seed, run in runs.items() if run.evaluation.is_file()}
        rows, curves = (
            _others(each, experiment, found) for each in (before.numbers, before.points)
        )
        for seed, run in found.items():
            own = {"experiment": experiment.name, "seed": seed}
            rows += [own | each for each in (*measured(run), *other_opinions(run))]
            if experiment.name.startswith("main"):
                curves += [own | each for each in while_training(run)]
        numbers |= {tuple(entry[key] for key in HOW): entry for entry in _by_seed(rows)}
        points += _by_seed(curves)
        known = before.about.get(experiment.name)
        if found:
            known = describe(experiment, found, known)
            copy_pictures(experiment.name, next(iter(found.values())), out)
        about |= {experiment.name: known} if known else {}
        count += len(found)
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "numbers.csv", (*HOW, *WHAT), numbers.values())
    write_rows(out / "curves.csv", (*POINT, *CURVES), points)
    files.write_text(out / "experiments.json", json.dumps(about, indent=1) + "\n")
    return count


def _others(rows, experiment, seeds):
    """The rows of an experiment that are of other trainings than those of `seeds`."""
    own = [row for row in rows if row["experiment"] == experiment.name]
    return [row for row in own if row["seed"] not in seeds]


def _by_seed(rows):
    return sorted(rows, key=lambda row: row["seed"])


def measured(run):
    """What evaluate.py found, a dict for each weight set and way of measuring it."""
    for evaluation in run.read_evaluations().made:
        for name, each in evaluation.weights.items():
            yield {
                "step": evaluation.step,
                "weights": name,
                "drawing": each.seed,
                "guidance": 1.0 if each.guidance is None else each.guidance,
                "extractor": CLASSIFIER,
                "num_images": each.num_images,
                "frechet": each.frechet,
                **{key: each.numbers.get(key) for key in WHAT if key in each.numbers},
            }


def other_opinions(run):
    """What studies/opinions.py found, in the same form."""
    if not (run.path / OPINIONS).is_file():
        return
    record = files.read_record(run.path / OPINIONS)
    for each in record["measured"]:
        yield {
            "step": record["step"],
            "drawing": each["seed"],
            "guidance": 1.0,
            "num_images": record["num_images"],
            **{key: value for key, value in each.items() if key not in ("seed", "error")},
        }


def while_training(run):
    """The rows of history.csv with numbers of weight sets, in the form of curves.csv."""
    for row in run.read_history():
        found = defaultdict(dict)
        for column, value in row.items():
            what, weights = names.parse_column(column) or (None, None)
            if what in CURVES:
                found[weights][what] = value
        for weights, values in found.items():
            yield {"step": int(row["step"]), "weights": weights, **values}


def describe(experiment, runs, before=None):
    """How an experiment was made, a dict: as its first run, from which others differ by seed.

    Args:
        experiment: an `Experiment`.
        runs: dict seed -> `Run` of those that were found.
        before: what was said of trainings that are not found any more, or None.
    """
    if before and min(before["seeds"]) < min(runs):
        made = {*before["seeds"], *runs}
        return before | {"planned": list(experiment.seeds), "seeds": sorted(made)}
    first = analysis.RunRecord(next(iter(runs.values())))
    config, options = first.config, first.run.options
    evaluation = first.evaluations.made[0]
    decays = training.averages(options).decays
    return {
        "asks": experiment.asks,
        "planned": list(experiment.seeds),
        "seeds": sorted({*runs, *(before or {"seeds": ()})["seeds"]}),
        "train": config["command"],
        "evaluate": evaluation.command,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "optimizer": f"{options.optimizer}, learning rate {options.learning_rate}",
        "network": f"UNet, {options.base_channels} channels x {options.channel_multipliers}",
        "schedule": f"{options.schedule}, T = {options.timesteps}, {options.prediction}",
        "parameters": config["parameters"],
        "data": {
            key: config["data"][key]
            for key in ("provenance", "num_train", "num_held_out", "image_shape")
        },
        "versions": config["versions"],
        "metric": evaluation.metric,
        "way": evaluation.way,
        "sampler": evaluation.settings["sampler"],
        "num_images": evaluation.num_images,
        "held_out": evaluation.reference.floor_frechet,
        "averages": {
            names.average(name): {
                "rule": repr(decay),
                "window": float(decay.effective_window(options.steps - 1)),
                "initial_share": float(decay.initial_share(options.steps)),
            }
            for name, decay in decays.items()
        },
        **opinion(first.path / OPINIONS),
    }


def opinion(path):
    """What studies/opinions.py says of an experiment; nothing where it did not look at it."""
    if not path.is_file():
        return {"floor": {}, "extractors": {}, "told_apart_floor": None}
    record = files.read_record(path)
    told = record["two_sample_floor"]["accuracy"]
    return {key: record[key] for key in ("floor", "extractors")} | {"told_apart_floor": told}


def copy_pictures(name, run, out):
    """Copies the last pictures of the raw weights and of the average of the primary comparison."""
    out.mkdir(parents=True, exist_ok=True)
    for pictures in analysis.RunRecord(run).pictures(most=1).values():
        for weights in PICTURED:
            if name.startswith("main") and weights in pictures:
                shutil.copyfile(pictures[weights], out / f"{name}-{weights}.png")


def write_rows(path, columns, rows):
    """Writes dicts as CSV; numbers have six digits, and what is missing is left empty."""
    with files.atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_text(row.get(column)) for column in columns] for row in rows)


def _text(value):
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


# Reading


@dataclass(frozen=True)
class Study:
    """All numbers of the study.

    Attributes:
        numbers, points: rows of numbers.csv and curves.csv, dicts; what was not measured is left
            out of them.
        about: dict experiment -> what experiments.json says of it.
    """

    numbers: list
    points: list
    about: dict

    def table(self, experiment, key="frechet", step=None, drawing=0, **how):
        """Dict weight set -> dict seed -> number.

        Args:
            experiment: whose runs.
            key: which number, a name in `WHAT`.
            step: of the training; the last where it is None.
            drawing: seed of the images.
            how: `extractor` (the classifier that evaluate.py has), `guidance` (1).
        """
        wanted = {
            "experiment": experiment,
            "drawing": drawing,
            "step": step or self.last(experiment),
        }
        wanted |= {"extractor": CLASSIFIER, "guidance": 1.0} | how
        found = defaultdict(dict)
        for row in self.numbers:
            if key in row and all(row[name] == value for name, value in wanted.items()):
                found[row["weights"]][row["seed"]] = row[key]
        return dict(found)

    def last(self, experiment):
        """The last step of an experiment, or None where it was not run."""
        return self.about.get(experiment, {}).get("steps")

    def curves(self, experiment, key):
        """Dict weight set -> dict seed -> `(steps, values)` of a number taken while training."""
        found = defaultdict(lambda: defaultdict(list))
        for row in self.points:
            if row["experiment"] == experiment and key in row:
                found[row["weights"]][row["seed"]].append((row["step"], row[key]))
        return {
            weights: {seed: tuple(np.array(pairs).T) for seed, pairs in seeds.items()}
            for weights, seeds in found.items()
        }


def read(folder):
    """The `Study` in a folder; one without numbers where nothing was collected."""
    if not (folder / "experiments.json").is_file():
        return Study([], [], {})
    about = json.loads((folder / "experiments.json").read_text(encoding="utf-8"))
    return Study(_rows(folder / "numbers.csv"), _rows(folder / "curves.csv"), about)


_WORDS = ("experiment", "weights", "extractor")
_COUNTS = ("seed", "step", "drawing", "num_images")


def _rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {key: _value(key, text) for key, text in row.items() if text != ""}
            for row in csv.DictReader(file)
        ]


def _value(key, text):
    if key in _WORDS:
        return text
    return int(text) if key in _COUNTS else float(text)
