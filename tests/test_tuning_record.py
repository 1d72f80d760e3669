"""A search for the best width as a record, a figure and a few lines."""

import dataclasses
import json

import pytest
from refusals import assert_refused
from report_runs import make_run

from ddpm_keras import files
from ddpm_keras.app import table
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import Evaluation, Evaluations, Measurement, Reference, Trial, Tuning
from ddpm_keras.report import analysis, figures

TRIALS = [(0.1, 1.0, 3.0), (0.05, 1.0, 2.5), (0.2, 1.0, 4.0)]
TRIALS += [(0.1, 2.0, 2.2), (0.05, 2.0, 2.6), (0.2, 2.0, 2.9)]
FOUND = Tuning(
    metric="frechet",
    trials=tuple(Trial(*each) for each in TRIALS),
    seed=1,
    judged=2.4,
    judged_seed=0,
    num_images=24,
    guide="raw",
    step=400,
    way="a distance, 24 images",
)
MEASURED = Evaluation({"raw": Measurement(2.5, 24, "x")}, Reference())


def test_a_search_is_read_as_it_was_written_and_outlives_what_is_measured_later(tmp_path):
    known = Evaluations(MEASURED, (MEASURED,)).with_tuning(FOUND)
    known.write(tmp_path / "evaluation.json")
    read = Evaluations.read(tmp_path / "evaluation.json")
    assert read == known and read.tunings == (FOUND,)
    assert MEASURED.after(read).with_tuning(FOUND).tunings == (FOUND, FOUND)


def test_the_best_is_the_lowest_at_any_strength_of_guidance():
    assert FOUND.best == Trial(0.1, 2.0, 2.2) and not FOUND.at_an_end
    assert dataclasses.replace(FOUND, trials=FOUND.trials[:3]).at_an_end
    assert [trial.sigma_rel for trial in FOUND.curves[2.0]] == [0.05, 0.1, 0.2]
    assert dataclasses.replace(FOUND, metric="recall").best == Trial(0.2, 1.0, 4.0)


WRONG = {
    "no list": ({"tunings": {}}, ["tunings is no list"]),
    "no dictionary": ({"tunings": [1]}, ["tunings[0] is no dictionary"]),
    "no trial": ({"trials": []}, ["tunings[0].trials holds no width"]),
    "a trial without a number": ({"trials": [{"sigma_rel": 0.1}]}, ["trials[0].guidance"]),
    "trials by name": ({"trials": {}}, ["tunings[0].trials is no list"]),
    "an unknown metric": ({"metric": "fid"}, ["tunings[0].metric is 'fid'"]),
    "one seed for both": ({"seed": 0}, ["seed is 0", "judged_seed"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_searches_that_cannot_be_right_are_refused(case, tmp_path):
    changes, words = WRONG[case]
    path = tmp_path / "evaluation.json"
    Evaluations(MEASURED).with_tuning(FOUND).write(path)
    values = files.read_record(path)
    (values if "tunings" in changes else values["tunings"][0]).update(changes)
    path.write_text(json.dumps(values))
    assert_refused(lambda: Evaluations.read(path), words, UsageError)


def test_a_search_is_drawn_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["evaluate.py"])
    run = Run(make_run(tmp_path / "run"))
    run.read_evaluations().with_tuning(FOUND).write(run.evaluation)
    (drawn,) = (each for each in figures.draw(analysis.RunRecord(run)) if each.name == "tuning")
    (axis,) = drawn.figure.axes
    assert [line.get_label() for line in axis.lines] == (
        ["no guidance", "guidance 2", "chosen", "on other images"]
    )
    assert list(axis.lines[1].get_ydata()) == [2.6, 2.2, 2.9]
    assert "width of 0.1 at guidance 2: 2.2, on other images 2.4" in drawn.text
    assert drawn.note.endswith(" Judged by: a distance, 24 images.")
    guided = dataclasses.replace(
        FOUND, guidance_rescale=0.7, guidance_low=200, guidance_high=800, step=None
    )
    command = table.tuned(guided, run).splitlines()[-1]
    assert command.endswith("--guide raw --guidance-rescale 0.7 --guidance-interval 200 800")
    run.snapshots.mkdir()
    for step in (200, 400, 600):
        (run.snapshots / f"snapshot-{step:08d}.npz").touch()
    by_another = dataclasses.replace(FOUND, options={"sampler": "heun"})
    assert "--sigma-rel 0.1 --sampler heun --guid" in table.tuned(by_another, run)
    found, command = table.tuned(FOUND, run).splitlines()
    assert "2.2 of the images that it was chosen on (seed 1), 2.4 of others (seed 0)" in found
    options = "--sigma-rel 0.1 --guidance 2 --guide raw --step 400"
    assert command == f"Draw with it: python sample.py {run.path} {options}"
