"""Pages, cards and records of a run give one answer to one question, whatever was done to it."""

import base64
import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run, record_of, write_evaluation

from ddpm_keras import images, names, quality
from ddpm_keras.app.options import sample_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.report import analysis, card, figures, figures_compared, page, tables, words

RANDOM = {
    "metric": "Fréchet distance, digits random network",
    "extractor": quality.Extractor("digits random network", "1"),
}


@pytest.fixture
def gone_on(tmp_path):
    """A run of 600 steps that was evaluated after 400."""
    return make_run(tmp_path / "run", epochs=6)


@pytest.mark.parametrize(
    ("place", "name", "drawn"),
    [
        ("checkpoints/step-00000400.json", "ema_0.999", True),
        ("checkpoints/step-00000600.json", "ema_0.999", False),
        ("snapshots/snapshot-00000400.npz", "ema_0.999", False),
        ("snapshots/snapshot-00000400.npz", names.of_width(0.1), True),
        ("checkpoints/step-00000400.json", names.of_width(0.1), False),
    ],
)
def test_weights_that_are_stored_no_more_are_not_offered(gone_on, place, name, drawn):
    (gone_on / place).parent.mkdir()
    (gone_on / place).touch()
    write_evaluation(gone_on, {"raw": 4.0, name: 2.0}, {name: quality.Difference(-2, -3, -1)})
    found = words.summary(record_of(gone_on))
    expected = f"python sample.py {gone_on} --weights {name}@400" if drawn else ""
    assert found["use"] == expected
    said = "at step 400, and the run has come to step 600 since: python evaluate.py"
    assert said in found["evidence"]


GUIDED = {"guidance": 2.0, "guidance_rescale": 0.7, "guidance_low": 200, "guidance_high": 800}
LAST = "--weights ema_0.999@400"
SAID = "--guidance 2 --guidance-rescale 0.7 --guidance-interval 200 800"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, LAST),
        (GUIDED, f"{LAST} {SAID}"),
        ({"guidance": 2.0, "guide": "raw"}, f"{LAST} --guidance 2 --guide raw@400"),
        ({"guidance": 2.0, "guide": names.of_width(0.1)}, ""),
        ({"guidance": 1.0, "guide": "raw"}, LAST),
    ],
)
def test_weights_are_drawn_from_as_they_were_measured(changes, said, gone_on):
    (gone_on / "checkpoints").mkdir()
    (gone_on / "checkpoints" / "step-00000400.json").touch()
    measured = {
        name: dataclasses.replace(each, **changes)
        for name, each in record_of(gone_on).evaluation.weights.items()
        if names.synthesis(name) is None
    }
    write_evaluation(gone_on, {"raw": 1.0}, weights=measured)
    use = words.summary(record_of(gone_on))["use"]
    assert use == (f"python sample.py {gone_on} {said}" if said else "")
    sample_options(shlex.split(use)[2:] or ["run"])


