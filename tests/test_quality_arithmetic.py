"""Metrics on feature matrices against closed forms and golden numbers."""

import numpy as np
import pytest

from ddpm_keras.quality import (
    FeatureStatistics,
    evaluate_features,
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    paired_difference,
    precision_recall,
)
from ddpm_keras.quality.frechet import GaussianReference


def rectified(rows, dim, seed, shift=0.0):
    """Features that look like those of a network with rectified units."""
    noise = np.random.RandomState(seed).randn(rows, dim)
    return np.maximum(noise * 0.5 + 0.4 + shift, 0)


def gaussian(rows, dim, seed, scale=1.0, shift=0.0):
    return np.random.RandomState(seed).randn(rows, dim) * scale + shift


def test_golden_numbers():
    real = np.float64(np.float32(rectified(500, 2048, 0)))
    generated = np.float64(np.float32(rectified(500, 2048, 1, 0.02)))
    # The number comes from covariances, whose null space adds rounding of about 2e-5.
    assert frechet_distance(real, generated) == pytest.approx(416.257233, rel=1e-7)
    mean, _ = kernel_distance(real, generated, num_subsets=20, subset_size=500)
    assert mean == pytest.approx(0.00151145, abs=5e-9)


def test_distance_of_diagonal_gaussians_has_a_closed_form():
    """Whitened samples have mean 0 and covariance I exactly, before scaling and shifting."""
    x = gaussian(400, 8, 0)
    x -= x.mean(axis=0)
    x = np.linalg.solve(np.linalg.cholesky(np.cov(x.T)), x.T).T
    scale, shift = np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)
    expected = (shift**2).sum() + ((scale - 1) ** 2).sum()
    assert frechet_distance(x, x * scale + shift) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(x * scale + shift, x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [20, 300])
def test_distance_of_a_set_to_itself_is_zero(rows):
    x = rectified(rows, 64, 0)
    assert 0 <= frechet_distance(x, x.copy()) < 1e-10


def test_both_forms_of_the_distance_agree():
    """From rows (N < D) and from covariances."""
    real, generated = rectified(60, 80, 0), rectified(50, 80, 1, 0.1)
    from_rows = frechet_distance(real, generated)
    from_statistics = frechet_distance(FeatureStatistics.of(real), FeatureStatistics.of(generated))
    assert from_statistics == pytest.approx(from_rows, rel=1e-6)
    assert frechet_distance(FeatureStatistics.of(real), generated) == from_statistics


def test_distance_at_infinity_is_unbiased_where_the_plain_one_is_not():
    real, generated = gaussian(2000, 64, 0), gaussian(1500, 64, 1)
    estimate, error = frechet_distance_infinity(real, generated)
    assert abs(estimate) < 2 * error
    assert frechet_distance(real, generated) > 10 * error


def test_distance_at_infinity_finds_a_true_distance():
    real, generated = gaussian(2000, 16, 0), gaussian(2000, 16, 1, shift=0.5)
    estimate, error = frechet_distance_infinity(real, generated)
    assert abs(estimate - 4.0) < 3 * error
    assert error < 0.4


def test_distance_at_infinity_is_a_function_of_its_seed():
    real, generated = gaussian(200, 4, 0), gaussian(200, 4, 1)
    first = frechet_distance_infinity(real, generated, num_groups=2, seed=3)
    assert first == frechet_distance_infinity(real, generated, num_groups=2, seed=3)
    assert first != frechet_distance_infinity(real, generated, num_groups=2, seed=4)


def test_kernel_distance_by_its_definition():
    x, y = gaussian(5, 3, 0), gaussian(5, 3, 1)

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [kernel(z[i], z[j]) for z in (x, y) for i in range(5) for j in range(5) if i != j]
    across = [kernel(a, b) for a in x for b in y]
    expected = sum(within) / 20 - 2 * np.mean(across)
    mean, std = kernel_distance(x, y, num_subsets=3, subset_size=5)
    assert mean == pytest.approx(expected, rel=1e-12)
    assert std < 1e-12


