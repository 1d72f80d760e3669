"""Analysis of run directories against NumPy, SciPy and numbers worked out by hand."""

import types

import numpy as np
import pytest
from report_runs import make_run, write_evaluation
from scipy import stats

from ddpm_keras.app import consistency
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import Difference
from ddpm_keras.quality.extractors import base
from ddpm_keras.report import analysis

TRACKED = ("raw", "ema_0.99", "ema_0.999")


def record_of(path):
    return analysis.RunRecord(Run.open(path))


def test_interval_is_students():
    values = [3.1, 2.7, 3.6]
    found = analysis.interval(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.count == 3
    # Golden: t(0.975, 2) = 4.30265 (tables), s / sqrt(n) = 0.260342
    assert found.high - found.mean == pytest.approx(4.30265 * 0.260342, rel=1e-4)


def test_interval_of_one_run_has_no_ends():
    assert analysis.interval([2.0]) == analysis.Interval(2.0, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        analysis.interval([])


def test_interval_of_differences_cancels_what_runs_share():
    shared = np.array([0.0, 100.0, -40.0])
    found = analysis.interval_of_differences(shared + 3, shared + [1.0, 1.1, 0.9])
    test = stats.ttest_rel(shared + 3, shared + [1.0, 1.1, 0.9])
    low, high = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(ValueError, match="same runs"):
        analysis.interval_of_differences([1.0], [1.0, 2.0])


def test_principal_plane_recovers_a_planar_path():
    angle = np.linspace(0, 3, 40)
    path = np.stack([3 * np.cos(angle), np.sin(angle)], 1)
    basis = np.linalg.qr(np.random.randn(256, 2))[0]
    sketches = {"raw": path @ basis.T + 5, "ema_0.9": path[::-1] @ basis.T + 5}
    points, explained = analysis.principal_plane(sketches)
    assert sum(explained) == pytest.approx(1) and explained[0] > explained[1]
    distances = np.linalg.norm(path[:, None] - path[None], axis=-1)
    found = np.linalg.norm(points["raw"][:, None] - points["raw"][None], axis=-1)
    np.testing.assert_allclose(found, distances, atol=1e-9)
    np.testing.assert_allclose(points["ema_0.9"], points["raw"][::-1], atol=1e-9)


def test_a_path_that_stands_still_explains_nothing():
    sketches = {"raw": np.ones((5, 256)), "ema_0.9": np.zeros((5, 256))}
    points, explained = analysis.principal_plane(sketches)
    assert explained == (0.0, 0.0)
    np.testing.assert_allclose(points["raw"], 0, atol=1e-12)


def test_stability_of_the_loss_is_over_20_rows():
    loss = 1 + 0.1 * np.sin(np.arange(60.0))
    loss[30] = 9.0
    record = types.SimpleNamespace(curve={"loss": (10 * np.arange(1, 61), loss)}.get)
    variances = [np.var(loss[i : i + 20], ddof=1) for i in range(41)]
    assert analysis.loss_stability(record) == {
        "window": 20,
        "rows": 60,
        "variance": pytest.approx(np.median(variances)),
        "last_variance": pytest.approx(variances[-1]),
        "spikes": 1,
        "spike_steps": [310],
    }
    short = types.SimpleNamespace(curve={"loss": ([10], np.ones(1))}.get)
    found = analysis.loss_stability(short)
    assert (found["variance"], found["last_variance"], found["rows"]) == (None, None, 1)


def test_record_reads_a_run(tmp_path):
    record = record_of(make_run(tmp_path / "one"))
    assert record.weight_sets[:3] == TRACKED
    assert all(name.startswith("posthoc_sigma_") for name in record.weight_sets[3:])
    assert record.last_step == 400 and len(record.curve("loss")[0]) == 40
    steps, values = record.curves("val_loss")["ema_0.99"]
    assert steps.tolist() == [100, 200, 300, 400] and len(values) == 4
    assert record.initial_share("ema_0.99") == pytest.approx(0.99**400, rel=1e-9)
    assert record.initial_share("raw") is None
    steps, sketches = record.trajectory()
    assert set(sketches) == set(TRACKED) and sketches["raw"].shape == (len(steps), 256)


def test_the_share_of_the_initial_weights_is_what_was_written_down(tmp_path):
    """The betas of an average that moves now and then are 1 at the other steps."""
    (tmp_path / "config.json").write_text('{"options": {}}')
    (tmp_path / "history.csv").write_text(
        "step,beta_ema_lawa,initial_share_ema_lawa\n10,1.0,0.5\n20,1.0,0.0\n"
    )
    assert record_of(tmp_path).initial_share("ema_lawa") == 0.0


def test_a_damaged_evaluation_is_said_and_left_out(tmp_path):
    path = make_run(tmp_path / "run") / "evaluation.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="evaluation.json is damaged .*; going on without it"):
        record = record_of(path.parent)
    assert record.evaluation is None and analysis.by_validation_loss(record)
    assert path.exists()  # for whoever restores it


def test_record_of_a_bare_run(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}}')
    record = record_of(tmp_path)
    assert record.weight_sets == ("raw",) and record.last_step == 0
    assert record.trajectory() is None and record.pictures() == {}
    assert record.evaluation is None and record.verdict.outcome == "undecided"
    assert analysis.by_validation_loss(record) == {}
    assert analysis.loss_stability(record)["variance"] is None
    assert record.measured() == {} and record.measured("kid") == {}


def test_pictures_are_thinned_evenly_with_both_ends(tmp_path):
    record = record_of(make_run(tmp_path / "one", epochs=30))
    assert list(record.pictures(most=4)) == [1, 11, 20, 30]
    assert len(record.pictures()) == 24 and list(record.pictures(most=1)) == [30]
    for paths in record.pictures().values():
        assert set(paths) == set(TRACKED)


def test_pictures_leave_out_weight_sets_that_are_not_at_every_epoch(tmp_path):
    path = make_run(tmp_path / "one")
    (path / "samples" / "epoch-0002-ema_0.99.png").unlink()
    pictures = record_of(path).pictures()
    assert all(set(paths) == {"raw", "ema_0.999"} for paths in pictures.values())


def test_validation_loss_is_ordered(tmp_path):
    record = record_of(make_run(tmp_path / "one", evaluated=False))
    assert list(analysis.by_validation_loss(record)) == ["ema_0.999", "ema_0.99", "raw"]


def test_posthoc_curve_reads_the_widths(tmp_path):
    path = make_run(tmp_path / "one")
    widths, distances = analysis.posthoc_curve(record_of(path))
    assert widths.tolist() == [0.05, 0.1, 0.15, 0.2] and distances[1] == 3
    write_evaluation(path, {"raw": 4.0, "posthoc_sigma_0.1": 3.0, "posthoc_ema_0.9": 2.0})
    assert analysis.posthoc_curve(record_of(path)) is None


def test_stability_table_compares_with_raw(tmp_path):
    table = analysis.stability_table(record_of(make_run(tmp_path / "one")), "val_loss")
    assert table["raw"].share_above_raw is None
    assert table["ema_0.999"].share_above_raw == 0
    assert table["ema_0.999"].steps_to_best_raw <= 400


def test_groups_are_runs_alike_but_for_the_seed(tmp_path):
    paths = [make_run(tmp_path / f"c{s}", seed=s) for s in range(3)]
    paths += [make_run(tmp_path / f"w{s}", seed=s, ema_schedule="warmup") for s in range(2)]
    records = [record_of(path) for path in paths]
    found = analysis.groups(records)
    assert {label: len(runs) for label, runs in found.items()} == {
        "ema_schedule=constant": 3,
        "ema_schedule=warmup": 2,
    }
    assert list(analysis.groups(records[:3])) == ["all runs"]


def test_where_the_numbers_of_a_run_go_is_no_setting_of_it(tmp_path):
    told = [{"logger": ["csv"], "evaluate": False}, {"logger": ["mlflow"], "config": "mine.yaml"}]
    paths = [make_run(tmp_path / str(seed), seed, **each) for seed, each in enumerate(told)]
    records = [record_of(path) for path in paths]
    assert list(analysis.groups(records)) == ["all runs"]
    same = [Run(make_run(tmp_path / f"again-{i}", **each)) for i, each in enumerate(told)]
    with pytest.raises(UsageError, match="again-1 is the training of .*again-0 again"):
        consistency.check_distinct(same)


def test_groups_are_called_by_all_that_differs(tmp_path):
    settings = [{"ema": [0.9, 0.99], "learning_rate": 0.1}, {"ema": [0.5], "learning_rate": 0.2}]
    paths = [make_run(tmp_path / str(i), **each) for i, each in enumerate(settings)]
    labels = list(analysis.groups([analysis.RunRecord(Run(path)) for path in paths]))
    assert labels == ["ema=0.9 0.99, learning_rate=0.1", "ema=0.5, learning_rate=0.2"]


def test_across_seeds_pairs_raw_with_each_average(tmp_path):
    records = [record_of(make_run(tmp_path / str(s), seed=s)) for s in range(3)]
    table = analysis.across_seeds(records, lambda record: record.measured())
    raw = [record.measured()["raw"] for record in records]
    best = [record.measured()["ema_0.999"] for record in records]
    assert table["raw"] == (analysis.interval(raw), None)
    assert table["ema_0.999"] == (
        analysis.interval(best),
        analysis.interval(np.subtract(raw, best)),
    )


def test_runs_of_one_average_are_paired_too():
    numbers = [{"raw": 3.0, "ema_0.9": 2.0}, {"raw": 5.0, "ema_0.9": 4.5}, {"raw": 4.0}]
    table = analysis.across_seeds(numbers, lambda each: each)
    assert table["raw"] == (analysis.interval([3.0, 5.0, 4.0]), None)
    assert table["ema_0.9"] == (analysis.interval([2.0, 4.5]), analysis.interval([1.0, 0.5]))


def test_the_confidence_of_an_interval_can_be_chosen():
    first, second = np.array([3.0, 5.0, 4.0]), np.array([2.0, 4.5, 3.9])
    found = analysis.interval_of_differences(first, second, 0.8)
    low, high = stats.ttest_rel(first, second).confidence_interval(0.8)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert analysis.interval(first - second, 0.8) == found != analysis.interval(first - second)


def test_posthoc_optimum_is_the_vertex():
    widths = np.exp(np.linspace(-3, -1, 5))
    distances = 2 + 3 * (np.log(widths) + 1.9) ** 2
    assert analysis.optimum(widths, distances) == pytest.approx((np.exp(-1.9), 2.0))
    assert analysis.optimum(widths, np.arange(5.0)) == (widths[0], 0.0)


def test_a_record_says_what_held_at_a_step(tmp_path):
    record = record_of(make_run(tmp_path / "run"))
    assert record.windows == pytest.approx({"ema_0.99": 100, "ema_0.999": 1000})
    for row in record.history:
        row["window_ema_0.99"] = row["step"] / 2
    found = [record.window("ema_0.99", step) for step in (9, 10, 200, 205, 999)]
    assert found == [None, 5, 100, 100, 200] and record.window("raw", 400) is None
    assert record.windows["ema_0.99"] == 200 and record.shipped_step == 400
    record.config["finished"] = 300
    assert (record.shipped_step, record.last_step) == (300, 400)


@pytest.mark.parametrize(("step", "since"), [(400, None), (399, 399), (401, None), (None, None)])
def test_an_evaluation_is_of_an_earlier_step_where_the_run_went_on(step, since, tmp_path):
    write_evaluation(make_run(tmp_path / "run"), {"raw": 4.0}, step=step)
    assert record_of(tmp_path / "run").since == since


def test_weight_sets_are_those_that_something_was_written_down_of(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}}')
    (tmp_path / "history.csv").write_text(
        "step,loss,distance_ema_a,beta_ema_b,quality_ema_c,val_loss_ema_d,val_loss_raw\n"
        "5,1.0,1.0,0.9,2.0,3.0,4.0\n20,1.0,1.0,0.8,2.0,1.0,2.0\n"
    )
    record = record_of(tmp_path)
    assert record.weight_sets == ("raw", "ema_b", "ema_c", "ema_d")
    # Each beta stands for the steps since the row before.
    assert record.initial_share("ema_b") == pytest.approx(0.9**5 * 0.8**15)
    assert record.initial_share("ema_d") is None
    assert analysis.by_validation_loss(record) == {"ema_d": 1.0, "raw": 2.0}
    assert record.block_cosines() is None
    record.history[1]["beta_ema_b"] = 0.0
    assert record.initial_share("ema_b") == 0.0


