"""What a run has stored of earlier steps, and what is measured of it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from refusals import call_command
from test_evaluating_again import Means

from ddpm_keras import choices, names, quality, samplers
from ddpm_keras.app import measuring, models, stored, table, tuning
from ddpm_keras.app.drawn import Drawing
from ddpm_keras.app.options import EvaluateOptions
from ddpm_keras.app.run_directory import Run
from ddpm_keras.ema import WeightSet, posthoc
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import verdict
from ddpm_keras.quality.tuning import best_trial


@pytest.fixture(scope="module")
def whole(tiny_run, tmp_path_factory):
    """(run, model): 6 steps, of which 3 and 6 have checkpoints, and 2, 4 and 6 snapshots.

    What is stored differs visibly, as it would after more steps.
    """
    run = Run(tmp_path_factory.mktemp("stored") / "run")
    shutil.copytree(tiny_run, run.path)
    model, random = models.load_model(run), np.random.default_rng(0)
    run.restore_step(model, 3)
    for weight in model.network.weights:
        weight.assign(weight + random.normal(0, 0.1, weight.shape))
    for _ in range(20):
        model.ema.update(model.network.weights)
    run.save_checkpoint(model, 3)
    for path in sorted(run.snapshots.glob("*.npz"))[1:]:
        with np.load(path) as file:
            arrays = dict(file)
        for name in arrays:
            if name[0] in "01":
                arrays[name] = arrays[name] + random.normal(0, 0.1, arrays[name].shape)
        np.savez(path, **arrays)
    return run, models.load_model(run)


@pytest.fixture
def run(whole, tmp_path, monkeypatch):
    """The run, not evaluated yet."""
    run, _ = whole
    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(choices.EXTRACTORS, "means", Means)
    run.evaluation.unlink(missing_ok=True)
    shutil.rmtree(run.path / "evaluation", ignore_errors=True)
    return run


@pytest.fixture(scope="module")
def model(whole):
    return whole[1]


@pytest.fixture
def evaluate(run, model, few):
    """`measuring.evaluate_run` of the run, with options."""

    def evaluate(**given):
        return measuring.evaluate_run(run, options(**given), "", model, few)

    return evaluate


@pytest.fixture(scope="module")
def few(digits):
    return dataclasses.replace(digits, train=digits.train[:60], held_out=digits.held_out[:20])


def options(**given):
    return EvaluateOptions(extractor="means", **{"num_images": 16, "steps": 2} | given)


def measured(weights, real, model, **arguments):
    """The distance of images drawn with a weight set, without any of the commands' code."""
    drawn = model.sample(16, weights, samplers.DDIM(2), batch_size=16, **arguments)
    return quality.evaluate_features(Means()(real), Means()(drawn))["frechet"]


def test_an_earlier_step_is_measured_as_the_run_was_then(evaluate, run, model, few):
    end, then = evaluate(), evaluate(step=3, weights=("raw", "ema"))
    other = models.load_model(run)
    other.load_weights(run.checkpoints / "step-00000003.weights.h5")
    assert (then.current.step, end.current.step, other.steps_made) == (3, 6, 3)
    assert list(then.current.weights) == ["raw", "ema_0.9"]
    for name, each in then.current.weights.items():
        weights = WeightSet("then", list(map(np.array, other.weight_values(name))))
        assert each.frechet == pytest.approx(measured(weights, few.train, model), rel=0.02)
        assert each.frechet != pytest.approx(end.current.weights[name].frechet, rel=0.05)
    assert [each.step for each in then.apart] == [6]
    assert verdict.of_run(then)[1].step == 6  # the run is judged by its end
    assert "step 6" in table.text(then).splitlines()[-1]


def test_a_step_with_snapshots_alone_has_the_widths_that_they_hold(evaluate, run, model, few):
    found = evaluate(step=2, decay=(0.8,)).current
    assert list(found.weights) == ["posthoc_sigma_0.05", "posthoc_sigma_0.1", "posthoc_ema_0.8"]
    assert found.step == 2 and found.differences == {}
    weights = posthoc.synthesize(run.path, decay=0.8, step=2)
    expected = measured(weights, few.train, model)
    assert found.weights["posthoc_ema_0.8"].frechet == pytest.approx(expected, rel=0.02)
    at_the_end = measured(posthoc.synthesize(run.path, decay=0.8), few.train, model)
    assert expected != pytest.approx(at_the_end, rel=0.05)


@pytest.fixture
def later(run, tmp_path):
    """The run as after `--resume --steps 8`, interrupted: its model is still of step 6."""
    later = Run(shutil.copytree(run.path, tmp_path / "later"))
    for name in ("json", "weights.h5"):
        path = later.checkpoints / f"step-00000006.{name}"
        shutil.copy(path, path.with_name(f"step-00000008.{name}"))
    write_later_snapshot(later, 8)
    return later