def test_kernel_distance_is_unbiased_and_reproducible():
    x, y = gaussian(1000, 8, 0), gaussian(1000, 8, 1)
    mean, std = kernel_distance(x, y, subset_size=200)
    assert abs(mean) < std
    assert (mean, std) == kernel_distance(x, y, subset_size=200)
    assert mean != kernel_distance(x, y, subset_size=200, seed=1)[0]
    assert kernel_distance(x, y + 0.5, subset_size=200)[0] > 0.1


def test_precision_and_recall_by_their_definition():
    """On a line: real 0..9, generated points on some of it, and one far away."""
    real = np.arange(10.0)[:, None]
    generated = np.array([0.0, 1, 2, 3, 100])[:, None]
    # Real balls reach at least 2 (k = 3, inside), so 0..3 are covered: 4 of 5. Generated balls:
    # 0 and 3 reach 3 (0..6), 1 and 2 reach 2, and 100 reaches 99 (1..9): all 10 are covered.
    assert precision_recall(real, generated) == (0.8, 1.0)
    assert precision_recall(real, generated[:4]) == (1.0, 0.7)


def test_precision_and_recall_tell_realism_from_coverage():
    real = gaussian(500, 4, 0)
    narrow, wide = gaussian(500, 4, 1, scale=0.3), gaussian(500, 4, 1, scale=3)
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.95 and recall < 0.3
    precision, recall = precision_recall(real, wide)
    assert precision < 0.5 and recall > 0.8


def test_precision_and_recall_do_not_depend_on_the_block_size(monkeypatch):
    real, generated = gaussian(90, 4, 0), gaussian(70, 4, 1, shift=0.7)
    expected = precision_recall(real, generated)
    for block in (1, 7, 64):
        monkeypatch.setattr("ddpm_keras.quality.matrices.BLOCK", block)
        assert precision_recall(real, generated) == expected


def test_paired_interval_covers_a_known_difference():
    """N(a, I) against N(0, I) is at distance |a|^2; a 90% interval misses that seldom."""
    real = FeatureStatistics.of(gaussian(20000, 8, 0))
    missed = 0
    for seed in range(40):
        noise = gaussian(300, 8, 100 + seed)
        result = paired_difference(
            real, noise + 0.5, noise + 0.25, num_resamples=100, confidence=0.9, seed=seed
        )
        assert result.low < result.estimate < result.high
        missed += not result.low <= 8 * (0.25 - 0.0625) <= result.high
    assert missed <= 10  # 4 expected; above 10 has a probability of 0.003


def test_influence_is_the_derivative_of_the_distance():
    """Of the distance of rows that count differently, by a central difference."""
    features, e = rectified(200, 6, 1), 1e-4
    reference = GaussianReference(FeatureStatistics.of(rectified(300, 6, 0)))
    influence = reference.influence(features)

    def distance(weights):
        weights = weights / weights.sum()
        statistics = FeatureStatistics()
        mean = weights @ features
        centred = features - mean
        statistics._mean, statistics.num_images = mean, 2
        statistics._scatter = (centred * weights[:, None]).T @ centred * 200 / 199
        return reference.distance(statistics)

    for row in (0, 17, 120):
        more, less = np.ones(200), np.ones(200)
        more[row], less[row] = 1 + e, 1 - e
        slope = 200 * (distance(more) - distance(less)) / (2 * e)
        assert influence[row] == pytest.approx(slope, rel=1e-5)


def test_interval_agrees_with_a_bootstrap_that_measures_every_resample():
    real, noise = rectified(2000, 6, 0), np.random.RandomState(1).randn(400, 6)
    worse, better = (np.maximum(noise * s + 0.4, 0) for s in (0.9, 0.7))
    result = paired_difference(real, worse, better, confidence=0.9)
    reference = GaussianReference(FeatureStatistics.of(real))
    random = np.random.RandomState(2)
    resampled = []
    for _ in range(400):
        rows = random.randint(400, size=400)
        one, other = (reference.distance(FeatureStatistics.of(x[rows])) for x in (worse, better))
        resampled.append(one - other)
    low, high = np.quantile(resampled, [0.05, 0.95])
    assert result.high - result.low == pytest.approx(high - low, rel=0.15)
    assert (result.low + result.high) / 2 == pytest.approx((low + high) / 2, rel=0.05)