def test_the_path_of_weights_needs_three_records_and_the_last_tells_of_blocks(tmp_path):
    path = make_run(tmp_path / "run")
    with np.load(path / "trajectory.npz") as file:
        arrays = dict(file)
    blocks, last = record_of(path).block_cosines()
    assert blocks == ["first", "middle", "last"] and list(last) == ["ema_0.99", "ema_0.999"]
    np.testing.assert_array_equal(last["ema_0.99"], arrays["block_cosine_ema_0.99"][-1])
    for count, is_path in ((3, True), (2, False)):
        few = {name: rows if name == "blocks" else rows[:count] for name, rows in arrays.items()}
        np.savez(path / "trajectory.npz", **few)
        assert (record_of(path).trajectory() is not None) == is_path
    np.savez(path / "trajectory.npz", **{k: v for k, v in arrays.items() if k != "sketch_raw"})
    assert record_of(path).trajectory() is None


def curves(raw, average, steps=(1, 2, 3), steps_of_average=(1, 2, 3)):
    """A stand-in for a record with these values of two weight sets."""
    found = {
        "raw": (np.array(steps), np.array(raw)),
        "ema_a": (np.array(steps_of_average), np.array(average)),
    }
    return types.SimpleNamespace(curves={"val_loss": found}.get)