def test_a_model_that_training_has_left_behind_is_told_and_stands_for_one_step(run, later, model):
    at_end = stored.StoredWeights(run, model).find("posthoc_ema_0.9")
    with pytest.warns(UserWarning, match="model.keras is of step 6, and .* went on to step 8: "):
        found = stored.StoredWeights(later, model).find("posthoc_ema_0.9")
    assert found.step == at_end.step == 6
    for value, expected in zip(found.values, at_end.values, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.filterwarnings("ignore:.*is of step 6, and training went on")
def test_widths_are_searched_at_the_step_of_the_model(later, model, few, monkeypatch):
    asked = []

    def ends(path, step):
        asked.append(step)
        raise ValueError("That is enough.")

    monkeypatch.setattr(posthoc, "supported_widths", ends)
    with pytest.raises(UsageError, match="enough"):
        tuning.tune(later, options(tune_ema=True, weights=("ema",)), "", model, few)
    assert asked == [6]


def write_later_snapshot(run, step):
    with np.load(run.snapshots / names.snapshot(6)) as file:
        arrays = dict(file)
    record = json.loads(arrays["record"].tobytes()) | {"step": step}
    arrays["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    np.savez(run.snapshots / names.snapshot(step), **arrays)


def test_a_guide_is_recorded_and_guides_the_others(evaluate, run, model, few):
    found = evaluate(weights=("ema",), guide="raw@3", guidance=(2.0,)).current
    assert (found.settings["guide"], found.settings["guidance"]) == ("raw@3", 2.0)
    assert "guidance 2, guided by raw@3" in found.way
    guide = stored.StoredWeights(run, model).find("raw@3")
    expected = measured("ema", few.train, model, guide=guide, guidance_scale=2.0)
    assert found.weights["ema_0.9"].frechet == pytest.approx(expected, rel=0.02)
    assert expected != pytest.approx(measured("ema", few.train, model), rel=0.05)
    more = {"guidance_rescale": 0.7, "guidance_interval": (5, 800)}
    found = evaluate(weights=("ema",), guide="raw@3", guidance=(2.0,), **more).current
    assert "guided by raw@3, rescaled by 0.7, at timesteps 5 to 800" in found.way
    expected = measured("ema", few.train, model, guide=guide, guidance_scale=2.0, **more)
    assert found.weights["ema_0.9"].frechet == pytest.approx(expected, rel=0.02)
    every = evaluate(guide="raw", guidance=(2.0,)).current
    assert list(every.weights) == ["ema_0.5", "ema_0.9"]  # without the one that guides


# The search for the best width


@pytest.mark.parametrize("least", [0.0, 0.31, 2.0, 3.0])
def test_golden_section_closes_in_on_the_minimum(least):
    tried = tuning.golden_section(lambda x: (x - least) ** 2, 0.0, 3.0, 12)
    places = [place for place, _ in tried]
    assert len(set(places)) == 12 and all(0 < place < 3 for place in places)
    assert tried[0][0] + tried[1][0] == pytest.approx(3.0)  # as far from one end as from the other
    best = min(tried, key=lambda pair: pair[1])[0]
    assert abs(best - least) < 3 * 0.6181**11


@pytest.fixture
def search(run, model, few):
    """`tuning.tune` of the run, with options."""

    def search(**given):
        given = {"tune_ema": True, "weights": ("ema",)} | given
        return tuning.tune(run, options(**given), "evaluate.py --tune-ema", model, few)

    return search


def test_a_width_is_chosen_on_some_images_and_judged_on_others(search, run, model, few):
    evaluations = search(seed=4)
    (found,) = evaluations.tunings
    assert (found.seed, found.judged_seed, found.step) == (5, 4, 6)
    assert len(found.trials) == tuning.WIDTHS and {t.guidance for t in found.trials} == {1.0}
    assert found.best == min(found.trials, key=lambda trial: trial.value)
    assert found.judged != found.best.value
    name = f"posthoc_sigma_{found.best.sigma_rel}"
    assert evaluations.current.weights[name].frechet == found.judged
    assert set(evaluations.current.weights) == {"ema_0.9", name}
    assert len({trial.value for trial in found.trials}) > 4
    for trial in found.trials[:2]:
        weights = posthoc.synthesize(run.path, sigma_rel=trial.sigma_rel)
        assert trial.value == pytest.approx(measured(weights, few.train, model, seed=5), rel=0.02)
    assert run.read_evaluations() == evaluations
    said = table.tuned(found, run)
    assert f"--sigma-rel {found.best.sigma_rel:g}" in said.splitlines()[-1]
    assert f"{found.judged:.4g} of others (seed 4)" in said


def test_a_search_that_is_interrupted_goes_on(search, run, monkeypatch):
    given = {"guidance": (1.0, 2.0), "guide": "raw", "tune_metric": "precision"}
    drawn, features = [], Drawing.features

    def counted(self, extractor, weights, *arguments):
        if len(drawn) == 11:
            raise KeyboardInterrupt
        drawn.append((self.guidance, self.options.seed, stored.called(weights)))
        return features(self, extractor, weights, *arguments)

    monkeypatch.setattr(Drawing, "features", counted)
    with pytest.raises(KeyboardInterrupt):
        search(**given)
    assert len(set(drawn)) == 11 and run.read_evaluations() is None
    before = list(drawn)
    drawn.append("on")  # so that it is not interrupted again
    evaluations = search(**given)
    (found,) = evaluations.tunings
    assert not set(drawn[12:]) & set(before) and len(found.trials) == 2 * tuning.WIDTHS
    assert list(found.curves) == [1.0, 2.0] and found.guide == "raw"
    assert found.best.value == max(trial.value for trial in found.trials)


def test_a_command_that_is_interrupted_says_how_to_go_on(run, tmp_path, monkeypatch, capfd):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "tune", interrupted)
    outcome = call_command(
        "evaluate.py", run.path, "--tune-ema", folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    assert outcome.status == 130 and "Traceback" not in outcome.err
    assert outcome.out.splitlines()[-1] == f"  python evaluate.py {run.path} --tune-ema"


def test_the_best_of_a_number_is_the_lowest_or_the_highest():
    trials = [quality.Trial(0.1, 1.0, value) for value in (2.0, 1.0, 3.0)]
    assert best_trial("frechet", trials).value == best_trial("kid", trials).value == 1.0
    assert best_trial("recall", trials).value == 3.0