def test_shared_noise_narrows_the_interval():
    real, noise = gaussian(2000, 8, 0), gaussian(300, 8, 1)
    paired = paired_difference(real, noise + 0.5, noise + 0.25, num_resamples=200)
    unpaired = paired_difference(real, noise + 0.5, gaussian(300, 8, 2) + 0.25, num_resamples=200)
    assert paired.low > 0
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_paired_interval_of_equal_quality_holds_zero():
    """Over 40 draws of two equally good sets, a 90% interval misses zero seldom."""
    real = FeatureStatistics.of(gaussian(5000, 4, 0))
    missed = 0
    for seed in range(40):
        noise = gaussian(200, 4, 100 + seed)
        result = paired_difference(
            real, noise, -noise, num_resamples=100, confidence=0.9, seed=seed
        )
        missed += not result.low <= 0 <= result.high
    assert missed <= 10  # 4 expected; above 10 has a probability of 0.003


BAD = {
    "one row": (np.zeros((1, 4)), "at least 2"),
    "no row": (np.zeros((0, 4)), "at least 2"),
    "no feature": (np.zeros((9, 0)), "feature matrix"),
    "images": (np.zeros((9, 8, 8, 1)), "Pass images through an extractor"),
    "NaN": (np.where(np.arange(36).reshape(9, 4) == 30, np.nan, gaussian(9, 4, 0)), "row 7"),
    "width": (gaussian(9, 5, 0), "one extractor for both"),
    "text": (np.full((9, 4), "a"), "real numbers"),
}


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, precision_recall])
@pytest.mark.parametrize("case", BAD)
def test_degenerate_features_are_refused_with_the_reason(function, case):
    features, message = BAD[case]
    if function is precision_recall and "row" in case:
        message = "at least 4"
    good = gaussian(9, 4, 1)
    for pair in ((features, good), (good, features)):
        with pytest.raises(ValueError, match=message):
            function(*pair)


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, precision_recall])
def test_the_set_that_is_wrong_is_named(function):
    good, bad = gaussian(9, 4, 0), np.full((9, 4), np.inf)
    for name, pair in (("real", (bad, good)), ("generated", (good, bad))):
        with pytest.raises(ValueError, match=f"^`{name}` has NaN or infinite features, .* row 0"):
            function(*pair)


def test_few_rows_of_many_features_need_no_large_matrix(monkeypatch):
    real, generated = rectified(20, 80, 0), rectified(30, 80, 1)
    expected = frechet_distance(FeatureStatistics.of(real), FeatureStatistics.of(generated))
    monkeypatch.setattr("ddpm_keras.quality.frechet.GaussianReference", None)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-6)


def test_float32_features_far_from_zero_are_compared_in_float64():
    x, y = (np.float32(gaussian(60, 3, seed) + 3000) for seed in (0, 1))
    in_float64 = [np.float64(z) for z in (x, y)]
    assert precision_recall(x, y) == precision_recall(*in_float64)
    assert kernel_distance(x, y, 3, 20) == kernel_distance(*in_float64, 3, 20)
    assert frechet_distance(x, y) == frechet_distance(*in_float64)


def test_a_constant_column_is_refused_in_matrices_only():
    x, y = gaussian(9, 4, 0), gaussian(9, 4, 1)
    for value in (5.0, -5.0, 0.0):
        x[:, 1] = value
        with pytest.raises(ValueError, match="^`real` has 1 constant columns of 4, first column 1"):
            frechet_distance(x, y)
    x = gaussian(9, 4, 0)
    x[:, 2] = 5
    with pytest.raises(ValueError, match="constant columns of 4, first column 2 with 5"):
        frechet_distance(x, y)
    with pytest.raises(ValueError, match="`generated`"):
        frechet_distance(y, x)
    assert frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(y)) > 20
    assert evaluate_features(y, x)["frechet"] > 20