def test_an_average_is_held_against_raw_at_the_same_steps_alone():
    beside = analysis.stability_table(curves([3.0, 2.0, 1.0], [1.0, 3.0, 0.5]), "val_loss")
    assert beside["ema_a"].share_above_raw == pytest.approx(0.5)
    apart = curves([3.0, 2.0, 1.0], [1.0, 3.0, 0.5], steps_of_average=(1, 2, 4))
    assert analysis.stability_table(apart, "val_loss")["ema_a"].share_above_raw is None


def test_stability_over_seeds_leaves_out_what_a_curve_has_not():
    records = [curves([3.0, 2.0, 1.0], [1.0, 3.0, 0.5]), curves([3.0, 2.0, 1.5], [1.0, 1.0, 0.7])]
    best = analysis.stability_across_seeds(records, "val_loss", "best")
    assert best["raw"] == (analysis.interval([1.0, 1.5]), None)
    assert best["ema_a"] == (analysis.interval([0.5, 0.7]), analysis.interval([0.5, 0.8]))
    assert list(analysis.stability_across_seeds(records, "val_loss", "share_above_raw")) == [
        "ema_a"
    ]


def test_a_single_run_has_the_intervals_of_its_evaluation(tmp_path):
    path = make_run(tmp_path / "one")
    found = Difference(-2.0, -3.0, -0.5)
    write_evaluation(path, {"raw": 4.0, "ema_0.999": 2.0}, {"ema_0.999": found})
    table = analysis.quality_across_seeds([record_of(path)])
    alone = analysis.Interval(4.0, None, None, 1), None
    assert table["raw"] == alone
    assert table["ema_0.999"][1] == analysis.Interval(2.0, 0.5, 3.0, 1)
    assert analysis.verdict_across_seeds(table) == record_of(path).verdict
    twice = analysis.quality_across_seeds([record_of(path), record_of(path)])
    assert twice["ema_0.999"][1] == analysis.Interval(2.0, 2.0, 2.0, 2)


