"""Run directories of the right shape with made-up numbers, for the tests of the report."""

import csv
import dataclasses
import json

import numpy as np

from ddpm_keras import images, names, quality
from ddpm_keras.app.run_directory import Run
from ddpm_keras.report import analysis

DECAYS = {"ema_0.99": 0.99, "ema_0.999": 0.999}


def make_run(path, seed=0, averages_win=True, evaluated=True, epochs=4, decays=None, **options):
    """Writes a run directory of `epochs` epochs of 100 steps, and returns its path."""
    random = np.random.RandomState(seed)
    decays = DECAYS if decays is None else decays
    tracked = ["raw", *decays]
    level = {name: 1.0 for name in tracked}
    if averages_win:
        level = {name: 1 / (1 + i) for i, name in enumerate(tracked)}
    path.mkdir(parents=True, exist_ok=True)
    (path / "samples").mkdir(exist_ok=True)
    _write_config(path, seed, decays, epochs, options)
    _write_history(path, random, decays, level, epochs)
    _write_trajectory(path, random, decays, epochs)
    for epoch in range(1, epochs + 1):
        for name in tracked:
            samples = random.randint(0, 256, (9, 8, 8, 3), np.uint8)
            images.grid(samples).save(path / "samples" / names.picture(epoch, name))
    images.grid(samples).save(path / "samples" / names.REAL_PICTURE)
    if evaluated:
        _write_evaluation(path, random, level)
    return path


def record_of(path):
    """What the report reads of a run directory."""
    return analysis.RunRecord(Run.open(path))


def _write_config(path, seed, decays, epochs, options):
    config = {
        "options": {
            "dataset": "digits",
            "steps": 100 * epochs,
            "batch_size": 128,
            "ema": list(decays.values()),
            "ema_schedule": "constant",
            "quality_images": 500,
            "seed": seed,
            "run_dir": str(path),
            **options,
        },
        "command": f"python train.py --seed {seed} --run-dir {path.name}",
        "begun": "2026-05-01T12:00:00",
        "weight_sets": ["raw", *decays],
        "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
        "data": {
            **{"name": "digits", "num_train": 1437, "num_held_out": 360},
            **{"image_shape": [8, 8, 3], "num_classes": 10},
        },
    }
    (path / "config.json").write_text(json.dumps(config))


def _write_history(path, random, decays, level, epochs):
    rows = []
    for step in range(10, 100 * epochs + 1, 10):
        loss = 0.1 + np.exp(-step / 50) + 0.01 * random.rand()
        row = {"step": step, "epoch": 1 + (step - 1) // 100, "seconds": step / 10, "loss": loss}
        row |= {f"loss_q{q}": loss / q for q in (1, 2, 3, 4)}
        row |= {"grad_norm": 1 / step, "learning_rate": 1e-3, "images_per_second": 900.0}
        row |= {"step_length": 0.01}
        for name, beta in decays.items():
            row |= {f"beta_{name}": beta, f"window_{name}": 1 / (1 - beta)}
            row |= {
                f"distance_{name}": 1.0,
                f"relative_distance_{name}": 0.1,
                f"cosine_{name}": 0.99,
            }
        if step % 100 == 0:
            for name, value in level.items():
                row[f"val_loss_{name}"] = 0.1 * value + 1 / step + 0.001 * random.rand()
                row[f"quality_{name}"] = 8 * value + 100 / step + 0.5 * random.rand()
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _write_trajectory(path, random, decays, epochs):
    count = 10 * epochs
    steps = np.cumsum(random.randn(count, 256), axis=0)
    arrays = {"step": 10 * np.arange(1, count + 1), "sketch_raw": steps}
    for name in decays:
        arrays[f"sketch_{name}"] = 0.5 * steps
        arrays[f"block_cosine_{name}"] = 1 - 0.1 * random.rand(count, 3)
    arrays = {k: np.float32(v) for k, v in arrays.items()}
    np.savez(path / "trajectory.npz", blocks=np.array(["first", "middle", "last"]), **arrays)


def _write_evaluation(path, random, level):
    distances = {name: 8 * value + 0.1 * random.rand() for name, value in level.items()}
    last = list(level)[-1]
    difference = distances[last] - distances["raw"]
    found = quality.Difference(difference, difference - 0.5, difference + 0.5)
    widths = {names.of_width(w): 3 + 100 * (w - 0.1) ** 2 for w in (0.05, 0.1, 0.15, 0.2)}
    level = level | dict.fromkeys(widths, level["raw"])
    write_evaluation(path, distances | widths, {last: found}, level)


def write_evaluation(path, distances, differences=None, level=None, **otherwise):
    """Writes an evaluation.json of these distances, and returns the `Evaluation`.

    Args:
        otherwise: fields of the `Evaluation` in place of the usual ones.
    """
    level = level or dict.fromkeys(distances, 1.0)
    evaluation = quality.Evaluation(
        weights={
            name: quality.Measurement.of(
                frechet=float(value),
                frechet_held_out=9 * level[name],
                kid=0.01 * level[name],
                kid_std=0.001,
                precision=0.8,
                recall=0.7,
                num_images=1437,
                extractor="digits classifier",
                sampler="DDIM, 50 steps",
                seed=0,
            )
            for name, value in distances.items()
        },
        reference=quality.Reference("digits", "train", 1437, 360, floor_frechet=3.0),
        metric="Fréchet distance, digits classifier",
        differences=differences or {},
        step=400,
        command=f"python evaluate.py {path.name}",
    )
    evaluation = dataclasses.replace(evaluation, **otherwise)
    evaluation.after(None).write(path / "evaluation.json")
    return evaluation
