"""The study: its text is what the committed numbers say, and never more than they show."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "studies"))

import effects  # noqa: E402
import experiments  # noqa: E402
import figures  # noqa: E402
import findings  # noqa: E402
import results  # noqa: E402
import study  # noqa: E402
import study_numbers  # noqa: E402

from ddpm_keras import files  # noqa: E402
from ddpm_keras.report import inference  # noqa: E402

README = f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n"
RAW, AVERAGE = effects.RAW, effects.PRIMARY
KINDS = ("averages", "stages", "curves", "rates", "guidance", "batches")


def texts(folder, readme=README):
    read = results.read(folder)
    return study.render(read, findings.everything(read), readme)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of which everything was run."""
    return study_numbers.write(tmp_path_factory.mktemp("whole"))


def numbers_of(folder, **wanted):
    """Dict weight set -> list of distances, in order of seeds, read from the file by hand."""
    usual = {"experiment": "main-digits", "step": "2000", "drawing": "0", "guidance": "1"}
    wanted = usual | {"extractor": "classifier_0"} | wanted
    found = {}
    with open(folder / "numbers.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if all(row[key] == value for key, value in wanted.items()):
                found.setdefault(row["weights"], []).append(float(row["frechet"]))
    return found


def test_committed_texts_are_those_of_the_committed_numbers():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert texts(study.RESULTS, readme) == (page, readme)
    section = readme.split(study.BEGIN)[1].split(study.END)[0]
    for picture in [*section.split("(docs/study/")[1:], *page.split("(study/")[1:]]:
        assert (study.RESULTS / picture.split(")")[0]).is_file()
    size = sum(path.stat().st_size for path in study.RESULTS.iterdir())
    assert size < 4e6  # what is committed stays small


def test_ten_numbers_computed_by_hand_are_in_the_text(whole):
    page, readme = texts(whole)
    values = numbers_of(whole)
    expected = []
    for name in ("ema_lawa", "ema_constant_0.9999", AVERAGE):
        logs = np.log(values[RAW]) - np.log(values[name])
        half = stats.t.ppf(0.975, 7) * logs.std(ddof=1) / math.sqrt(8)
        low, high = np.exp([logs.mean() - half, logs.mean() + half])
        expected.append(f"{math.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})")
    assert expected[2] in readme
    expected += [f"{stats.gmean(values[name]):.2f} (" for name in (RAW, "ema_lawa", AVERAGE)]
    linear = numbers_of(whole, experiment="rate-linear")
    gain = stats.gmean(np.divide(linear[RAW], linear[AVERAGE]))
    expected.append(f"| gain, linear | {gain:.2f} (")
    batch = numbers_of(whole, experiment="batch-16")
    expected.append(
        f"| 16 | {stats.gmean(np.divide(batch[effects.SHORT], batch['ema_scaled'])):.2f} ("
    )
    guided = numbers_of(whole, experiment="guidance")
    expected.append(f"The lowest is {stats.gmean(guided['posthoc_sigma_0.1']):.2f}, at guidance 1 ")
    p = inference.holm(
        [
            stats.ttest_1samp(np.log(np.divide(values[RAW], values[n])), 0).pvalue
            for n in ("ema_constant_0.9999", "ema_lawa", "ema_constant_0.99", AVERAGE)
        ]
    )
    assert max(p) < 0.001
    expected.append("| below 0.001 | finding |")
    for text in expected:
        assert text in page, text


def test_all_sections_speak_where_all_was_run(whole):
    page, readme = texts(whole)
    assert "Not measured yet" not in page + readme
    assert "The 95% interval over trainings excludes 1: the finding of the study." in page
    assert "Shown beside the others; it decides nothing." in page
    assert "| `ema_constant_0.99` and `ema_warmup_0.99` | ConstantDecay(beta=0.99) |" in page
    assert (
        "Farther than the raw weights: `ema_constant_0.9999`. `ema_constant_0.9999` still is 82%"
        in page
    )
    assert (
        f"`{AVERAGE}: WarmupDecay(beta=0.999), float32, moved after every optimizer step, "
        "effective window 223 steps; Fréchet distance, digits classifier, 1,000 images, by DDIM"
        in readme
    )
    assert "nan" not in page


def test_nothing_is_said_of_what_was_not_run(tmp_path):
    page, readme = texts(tmp_path)
    assert "Nothing is measured yet." in page and "Not measured yet with this version." in readme
    assert readme.startswith(f"before\n{study.BEGIN}\n") and "old" not in readme
    page, _ = texts(study_numbers.write(tmp_path / "one", only=["main-digits"]))
    assert "- **Fashion-MNIST**: not measured yet." in page
    assert "trainings with a falling learning rate." in page and "nan" not in page


def test_one_training_decides_nothing(tmp_path):
    page, readme = texts(study_numbers.write(tmp_path, seeds=(0,)))
    assert "One training has no interval and decides nothing." in page
    assert "finding of the study" not in page and "one training decides nothing" in readme


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (4.0, "does not exclude 1: not shown."),
        (8.0, "excludes 1, on the side of the raw weights."),
    ],
)
def test_no_average_is_better_than_its_numbers(tmp_path, level, said):
    levels = study_numbers.LEVELS | {AVERAGE: level}
    page, _ = texts(study_numbers.write(tmp_path, only=["main-digits"], levels=levels))
    assert said in page and "the finding of the study" not in page


