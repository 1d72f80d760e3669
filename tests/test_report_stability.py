"""Stability measures against values worked out by hand."""

import dataclasses

import numpy as np
import pytest

from ddpm_keras.report import stability


def test_windowed_variance_is_that_of_each_window():
    values = np.random.randn(30)
    expected = [np.var(values[i : i + 7], ddof=1) for i in range(24)]
    np.testing.assert_allclose(stability.windowed_variance(values, 7), expected, rtol=1e-12)
    assert stability.windowed_variance([1.0, 3.0], 2) == pytest.approx([2.0])
    assert stability.windowed_variance([1.0], 2).size == 0


def test_spikes_are_found_where_they_are():
    values = 1 + 0.1 * np.sin(np.arange(60.0))
    values[30] = 2.0
    values[45] = 0.0  # a drop is no spike
    values[50] = np.nan
    assert stability.spikes(values, window=20) == [30, 50]


def test_spikes_hit_the_threshold_exactly():
    before = np.array([0.0, 1.0, 2.0, 3.0, 4.0])  # median 2, median absolute deviation 1
    edge = 2 + 6 * 1.4826
    assert stability.spikes([*before, edge - 1e-9], window=5) == []
    assert stability.spikes([*before, edge + 1e-9], window=5) == [5]


def test_spikes_before_a_whole_window_are_those_not_finite():
    assert stability.spikes([1.0, np.inf, 9.0], window=5) == [1]


def test_variation_is_over_the_second_half():
    assert stability.variation([9, 0, 1, 3, 2, 5]) == pytest.approx(2.0)  # 3 -> 2 -> 5
    assert stability.variation([9, 0, 1]) == pytest.approx(1.0)
    assert stability.variation([4]) is None


def test_steps_to_reach_and_within():
    steps, values = [10, 20, 30, 40, 50], [10.0, 2.0, 1.1, 1.01, 1.0]
    assert stability.steps_to_within(steps, values, 0.10) == 30
    assert stability.steps_to_within(steps, values, 0.02) == 40
    assert stability.steps_to_reach(steps, values, 2.0) == 20
    assert stability.steps_to_reach(steps, values, 0.5) is None


def test_within_a_share_of_a_negative_best():
    assert stability.steps_to_within([1, 2, 3], [0.0, -0.95, -1.0], 0.10) == 2


def test_share_above_finds_crossings_between_evaluations():
    # The difference runs -1, 1, 1, -3 at steps 0, 10, 30, 40: above for 5 + 20 + 2.5 of 40.
    assert stability.share_above([0, 10, 30, 40], [-1, 1, 1, -3], [0, 0, 0, 0]) == 27.5 / 40
    assert stability.share_above([0, 1], [2, 2], [2, 2]) == 0
    assert stability.share_above([5], [3], [2]) == 1
    assert stability.share_above([5], [2], [2]) == stability.share_above([5], [1], [2]) == 0


def test_share_above_agrees_with_a_fine_grid():
    steps = np.array([0.0, 3, 4, 9, 10])
    values, reference = np.random.randn(2, 5)
    grid = np.linspace(0, 10, 200_001)
    fine = np.interp(grid, steps, values) > np.interp(grid, steps, reference)
    assert stability.share_above(steps, values, reference) == pytest.approx(fine.mean(), abs=1e-4)


def test_jitter_leaves_out_a_straight_course():
    assert stability.jitter(5 - 0.3 * np.arange(20)) == pytest.approx(0, abs=1e-12)
    # Of the second half, 0 0 3 0: second differences 3 and -6.
    assert stability.jitter([9, 9, 9, 9, 0, 0, 3, 0]) == pytest.approx(np.sqrt(45 / 2 / 6))
    assert stability.jitter([1, 2, 3, 4]) is None
    many = 0.2 * np.random.RandomState(0).randn(20_000) - 1e-3 * np.arange(20_000)
    assert stability.jitter(many) == pytest.approx(0.2, rel=0.02)


def test_when_an_average_begins_to_pay():
    steps, raw = [10, 20, 30, 40], [4.0, 3.0, 2.0, 2.0]
    assert stability.pays_from(steps, [5.0, 2.0, 3.0, 1.0], raw) == 40
    assert stability.pays_from(steps, [5.0, 2.0, 1.0, 1.0], raw) == 20
    assert stability.pays_from(steps, [3.0, 2.0, 1.0, 1.0], raw) == 10
    assert stability.pays_from(steps, [3.0, 2.0, 1.0, 2.0], raw) is None


def test_summary_of_a_curve():
    summary = stability.summarize([1, 2, 3, 4], [4.0, 1.0, 3.0, 2.0], raw=[5.0, 2.0, 2.0, 2.0])
    assert summary == stability.CurveSummary(
        final=2.0,
        best=1.0,
        best_step=2,
        variation=1.0,
        relative_variation=0.4,
        jitter=None,
        steps_to_10_percent=2,
        steps_to_2_percent=2,
        steps_to_best_raw=2,
        share_above_raw=pytest.approx((0.5 + 1) / 3),
    )
    assert stability.summarize([1], [4.0]).share_above_raw is None


def test_a_summary_as_a_dict_has_the_fields_in_order():
    summary = stability.summarize([1, 2], [4.0, 1.0], raw=[5.0, 2.0])
    fields = [field.name for field in dataclasses.fields(summary)]
    assert list(summary.as_dict()) == fields
    assert list(summary.as_dict().values()) == [getattr(summary, name) for name in fields]


@pytest.mark.parametrize("values", [[3.0, -1.0, 1.0], [5.0, -2.0, -1.0]])
def test_no_share_of_a_level_that_is_not_above_zero(values):
    summary = stability.summarize([1, 2, 3], values)
    assert summary.variation == abs(values[2] - values[1])
    assert summary.relative_variation is None


def test_where_nothing_finite_came_before_only_what_is_not_finite_is_a_spike():
    assert stability.spikes([np.nan, np.inf, 5.0, np.nan], window=2) == [0, 1, 3]
    assert stability.spikes([1.0, np.nan, 1.0, 9.0], window=3) == [1, 3]


def test_every_number_has_a_definition():
    fields = {field.name for field in dataclasses.fields(stability.CurveSummary)} - {"best_step"}
    assert fields | {"variance", "spikes"} == set(stability.DEFINITIONS)


@pytest.mark.parametrize(("steps", "values"), [([], []), ([1, 2], [1.0]), ([[1]], [[1.0]])])
def test_curves_must_have_matching_steps(steps, values):
    with pytest.raises(ValueError, match="as many steps as values"):
        stability.summarize(steps, values)
