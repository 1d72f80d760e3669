"""Extractors for second opinions, the two-sample test, and the floor at as many images."""

import dataclasses
import functools
import time
from concurrent import futures

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from ddpm_keras import choices, data, quality
from ddpm_keras.app import references
from ddpm_keras.quality.matrices import Remembered


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize("learner", [quality.RandomFeatures, quality.PixelFeatures])
def test_features_are_scaled_and_a_function_of_the_arguments(digits, learner):
    few = digits.train[:300]
    extractor, again = (learner.train(few, dataset="digits", dim=16) for _ in range(2))
    features = extractor(few)
    assert extractor.fingerprint == again.fingerprint
    assert extractor.name.startswith("digits ") and "FID" not in extractor.metric
    np.testing.assert_array_equal(features, again(few))
    np.testing.assert_allclose(features.var(axis=0, dtype=np.float64).sum(), 16, rtol=0.01)
    assert learner.train(few[:200]).fingerprint != extractor.fingerprint
    with pytest.raises(ValueError, match="at least 2 images"):
        learner.train(few[:1])
    with pytest.raises(ValueError, match=r"\(8, 8, 1\); got \(9, 8, 1\)"):
        extractor(np.zeros((2, 9, 8, 1), np.uint8))


def test_random_features_differ_by_seed_and_are_kept(digits, tmp_path):
    first, other = (quality.RandomFeatures.train(digits.train[:50], seed=seed) for seed in (0, 1))
    assert first.fingerprint != other.fingerprint
    first.save(tmp_path / "random.npz")
    loaded = quality.RandomFeatures.load(tmp_path / "random.npz")
    np.testing.assert_array_equal(loaded(digits.held_out[:9]), first(digits.held_out[:9]))
    assert loaded.name == "images random network"


def test_pixel_features_are_principal_components(digits):
    extractor = quality.PixelFeatures.train(digits.train, dim=10)
    features = extractor(digits.held_out)
    peer = PCA(10, svd_solver="full").fit(digits.train.reshape(-1, 64) / 255.0)
    expected = peer.transform(digits.held_out.reshape(-1, 64) / 255.0)
    expected *= np.sqrt(10 / peer.explained_variance_.sum())
    signs = np.sign((features * expected).sum(axis=0))
    np.testing.assert_allclose(features * signs, expected, atol=1e-4)


def test_large_pictures_are_averaged_down_and_equal_ones_refused():
    images = np.random.RandomState(0).randint(0, 256, (9, 70, 40, 3), np.uint8)
    extractor = quality.PixelFeatures.train(images)
    assert extractor.dim == 8  # as many as nine images can have
    assert extractor(images).shape == (9, 8)
    with pytest.raises(ValueError, match="the same"):
        quality.PixelFeatures.train(np.zeros((4, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("name", ["random", "pixels-pca"])
def test_the_command_makes_them_of_the_images(digits, name, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path))
    first, again = (references.choose_extractor(name, digits) for _ in range(2))
    assert first.fingerprint == again.fingerprint and first.name.startswith("digits ")
    learner = choices.EXTRACTORS.find(name)
    with pytest.raises(ValueError, match=rf"quality\.{learner.__name__}\.train\(images\)"):
        quality.get_extractor(name)


def test_images_of_one_class_are_learnt_from_without_it(digits, tmp_path, monkeypatch):
    learnt = []

    class Learner(quality.RandomFeatures):
        @classmethod
        def train(cls, images, labels, dataset):
            learnt.append(labels)
            return super().train(images, labels, dataset=dataset)

    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path))
    monkeypatch.setitem(choices.EXTRACTORS, "learner", Learner)
    for labels in (np.zeros(len(digits.train), np.int32), digits.train_labels):
        images = dataclasses.replace(digits, train_labels=labels, checksum=str(labels[:9]))
        references.check_learnable(images)
        references.choose_extractor("learner", images)
    assert learnt[0] is None and learnt[1] is digits.train_labels


def test_of_several_that_make_an_extractor_at_once_one_does(digits, tmp_path, monkeypatch):
    made = []

    class Slow(quality.RandomFeatures):
        @classmethod
        def train(cls, *arguments, **settings):
            made.append(cls)
            time.sleep(0.3)
            return super().train(*arguments, **settings)

    monkeypatch.setenv("DDPM_KERAS_CACHE", str(tmp_path))
    monkeypatch.setitem(choices.EXTRACTORS, "slow", Slow)
    with futures.ThreadPoolExecutor() as pool:
        choose = functools.partial(references.choose_extractor, "slow")
        first, second = pool.map(choose, [digits] * 2)
    assert len(made) == 1 and first.fingerprint == second.fingerprint
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}


def test_what_is_of_real_images_alone_is_found_once_where_they_cannot_change(tmp_path):
    np.save(tmp_path / "rows.npy", np.random.RandomState(0).randn(40, 3))
    calls = []
    function = Remembered(lambda rows: calls.append(rows) or rows.sum())
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert function(mapped) == function(mapped) and len(calls) == 1
    loaded = np.array(mapped)
    assert function(loaded) == function(mapped) and len(calls) == 2
    loaded += 1
    assert function(loaded) > function(mapped) and len(calls) == 3
    generated, held_out = np.random.RandomState(1).randn(2, 30, 3)
    numbers = [
        quality.evaluate_features(real, generated, held_out) for real in (mapped, mapped * 1)
    ]
    assert numbers[0] == numbers[1]
    precision, recall = quality.precision_recall(mapped, generated)
    assert (numbers[0]["precision"], numbers[0]["recall"]) == (precision, recall)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_two_sample_accuracy_of_shifted_gaussians(shift):
    random = np.random.RandomState(1)
    real, generated = random.randn(4000, 3), random.randn(5000, 3)
    generated[:, 1] += shift
    accuracy, error = quality.two_sample_accuracy(real, generated)
    assert abs(accuracy - stats.norm.cdf(shift / 2)) < 3 * error
    assert error == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 8000))


def test_the_floor_is_that_of_as_many_images():
    random = np.random.RandomState(2)
    real, floors, seen = random.randn(1500, 8), [], []
    for seed in range(20):
        floors.append(quality.frechet_floor(real, random.randn(400, 8), 1000, seed=seed))
        seen.append(quality.frechet_distance(real, random.randn(1000, 8)))
    error = np.std(floors) / np.sqrt(len(floors)) + np.std(seen) / np.sqrt(len(seen))
    assert abs(np.mean(floors) - np.mean(seen)) < 3 * error
    fewer = quality.frechet_floor(real, random.randn(400, 8), 400)
    assert fewer > 1.5 * np.mean(floors)
