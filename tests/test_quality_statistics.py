"""Streamed mean and covariance, and the files they are kept in."""

import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras.quality import FeatureStatistics, frechet_distance


@pytest.fixture
def rows():
    """Far from zero, where sums of squares would cancel."""
    return np.random.RandomState(0).randn(97, 5) + 1e6


def test_batches_merge_to_the_statistics_of_all_rows(rows):
    streamed, other = FeatureStatistics(), FeatureStatistics()
    for batch in np.split(rows[:60], [1, 2, 30]):
        streamed.update(batch)
    other.update(rows[60:])
    streamed.merge(other)
    streamed.merge(FeatureStatistics())
    assert streamed.num_images == 97 and streamed.dim == 5
    np.testing.assert_allclose(streamed.mean, rows.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(streamed.covariance, np.cov(rows.T), rtol=1e-9, atol=1e-9)
    assert other.num_images == 37


def test_a_mean_that_was_given_out_stays(rows):
    statistics = FeatureStatistics.of(rows[:40])
    mean = statistics.mean
    statistics.update(rows[40:])
    np.testing.assert_array_equal(mean, FeatureStatistics.of(rows[:40]).mean)


def test_float32_features_are_gathered_in_float64():
    rows = np.random.RandomState(0).randn(3000, 3).astype(np.float32) + 1000
    statistics = FeatureStatistics.of(rows)
    np.testing.assert_allclose(statistics.covariance, np.cov(rows.astype(np.float64).T), rtol=1e-10)


def test_statistics_survive_a_file_and_can_be_continued(rows, tmp_path):
    statistics = FeatureStatistics.of(rows[:40])
    statistics.save(tmp_path / "a.npz")
    loaded = FeatureStatistics.load(tmp_path / "a.npz")
    assert loaded.num_images == 40
    np.testing.assert_array_equal(loaded.mean, statistics.mean)
    loaded.update(rows[40:])
    np.testing.assert_allclose(loaded.covariance, np.cov(rows.T), rtol=1e-9, atol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_file_of_another_tool_without_n_is_read_but_not_continued(rows, tmp_path):
    path = tmp_path / "b.npz"
    np.savez(path, mu=rows.mean(axis=0), sigma=np.cov(rows.T))
    loaded = FeatureStatistics.load(path)
    assert loaded.num_images is None
    assert frechet_distance(loaded, FeatureStatistics.of(rows)) < 1e-6
    with pytest.raises(ValueError, match="without N"):
        loaded.update(rows)
    with pytest.raises(ValueError, match="without N"):
        FeatureStatistics().merge(loaded)
    loaded.save(tmp_path / "c.npz")
    assert "num_images" not in np.load(tmp_path / "c.npz")


def test_files_that_are_no_statistics_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="no statistics file"):
        FeatureStatistics.load(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(ValueError, match="no statistics file"):
        FeatureStatistics.load(path)
    np.savez(path, mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"expected \(D,\) and \(D, D\)"):
        FeatureStatistics.load(path)
    np.savez(path, mu=np.zeros(2), sigma=np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        FeatureStatistics.load(path)
    np.savez(path, mu=np.array([{}], object), sigma=np.zeros((1, 1)))  # pickled: never executed
    with pytest.raises(ValueError, match="no statistics file"):
        FeatureStatistics.load(path)
    with pytest.raises(FileNotFoundError, match="missing.npz"):
        FeatureStatistics.load(tmp_path / "missing.npz")


def test_statistics_of_too_few_images_are_refused(rows):
    statistics = FeatureStatistics()
    with pytest.raises(ValueError, match="seen 0 images"):
        _ = statistics.mean
    statistics.update(rows[:1])
    with pytest.raises(ValueError, match="at least 2"):
        _ = statistics.covariance
    with pytest.raises(ValueError, match="of 5 features; got 4"):
        statistics.update(rows[:, :4])
    with pytest.raises(ValueError, match="NaN"):
        statistics.update(np.full((2, 5), np.nan))


# What no features have: sigma, the number of images, and words of the message.
NO_COVARIANCE = {
    "negative": (-np.eye(3), 9, "negative eigenvalue"),
    "standard deviations off the diagonal": (np.ones((3, 3)) - np.eye(3), 9, "negative eigenvalue"),
    "one triangle": (np.triu(np.ones((3, 3))), 9, "not symmetric"),
    "one image": (np.eye(3), 1, "of 1 images"),
    "fewer than none": (np.eye(3), -5, "of -5 images"),
}


@pytest.mark.parametrize("case", NO_COVARIANCE)
def test_statistics_that_no_features_have_are_refused(case, tmp_path):
    sigma, number, words = NO_COVARIANCE[case]
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(3), sigma=sigma, num_images=number)
    assert_refused(lambda: FeatureStatistics.load(path), [str(path), words])


def test_statistics_of_few_images_in_single_precision_are_read(tmp_path):
    """Their covariance has eigenvalues of zero, which rounding makes negative."""
    rows = np.random.RandomState(0).randn(5, 40).astype(np.float32)
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=rows.mean(axis=0), sigma=np.cov(rows.T).astype(np.float32))
    assert FeatureStatistics.load(path).dim == 40