def test_other_bad_arguments_are_refused():
    x, y = gaussian(40, 4, 0), gaussian(40, 4, 1)
    with pytest.raises(ValueError, match="at least 80"):
        frechet_distance_infinity(x, y)
    with pytest.raises(ValueError, match="subset_size"):
        kernel_distance(x, y, subset_size=1)
    with pytest.raises(ValueError, match="k must be"):
        precision_recall(x, y, k=0)
    with pytest.raises(ValueError, match="row by row"):
        paired_difference(x, x, y[:30])
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(x, x, y, confidence=95)


def test_arguments_that_are_not_given():
    x, y = gaussian(120, 4, 0), gaussian(120, 4, 1)
    assert kernel_distance(x, y, subset_size=50) == kernel_distance(x, y, 100, 50, 0)
    large = gaussian(1010, 2, 0), gaussian(1010, 2, 1)
    assert kernel_distance(*large, num_subsets=2) == kernel_distance(*large, 2, 1000)
    assert kernel_distance(*large, num_subsets=2) != kernel_distance(*large, 2, 1001)
    assert precision_recall(x, y) == precision_recall(x, y, 3) != precision_recall(x, y, 4)
    assert frechet_distance_infinity(x, y) == frechet_distance_infinity(x, y, 15, 10, 0)
    assert paired_difference(x, y, -y) == paired_difference(x, y, -y, 1000, 0.95, 0)
    assert paired_difference(x, y, -y) != paired_difference(x, y, -y, 1001, 0.95, 0)


def test_the_fewest_rows_are_enough():
    """Two for a distance; 8 a group for that at infinity; k + 1 for the k-th neighbour."""
    two = gaussian(2, 3, 0), gaussian(2, 3, 1)
    assert frechet_distance(*two) > 0 and evaluate_features(*two)["num_images"] == 2
    assert np.isfinite(kernel_distance(*two)[0])
    sixteen = gaussian(16, 2, 0), gaussian(16, 2, 1)
    assert np.isfinite(frechet_distance_infinity(*sixteen, num_sizes=3, num_groups=2)).all()
    x = np.array([[0.0], [1.0], [3.0]])
    assert precision_recall(x, x + 0.5, k=2) == (1.0, 1.0)
    assert np.isfinite(paired_difference(gaussian(9, 3, 2), *two).estimate)
    assert kernel_distance(gaussian(9, 2, 0), gaussian(9, 2, 1), 1, 2)[1] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_sizes": 2}, "num_sizes must be a whole number, at least 3"),
        ({"num_groups": 1}, "num_groups must be a whole number, at least 2"),
        ({"num_groups": 16}, "120 rows are too few; at least 128"),
    ],
)
def test_a_distance_at_infinity_of_too_little_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance_infinity(gaussian(120, 2, 0), gaussian(120, 2, 1), **arguments)


def test_evaluation_of_features_has_every_number():
    real, held_out, generated = (gaussian(n, 6, n) for n in (120, 50, 80))
    result = evaluate_features(real, generated, held_out)
    assert result["frechet"] == frechet_distance(real, generated)
    assert result["frechet_held_out"] == frechet_distance(held_out, generated)
    assert (result["kid"], result["kid_std"]) == kernel_distance(real, generated, subset_size=40)
    assert (result["precision"], result["recall"]) == precision_recall(real, generated)
    assert result["num_images"] == 80
    from_file = evaluate_features(FeatureStatistics.of(real), generated)
    assert from_file["frechet"] == pytest.approx(result["frechet"], rel=1e-12)
    assert from_file["kid"] is from_file["precision"] is from_file["frechet_held_out"] is None