def test_the_best_is_chosen_on_other_images_than_it_is_judged_on():
    numbers = [
        {"experiment": "main-digits", "seed": seed, "step": 9, "weights": name, "drawing": drawing}
        | {"guidance": 1.0, "extractor": "classifier_0", "frechet": value}
        for seed in (0, 1)
        for drawing, values in ((0, (4, 3, 1, 2, 2)), (1, (4, 2, 3, 2, 3)))
        for name, value in zip(
            ("raw", "ema_a", "ema_b", "posthoc_sigma_0.1", "posthoc_sigma_0.2"), values, strict=True
        )
    ]
    found = findings.chosen(
        results.Study(numbers, [], {"main-digits": {"steps": 9}}), "main-digits"
    )
    assert found["chosen"] == {"tracked": ["ema_a"] * 2, "posthoc": ["posthoc_sigma_0.1"] * 2}
    assert found["effects"]["tracked"].effect.estimate == pytest.approx(4 / 3)


def test_batches_are_compared_in_the_same_trainings(whole):
    found = findings.everything(results.read(whole))["batches"]["main-digits"]
    values = numbers_of(whole)[RAW]
    assert (
        len(values) == 8 and found["seeds"] == [0, 1, 2] and list(found["levels"]) == [16, 64, 256]
    )
    assert found["levels"][64][RAW].estimate == pytest.approx(stats.gmean(values[:3]))


@pytest.mark.parametrize("missing", ["constant", "linear", "cosine"])
def test_falling_rates_are_compared_with_a_constant_one(tmp_path, missing):
    kinds = {"constant", "linear", "cosine"} - {missing}
    only = ["main-fashion", *(f"rate-{kind}-fashion" for kind in kinds)]
    study_numbers.write(tmp_path, only=only)
    found = findings.everything(results.read(tmp_path))["rates"].get("main-fashion")
    assert found is None if missing == "constant" else found["levels"].keys() == kinds
    texts(tmp_path)


def test_figures_of_all_that_was_run(whole, tmp_path):
    read = results.read(whole)
    drawn = figures.draw(read, findings.everything(read), tmp_path)
    each = {f"main-{data}-{kind}" for data in ("digits", "fashion") for kind in KINDS}
    assert {"widths", "main-emoji-curves"} | each <= set(drawn)
    page, _ = texts(whole)
    shown = {part.split(".png")[0] for part in page.split("(study/figure-")[1:]}
    assert shown - {"samples"} == set(drawn)  # pictures of samples are of runs
    assert (
        figures.draw(results.read(tmp_path), findings.everything(results.read(tmp_path)), tmp_path)
        == {}
    )


def finished_run(root, name):
    """A run that was trained, evaluated and measured by other extractors."""
    decays = {"ema_warmup_0.99": 0.99, AVERAGE: 0.999}
    rules = ["warmup:0.99", "warmup:0.999"]
    path = make_run(root / name, 0, decays=decays, ema=[], ema_schedule=[], ema_rules=rules)
    config = files.read_record(path / "config.json")
    config["parameters"] = 701345
    config["versions"] |= {"python": "3.12", "machine": "Linux x86_64", "devices": ["CPU"]}
    config["data"] |= {"provenance": "made up", "image_shape": [8, 8, 1]}
    (path / "config.json").write_text(json.dumps(config))
    measured = [
        {"weights": name, "seed": 1, "extractor": "random", "frechet": 5.0, "kid": 0.1}
        for name in (RAW, AVERAGE)
    ]
    record = {"step": 400, "num_images": 1000, "measured": measured, "floor": {"random": 1.0}}
    record |= {"extractors": {"random": "r"}, "two_sample_floor": {"accuracy": 0.5}}
    files.write_record(path / "opinions.json", record)
    return path


def test_collected_numbers_are_those_of_the_runs(tmp_path):
    path = finished_run(tmp_path / "runs", "main-digits-0")
    study.collect(tmp_path / "runs", tmp_path / "out")
    read = results.read(tmp_path / "out")
    evaluation = json.loads((path / "evaluation.json").read_text())["weights"]
    table = read.table("main-digits")
    assert set(table) == set(evaluation)
    for name, each in evaluation.items():
        assert table[name][0] == pytest.approx(each["frechet"], rel=1e-5)
    assert read.table("main-digits", drawing=1, extractor="random")[RAW] == {0: 5.0}
    steps, values = read.curves("main-digits", "val_loss")[AVERAGE][0]
    assert list(steps) == [100, 200, 300, 400] and (values > 0).all()
    assert (tmp_path / "out" / f"main-digits-{RAW}.png").is_file()
    study.write(tmp_path / "out", tmp_path / "site")
    assert (tmp_path / "site" / "docs" / "study" / "figure-main-digits-averages.png").is_file()
    with pytest.raises(SystemExit, match="no evaluated run"):
        study.collect(tmp_path / "empty", tmp_path / "out")


def test_what_was_collected_of_other_trainings_stays(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    for seed, name in enumerate(("main-digits-0", "main-digits-1", "rate-linear-0")):
        path = finished_run(runs / str(seed), name)
        study.collect(runs / str(seed), out)
    read = results.read(out)
    assert read.about["main-digits"]["seeds"] == [0, 1] and read.about["rate-linear"]["seeds"] == [
        0
    ]
    assert "main-digits-0 " in read.about["main-digits"]["evaluate"] + " "
    assert (
        set(read.table("main-digits")[RAW])
        == {0, 1}
        == set(read.curves("main-digits", "val_loss")[RAW])
    )
    assert set(read.table("rate-linear")[RAW]) == {0}
    before = {each.name: each.read_bytes() for each in out.iterdir()}
    study.collect(runs / "0", out)  # anew: nothing is there twice, nothing is lost
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before
    evaluation = files.read_record(path / "evaluation.json")
    for each in (evaluation, *evaluation["evaluations"]):
        each["weights"][RAW]["frechet"] = 77.0
    files.write_record(path / "evaluation.json", evaluation)
    study.collect(runs / "2", out)
    assert results.read(out).table("rate-linear")[RAW] == {0: 77.0}


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
