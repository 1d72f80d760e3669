"""Statistics over trainings against SciPy, worked examples and closed forms."""

import numpy as np
import pytest
from scipy import stats

from ddpm_keras.report import inference


def test_a_ratio_is_students_test_of_logarithms():
    random = np.random.RandomState(0)
    first, second = np.exp(random.randn(2, 8) * 0.3 + [[1.0], [0.5]])
    found = inference.ratio(first, second)
    peer = stats.ttest_rel(np.log(first), np.log(second))
    interval = peer.confidence_interval(0.95)
    assert found.p == pytest.approx(peer.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(interval)))
    assert found.estimate == pytest.approx(stats.gmean(first / second))
    swapped = inference.ratio(second, first)
    assert (1 / swapped.high, 1 / swapped.low) == pytest.approx((found.low, found.high))
    with pytest.raises(ValueError, match="positive"):
        inference.ratio([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        inference.ratio([1, 2], [1, 2, 3])


def test_a_difference_is_students_paired_test():
    first, second = np.random.RandomState(1).randn(2, 5)
    found, peer = inference.difference(first, second), stats.ttest_rel(first, second)
    assert found.p == pytest.approx(peer.pvalue) and found.count == 5
    assert (found.low, found.high) == pytest.approx(tuple(peer.confidence_interval()))


def test_one_training_has_no_interval_and_no_test():
    for found in (inference.ratio([2], [1]), inference.level([2]), inference.difference([3], [1])):
        assert (found.estimate, found.low, found.high, found.p) == (pytest.approx(2), *[None] * 3)


def test_trainings_without_a_spread_have_no_interval_and_no_test():
    for found in (
        inference.difference([2, 2], [1, 1]),
        inference.ratio([3, 3], [3 / np.e, 3 / np.e]),
        inference.correlation([-0.8, -0.8, -0.8], 4),
    ):
        assert (found.low, found.high, found.p) == (None, None, None) and found.count > 1
    assert inference.difference([1, 1], [1, 1]) == inference.Effect(0, 0, 0, 1, 2)


@pytest.mark.parametrize("values", [[0.0, 0.02, 0.0], [1.0, 0.99, 0.9], [0.5, 0.6, 0.4]])
def test_a_share_stays_within_its_bounds(values):
    found = inference.share(values, 100)
    assert 0 < found.low < found.estimate < found.high < 1
    mirrored = inference.share([1 - value for value in values], 100)
    assert mirrored.low == pytest.approx(1 - found.high)
    with pytest.raises(ValueError, match="between 0 and 1"):
        inference.share([1.2], 100)


def test_a_correlation_is_fishers_z_within_its_bounds():
    found = inference.correlation([1.0, 1.0, 0.98], 15)
    assert 0 < found.low < found.estimate < found.high < 1 and found.p < 0.05
    z = np.arctanh(np.array([0.2, 0.5, 0.4]) * 9 / 10)
    peer = stats.ttest_1samp(z, 0)
    found = inference.correlation([0.2, 0.5, 0.4], 9)
    assert found.p == pytest.approx(peer.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(np.tanh(peer.confidence_interval())))
    with pytest.raises(ValueError, match="between -1 and 1"):
        inference.correlation([1.1], 9)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [  # worked by hand: the smallest times n, the next times n - 1, never falling
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, None, 0.9], [1.0, None, 1.0]),
        ([], []),
        ([None], [None]),
    ],
)
def test_holm(given, corrected):
    found = inference.holm(given)
    assert [each is None for each in found] == [each is None for each in corrected]
    known = [[each for each in values if each is not None] for values in (found, corrected)]
    assert known[0] == pytest.approx(known[1])


def test_holm_keeps_the_order_of_p_values():
    p = np.random.RandomState(2).rand(20)
    corrected = np.array(inference.holm(p))
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all() and (corrected >= p).all()
    assert corrected.min() == pytest.approx(min(20 * p.min(), 1))


def test_the_sign_test_counts_never_as_last():
    below, above, p = inference.sign_test([1, 2, 3, 4, 9], [2, 3, np.inf, 5, 9])
    assert (below, above) == (4, 0) and p == pytest.approx(2 * 0.5**4)
    assert inference.sign_test([1], [1]) == (0, 0, None)


def test_variance_components_are_those_that_numbers_were_made_with():
    random = np.random.RandomState(3)
    true = {"training": 4.0, "drawing": 1.0, "classifier": 0.5}
    true |= {"training_by_classifier": 0.25, "rest": 0.04}
    found = []
    for _ in range(400):
        a, d, c = 6, 3, 4
        values = np.sqrt(true["training"]) * random.randn(a, 1, 1)
        values = values + np.sqrt(true["drawing"]) * random.randn(a, d, 1)
        values = values + np.sqrt(true["classifier"]) * random.randn(1, 1, c)
        values = values + np.sqrt(true["training_by_classifier"]) * random.randn(a, 1, c)
        values = values + np.sqrt(true["rest"]) * random.randn(a, d, c)
        found.append(vars(inference.variance_components(values)))
    for name, value in true.items():
        drawn = [each[name] for each in found]
        assert abs(np.mean(drawn) - value) < 4 * np.std(drawn) / np.sqrt(len(drawn)), name
    with pytest.raises(ValueError, match=r"\(6, 3, 1\)"):
        inference.variance_components(np.zeros((6, 3, 1)))


def test_what_is_chosen_on_one_set_is_judged_on_another():
    assert inference.chosen_elsewhere({"a": 1, "b": 2}, {"a": 5, "b": 3}) == ("a", 5)
