"""The study: its text is what the committed result files say, and never more than they show."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "studies"))

import experiments  # noqa: E402
import study  # noqa: E402

from ddpm_keras import files  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402
from ddpm_keras.report import analysis  # noqa: E402

DECAYS = {"ema_step": 0.9975, "ema_warmup_0.999": 0.99, "ema_constant_0.9999": 0.9999}
README = f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n"


def results(folder, seeds=(0, 1, 2), dataset="digits", **options):
    """Result directories with made-up numbers, in the form that runs have."""
    for seed in seeds:
        path = make_run(
            folder / f"{dataset}-{seed}",
            seed,
            decays=DECAYS,
            dataset=dataset,
            ema=[0.999, 0.9999],
            ema_schedule=["step", "warmup", "constant"],
            **options,
        )
        complete(path)
    return folder


def complete(path):
    """Adds what `make_run` leaves out; weight sets without made-up numbers get those of raw."""
    config = files.read_record(path / "config.json")
    config["parameters"] = 701345
    config["versions"] |= {"python": "3.12", "machine": "Linux x86_64", "devices": ["CPU"]}
    config["versions"]["ddpm-keras"] = "0.1"
    config["data"] |= {"provenance": "made up", "image_shape": [8, 8, 1]}
    (path / "config.json").write_text(json.dumps(config))
    evaluation = files.read_record(path / "evaluation.json")
    for name in ("ema_warmup_0.9999", "ema_constant_0.999"):
        evaluation["weights"][name] = evaluation["weights"]["raw"]
    (path / "evaluation.json").write_text(json.dumps(evaluation))


def rewrite(folder, change):
    """Applies `change(seed, weights)` to the evaluated weight sets of every run."""
    for path in folder.glob("*/evaluation.json"):
        evaluation = files.read_record(path)
        change(int(path.parent.name.rsplit("-", 1)[1]), evaluation["weights"])
        path.write_text(json.dumps(evaluation))


def texts(folder):
    return study.render(study.read(folder), README)


def row(text, name):
    """The cells of the first table row of a weight set."""
    line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_committed_texts_are_those_of_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = ROOT / "docs" / "study.md"
    studies = study.read()
    if studies:
        assert study.render(studies, readme) == (page.read_text(encoding="utf-8"), readme)
        for picture in [*readme.split("docs/study/")[1:], *page.read_text().split("(study/")[1:]]:
            if ".png)" in picture:
                assert (study.RESULTS / picture.split(")")[0]).is_file()
    else:  # without result files there is nothing to claim
        assert not page.exists()
        assert "|" not in readme.split(study.BEGIN)[1].split(study.END)[0]


def test_tables_hold_the_numbers_of_the_files(tmp_path):
    folder = results(tmp_path)
    page, readme = texts(folder)
    distances = [json.loads(p.read_text())["weights"] for p in folder.glob("*/evaluation.json")]
    raw = [each["raw"]["frechet"] for each in distances]
    step = [each["ema_step"]["frechet"] for each in distances]
    mean, gain = analysis.interval(step), analysis.interval_of_differences(raw, step)
    cells = [f"{mean.mean:.2f} ({mean.low:.2f} to {mean.high:.2f})"]
    cells += [f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"]
    assert row(page, "ema_step")[1:3] == cells
    assert row(readme, "ema_step")[1:3] == cells
    assert row(page, "ema_constant_0.9999")[4] == f"{0.9999**400:.2%}"
    assert readme.startswith(f"before\n{study.BEGIN}\n")
    assert readme.endswith(f"\n{study.END}\nafter\n") and "old" not in readme
    for command in ("python train.py --seed 0 --run-dir digits-0", "python evaluate.py digits-0"):
        assert f"\n{command}\n" in page


def test_short_warmup_is_one_average_under_two_names(tmp_path):
    page, _ = texts(results(tmp_path))
    assert "`ema_warmup_0.999` and `ema_warmup_0.9999` have the same decays" in page


def test_a_better_average_is_called_better(tmp_path):
    page, readme = texts(results(tmp_path))
    assert "The best average, `ema_constant_0.9999`" in page and "excludes zero" in page
    assert "times closer to the real images" in readme


def test_a_worse_average_is_called_worse(tmp_path):
    def change(seed, weights):
        for name in weights:
            if name.startswith("ema_"):
                weights[name] = weights[name] | {"frechet": 20 + 0.1 * seed}

    folder = results(tmp_path)
    rewrite(folder, change)
    page, readme = texts(folder)
    assert "Every average is farther from the real images than the raw weights" in page
    assert "it loses to raw, since a mixture with random weights is not a trained network" in page
    assert "- Worse than raw: `ema_step`" in page and "times closer" not in page + readme
    assert "No average is better than the raw weights here." in readme
    assert "`ema_constant_0.999` and `ema_constant_0.9999` lose to raw" in readme


def test_chance_is_called_chance(tmp_path):
    def change(seed, weights):
        for name in weights:
            if name.startswith("ema_"):
                weights[name] = weights["raw"] | {"frechet": weights["raw"]["frechet"] + seed - 1.1}

    folder = results(tmp_path)
    rewrite(folder, change)
    page, readme = texts(folder)
    assert "which does not exclude zero" in page and "within chance" in readme
    assert "- Not clearly apart from raw: `ema_step`" in page
    assert "excludes zero." not in page.split("### Set-up")[0] and "times closer" not in readme


def test_the_optimum_inside_and_at_the_end_of_the_curve(tmp_path):
    folder = results(tmp_path)
    widths = np.array([0.05, 0.1, 0.15, 0.2])  # as `make_run` has it, the same in every run
    width, lowest = analysis.optimum(widths, 3 + 100 * (widths - 0.1) ** 2)
    expected = f"The optimum is near σ_rel = {width:.3f} at a distance of {lowest:.2f} ("
    assert expected in texts(folder)[0]

    def change(seed, weights):
        for name in weights:
            if name.startswith("posthoc_sigma_"):
                weights[name]["frechet"] = 5 - float(name.removeprefix("posthoc_sigma_"))

    rewrite(folder, change)
    assert "σ_rel = 0.20, is an end of the curve" in texts(folder)[0]


def test_one_training_claims_no_interval_over_trainings(tmp_path):
    folder = results(tmp_path, seeds=(0,), dataset="mnist5k")
    page, _ = texts(folder)
    assert "One training, so there is no interval over trainings." in page
    assert "Student's t" not in page
    record = json.loads((folder / "mnist5k-0" / "evaluation.json").read_text())
    found = record["differences"]["ema_constant_0.9999"]
    interval = f"{-found['estimate']:+.2f} ({-found['high']:+.2f} to {-found['low']:+.2f})"
    assert row(page, "ema_constant_0.9999")[2] == interval


def test_runs_that_differ_by_more_than_the_seed_are_refused(tmp_path):
    results(tmp_path, seeds=(0, 1))
    results(tmp_path, seeds=(2,), learning_rate=0.1)
    with pytest.raises(SystemExit, match="learning_rate"):
        study.read(tmp_path)


def test_collected_files_give_the_same_text_and_are_smaller(tmp_path):
    source = results(tmp_path / "runs")
    for path in study.collect(source, tmp_path / "kept"):
        whole, kept = Run(source / path.name), Run(path)
        assert kept.history.stat().st_size < 0.5 * whole.history.stat().st_size
        assert [r["loss"] for r in kept.read_history()] == [r["loss"] for r in whole.read_history()]
        kept, whole = (analysis.RunRecord(Run(p)).trajectory() for p in (path, source / path.name))
        assert kept[0][0] == whole[0][0] and kept[0][-1] == whole[0][-1]
        assert len(analysis.RunRecord(Run(path)).pictures(most=1)) == 1
    assert texts(tmp_path / "kept") == texts(source)


def test_write_makes_the_page_and_every_picture_it_shows(tmp_path):
    study.write(results(tmp_path / "runs"), tmp_path / "out")
    docs = tmp_path / "out" / "docs"
    pictures = {path.name for path in (docs / "study").glob("*.png")}
    page = (docs / "study.md").read_text(encoding="utf-8")
    assert pictures == {part.split(")")[0] for part in page.split("(study/")[1:]}
    assert len(pictures) == 7
    assert study.BEGIN in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_commands_of_the_study_are_ones_that_the_scripts_take():
    from ddpm_keras.app import training
    from ddpm_keras.app.options import evaluate_options, train_options

    commands = [c for e in experiments.EXPERIMENTS for seed in e.seeds for c in e.commands(seed)]
    assert len(set(map(tuple, commands))) == len(commands)
    trained = set()
    for script, *argv in commands:
        if script == "train.py":
            options, _ = train_options(argv)
            assert training.averages(options).names[-1] == "warmup_0.999"
            trained.add(options.run_dir)
        elif script == "evaluate.py":  # of a run that was trained before
            assert set(evaluate_options(argv).runs) <= trained
        else:
            assert (ROOT / script).is_file() and argv[0] in trained


class Small(experiments.Experiment):
    def commands(self, seed):
        yield ["train.py", "--seed", str(seed), "--run-dir", self.run(seed)]
        yield ["evaluate.py", self.run(seed), *(["raw"] if seed else [])]


def test_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    called = []

    def record(command, check, cwd):
        called.append((Path(command[1]).name, *command[2:]))
        if "raw" in command:
            raise KeyboardInterrupt

    monkeypatch.setattr(study.subprocess, "run", record)
    monkeypatch.setattr(experiments, "EXPERIMENTS", (Small("small", "?", (0, 1)),))
    (tmp_path / "small-0").mkdir()
    (tmp_path / "small-0" / "config.json").touch()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study.run(tmp_path, experiments.find([]))
    assert called == [
        ("train.py", "--resume", "--run-dir", "small-0"),
        ("evaluate.py", "small-0"),
        ("train.py", "--seed", "1", "--run-dir", "small-1"),
        *[("evaluate.py", "small-1", "raw")] * 2,
    ]
    assert len(study.finished(tmp_path)) == 3