def test_what_distances_are_called_is_said_once_of_runs_that_have_some(tmp_path):
    bare, one, other = (tmp_path / name for name in ("bare", "one", "other"))
    for path in (one, other):
        make_run(path)
    make_run(bare, evaluated=False)
    records = [record_of(path) for path in (bare, one, other)]
    known = "Fréchet distance, digits classifier"
    assert analysis.metrics_of(records) == known and analysis.metrics_of([]) == base.METRIC
    assert analysis.monitored_of(records) == f"{known} of 500 images"
    assert analysis.monitored_of([]) == base.METRIC
    assert analysis.measured_alike(records) and analysis.measured_alike(records[:1])
    write_evaluation(other, {"raw": 4.0}, metric="another")
    records = [record_of(path) for path in (bare, one, other)]
    assert analysis.metrics_of(records) == f"{known}; another"
    assert not analysis.measured_in_one_way(records)


def test_a_curve_of_two_widths_is_one_and_its_ends_are_no_vertex(tmp_path):
    path = make_run(tmp_path / "one")
    write_evaluation(path, {"raw": 4.0, "posthoc_sigma_0.2": 3.0, "posthoc_sigma_0.1": 2.0})
    widths, distances = analysis.posthoc_curve(record_of(path))
    assert (widths.tolist(), distances.tolist()) == ([0.1, 0.2], [2.0, 3.0])
    assert analysis.optimum(widths, distances[::-1]) == (0.2, 2.0)


def test_options_that_name_places_tell_no_runs_apart(tmp_path):
    places = [{"data_cache": str(i), "keep": i, "preset": str(i), "flip": True} for i in (1, 2)]
    paths = [make_run(tmp_path / str(i), **each) for i, each in enumerate(places)]
    records = list(map(record_of, paths))
    assert analysis.differing_options(records) == {}
    assert "flip" in analysis.settings(records[0].config)
    del records[1].config["options"]["flip"]
    assert analysis.differing_options(records) == {"flip": [True, None]}


def test_the_way_of_groups_is_said_once_where_it_is_one(tmp_path):
    kinds = ("constant", "warmup")
    paths = {kind: make_run(tmp_path / kind, ema_schedule=kind) for kind in kinds}
    make_run(tmp_path / "bare", ema_schedule="step", evaluated=False)
    records = [record_of(path) for path in (*paths.values(), tmp_path / "bare")]
    way = records[0].evaluation.way
    assert analysis.ways_of_groups(records) == way == records[1].evaluation.way
    write_evaluation(paths["warmup"], {"raw": 4.0}, metric="another")
    records = [record_of(path) for path in (*paths.values(), tmp_path / "bare")]
    assert analysis.ways_of_groups(records) == (
        f"ema_schedule=constant: {way}; ema_schedule=warmup: {records[1].evaluation.way}"
    )