def test_images_are_drawn_by_the_sampler_that_they_were_measured_by(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    known = run.read_evaluations()
    asked = dataclasses.replace(known.current, options={"sampler": "heun", "steps": "9"})
    dataclasses.replace(known, current=asked).write(run.evaluation)
    use = words.summary(record_of(run.path))["use"]
    assert use == f"python sample.py {run.path} --weights ema_0.999 --sampler heun --steps 9"
    options = sample_options(shlex.split(use)[2:])
    assert (options.sampler, options.steps) == ("heun", 9)


def test_a_run_that_went_on_is_not_said_to_be_what_was_measured(gone_on):
    record = record_of(gone_on)
    assert next(iter(figures.draw(record))).title == "Quality at step 400"
    averaged = card.text(record).split("## Averaged weights")[1].split("## Draw")[0]
    assert "effective window 1,000 steps; step 600." in averaged and "1,437" not in averaged


@pytest.mark.parametrize(
    ("finished", "protocol"),
    [(400, "1,437 images, by DDIM, 50 steps, seed 0, step 400."), (500, "500 steps; step 500.")],
)
def test_a_card_is_of_the_network_beside_it(finished, protocol, gone_on):
    """Training went on, and was interrupted: the network is still that of before."""
    record = record_of(gone_on)
    record.config["finished"] = finished
    for row in record.history:
        row["window_ema_0.999"] = row["step"]
    page = card.text(record)
    averaged = page.split("## Averaged weights")[1].split("## Draw")[0]
    assert protocol in averaged and f"| steps x batch | {finished} x 128 |" in page


def test_quality_in_training_is_by_its_own_extractor(tmp_path):
    path = make_run(tmp_path / "run")
    write_evaluation(path, {"raw": 4.0, "ema_0.999": 2.0}, **RANDOM)
    record = record_of(path)
    assert record.metric == RANDOM["metric"]
    followed = "Fréchet distance, digits classifier of 500 images"
    assert record.monitored == followed
    shown = {each["name"]: each["note"] for each in tables.of_run(record)}
    assert shown["stability_quality"].startswith(f"{followed}. ")
    for classes in (None, 1):
        record.config["data"] = {"name": "photos", "num_classes": classes}
        assert record.monitored == "Fréchet distance, photos rotation network of 500 images"
    record.config["data"] = {}
    assert record.monitored == "Fréchet distance of 500 images"


def test_a_bar_says_what_its_distance_is_to(tmp_path):
    path = make_run(tmp_path / "run")
    reference = quality.Reference("digits", "held-out", 360, 360, floor_frechet=3.0)
    write_evaluation(path, {"raw": 4.0}, reference=reference)
    first = next(iter(figures.draw(record_of(path))))
    assert first.note.startswith("Distance between generated images and held-out images, ")


# Two groups of runs: how the evaluation of the last run differs, whether all may stand in one
# picture, and the groups that have numbers in common.
COMPARED = {
    "alike": ({}, True, ["constant", "warmup"]),
    "another extractor": (RANDOM, False, ["constant"]),
    "another step": ({"step": 200}, True, ["constant"]),
    "other images": (
        {"reference": quality.Reference("digits", "train", 1437, 360, "other", 3.0)},
        False,
        ["constant"],
    ),
}


@pytest.mark.parametrize("case", COMPARED)
def test_runs_are_compared_that_were_measured_alike(case, tmp_path):
    otherwise, together, groups = COMPARED[case]
    kinds = ("constant", 0), ("constant", 1), ("warmup", 0), ("warmup", 1)
    paths = [make_run(tmp_path / f"{k}-{s}", seed=s, ema_schedule=k) for k, s in kinds]
    write_evaluation(paths[-1], {"raw": 4.0, "ema_0.999": 2.0}, **otherwise)
    records = list(map(record_of, paths))
    table = tables.of_comparison(records)[0]
    assert {cells[0] for _, cells in table["rows"]} == {f"ema_schedule={k}" for k in groups}
    drawn = [each.name for each in figures_compared.draw(records)]
    assert ("comparison_quality" in drawn) == together
    lines = words.comparison_summary(records)
    assert lines[-1].startswith("Not all runs were evaluated in the same way") == (not together)
    of_runs = next(each for each in tables.of_comparison(records) if each["name"] == "runs")
    measured = otherwise.get("step", 400)
    assert [cells[2] for _, cells in of_runs["rows"]][-1] == measured
    assert of_runs["note"] == f"Distances are: {analysis.metrics_of(records)}."
    assert ("random network" in of_runs["note"]) == (case == "another extractor")


def test_groups_that_were_measured_differently_say_how(tmp_path):
    paths = [make_run(tmp_path / kind, ema_schedule=kind) for kind in ("constant", "warmup")]
    write_evaluation(paths[1], {"raw": 4.0, "ema_0.999": 2.0}, **RANDOM)
    note = tables.of_comparison(list(map(record_of, paths)))[0]["note"]
    assert "ema_schedule=constant: Fréchet distance, digits classifier, 1,437 images" in note
    assert "ema_schedule=warmup: Fréchet distance, digits random network, 1,437" in note


def test_runs_that_lost_other_steps_are_at_their_ends_alike(tmp_path):
    paths = [make_run(tmp_path / str(seed), seed=seed) for seed in range(2)]
    write_evaluation(paths[1], {"raw": 4.0, "ema_0.999": 2.0}, step=401)
    assert analysis.measured_alike(list(map(record_of, paths)))


def test_nearest_images_are_those_of_the_numbers_beside_them(tmp_path):
    path = make_run(tmp_path / "run")
    run, record = Run.open(path), record_of(path)
    other = dataclasses.replace(record.evaluation, **RANDOM)
    for evaluation, grey in ((record.evaluation, 10), (other, 200)):
        place = run.features / names.nearest("raw", evaluation.key)
        images.save(images.grid(np.full((2, 8, 8, 1), grey, np.uint8)), place)
    ((name, _, shown),) = page._nearest(record)
    assert name == "raw"
    expected = (run.features / names.nearest("raw", record.evaluation.key)).read_bytes()
    assert shown == base64.b64encode(expected).decode()


@pytest.mark.parametrize(("path", "typed"), [("-run", "./-run"), ("a b", "'a b'")])
def test_commands_are_typed_whatever_a_run_is_called(path, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = record_of(make_run(tmp_path / path))
    record.path = Path(path)
    assert words.command(record, "evaluate", record.path) == f"python evaluate.py {typed}"
