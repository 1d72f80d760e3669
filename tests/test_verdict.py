"""One verdict, told alike by the terminal, the report and the comparison."""

import dataclasses

import pytest
from refusals import assert_refused
from report_runs import make_run, write_evaluation

from ddpm_keras.app import table
from ddpm_keras.app.run_directory import Run
from ddpm_keras.quality import Difference, Evaluation, Measurement, Reference, verdict
from ddpm_keras.report import analysis, tables, words

AVERAGE = "ema_0.999"


def difference(low, high):
    return {AVERAGE: Difference((low + high) / 2, low, high)}


BOTH = {"raw": 4.0, AVERAGE: 3.0}
# distances, differences, the verdict, the weights to use
CASES = {
    "below zero": (BOTH, difference(-1.5, -0.5), "better", AVERAGE),
    "above zero": ({"raw": 3.0, AVERAGE: 4.0}, difference(0.5, 1.5), "worse", "raw"),
    "across zero": (BOTH, difference(-2.5, 0.5), "within chance", AVERAGE),
    "across zero, raw lower": (
        {"raw": 3.0, AVERAGE: 4.0},
        difference(-1, 3),
        "within chance",
        "raw",
    ),
    "ends at zero": (BOTH, difference(-2.0, 0.0), "within chance", AVERAGE),
    "begins at zero": ({"raw": 3.0, AVERAGE: 4.0}, difference(0.0, 2.0), "within chance", "raw"),
    "the same": ({"raw": 3.0, AVERAGE: 3.0}, difference(0.0, 0.0), "within chance", "raw"),
    "no interval": (BOTH, {}, "undecided", AVERAGE),
    "no interval, however large": ({"raw": 90.0, AVERAGE: 3.0}, {}, "undecided", AVERAGE),
    "interval of another average": (
        BOTH | {"ema_0.99": 2.0},
        difference(-1.5, -0.5),
        "undecided",
        "ema_0.99",
    ),
    "raw alone": ({"raw": 4.0}, {}, "undecided", "raw"),
    "raw missing": ({AVERAGE: 3.0}, {}, "undecided", AVERAGE),
    "perfect": ({"raw": 4.0, AVERAGE: 0.0}, difference(-5.0, -3.0), "better", AVERAGE),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("name", CASES)
def test_verdict_and_the_weights_to_use(name):
    distances, differences, expected, use = CASES[name]
    found = verdict.verdict(distances, differences)
    assert (found.outcome, found.weights) == (expected, use)


@pytest.mark.parametrize("name", CASES)
def test_terminal_report_and_comparison_say_the_same(folder, name):
    distances, differences, expected, use = CASES[name]
    write_evaluation(folder, distances, differences)
    run = Run(folder)
    record = analysis.RunRecord(run)
    sentence = record.verdict.sentence
    terminal, report = table.text(run.read_evaluations()), words.summary(record)
    over_seeds = analysis.quality_across_seeds([record])
    assert record.verdict.outcome == expected
    assert sentence in report["evidence"] and report["use"].endswith(f"--weights {use}")
    assert sentence in terminal or "raw" not in distances
    assert analysis.verdict_across_seeds(over_seeds) == record.verdict
    assert words.comparison_summary([record]) == [f"all runs (1 run): {sentence}"]
    said = {
        "better": "Use the averaged weights",
        "worse": "Use the raw weights",
        "within chance": "within chance",
        "undecided": "",
    }
    for outcome, said_words in said.items():
        assert outcome == "undecided" or (said_words in report["advice"]) == (outcome == expected)
    assert "has not been evaluated" not in " ".join(report.values())


def test_not_a_number_has_no_verdict():
    def wrong(value):
        return Evaluation({"raw": Measurement(value, 24, "x")}, Reference())

    for value in (float("nan"), float("inf")):
        assert_refused(lambda value=value: wrong(value), ["frechet"])


def test_several_runs_are_judged_over_seeds(tmp_path):
    distances = ({"raw": 4.0, AVERAGE: 3.0}, {"raw": 5.0, AVERAGE: 4.1}, {"raw": 4.5, AVERAGE: 3.6})
    records = []
    for seed, numbers in enumerate(distances):
        path = make_run(tmp_path / str(seed), seed)
        write_evaluation(path, numbers)  # no interval over noise: that over seeds is what counts
        records.append(analysis.RunRecord(Run(path)))
    table = analysis.quality_across_seeds(records)
    found = analysis.verdict_across_seeds(table)
    assert found.outcome == "better"
    assert found.difference.high == -table[AVERAGE][1].low < 0
    assert found.sentence in words.comparison_summary(records)[0]


def test_runs_that_were_evaluated_in_different_ways_are_not_put_together(tmp_path):
    runs = [Run(make_run(tmp_path / str(seed), seed)) for seed in range(2)]
    whole = write_evaluation(runs[0].path, BOTH)
    few = {name: dataclasses.replace(m, num_images=12) for name, m in whole.weights.items()}
    dataclasses.replace(whole, weights=few).after(None).write(runs[0].evaluation)
    records = list(map(analysis.RunRecord, runs))
    assert analysis.quality_across_seeds(records) == {}
    (line,) = words.comparison_summary(records)
    assert line.startswith("all runs (2 runs): evaluated in different ways")


def add(run, evaluation):
    run.evaluations_with(evaluation).write(run.evaluation)


def test_the_newest_evaluation_that_can_tell_is_judged(folder):
    """A later look at one average, with fewer images, hides nothing of what was known."""
    whole = write_evaluation(folder, *CASES["below zero"][:2])
    few = Measurement(2.0, 12, "digits classifier", sampler="DDIM, 50 steps", seed=0)
    run = Run(folder)
    add(run, Evaluation({AVERAGE: few}, whole.reference, whole.metric, step=400))
    record = analysis.RunRecord(run)
    assert (record.verdict.outcome, record.evaluation) == ("better", whole)
    terminal, report = table.text(run.read_evaluations()), words.summary(record)
    assert f"Of {whole.way}: {record.verdict.sentence}" in terminal
    assert f"kept apart: raw, {AVERAGE} ({whole.way})" in terminal
    assert record.verdict.sentence in report["evidence"] and "1,437" in report["evidence"]
    assert [each["name"] for each in tables.of_run(record)][:2] == ["quality", "quality_2"]
    again = dict(whole.weights)[AVERAGE]
    add(run, Evaluation({"ema_0.99": again}, whole.reference, whole.metric, step=400))
    assert set(analysis.RunRecord(run).evaluation.weights) == {"raw", AVERAGE, "ema_0.99"}
