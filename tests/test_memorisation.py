"""The nearest training image, against brute force; what copying is called, in closed form."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from ddpm_keras import data, quality
from ddpm_keras.app import nearest


def test_the_nearest_row_is_that_of_brute_force(monkeypatch):
    monkeypatch.setattr("ddpm_keras.quality.matrices.BLOCK", 4)  # several blocks of either
    random = np.random.default_rng(0)
    rows, others = random.normal(size=(9, 3)), random.normal(size=(11, 3))
    distance, index = quality.nearest(rows, others)
    brute = np.linalg.norm(rows[:, None] - others[None], axis=-1)
    np.testing.assert_array_equal(index, brute.argmin(axis=1))
    np.testing.assert_allclose(distance, brute.min(axis=1), rtol=1e-12)


def test_images_are_compared_by_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    near = images[[3, 1]].copy()
    near[0, 0, 0, 0] ^= 1
    distance, index = quality.nearest(near, images)
    assert list(index) == [3, 1] and list(distance) == [1.0, 0.0]


def test_large_images_are_compared_a_few_at_a_time(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 1), np.uint8)
    expected = quality.nearest(images[:40], images[40:])
    monkeypatch.setattr("ddpm_keras.quality.matrices.NUMBERS", 4 * 64 * 64)
    tracemalloc.start()
    try:
        found = quality.nearest(images[:40], images[40:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 64 * 64 * 8 / 2  # of all of them as numbers
    np.testing.assert_array_equal(found, expected)


# Distances of samples, of held-out images -> share; every pair compared, ties counted half.
SHARES = [
    ([1, 2], [3, 4], 1.0),
    ([3, 4], [1, 2], 0.0),
    ([1, 4], [2, 3], 0.5),
    ([2, 2], [2, 2], 0.5),
    ([0, 1, 5], [1, 2], 3.5 / 6),
]


@pytest.mark.parametrize(("generated", "held_out", "share"), SHARES)
def test_copying_is_the_share_of_pairs(generated, held_out, share):
    assert quality.copying(generated, held_out)[0] == pytest.approx(share)


def test_the_error_of_copying_is_its_spread_over_draws():
    random = np.random.default_rng(0)
    draws = [quality.copying(*random.normal([[0], [0.5]], 1, (2, 60))) for _ in range(400)]
    shares, errors = np.transpose(draws)
    assert shares.mean() == pytest.approx(0.638, abs=0.01)  # Phi(0.5 / sqrt(2))
    assert errors.mean() == pytest.approx(shares.std(), rel=0.1)


IMAGES = np.zeros((2, 4, 4, 1), np.uint8)
WRONG = [
    (lambda: quality.copying([1.0], [1.0, 2.0]), ["generated", "1 rows"]),
    (lambda: quality.copying([1.0, 2.0], [1.0, np.nan]), ["held_out", "NaN"]),
    (lambda: quality.nearest(np.zeros((2, 3)), np.zeros((2, 4))), ["3", "4"]),
    (lambda: quality.nearest(IMAGES, IMAGES.reshape(2, 8, 2, 1)), ["(2, 8, 2, 1)", "one size"]),
    (lambda: quality.nearest(IMAGES, IMAGES / 127.5 - 1), ["uint8", "float64", "one range"]),
    (lambda: quality.nearest(np.zeros((0, 3)), np.zeros((2, 3))), ["0 rows"]),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_what_cannot_be_compared_is_refused(call, words):
    assert_refused(call, words)


# In an evaluation, and its report


def test_a_model_that_copies_is_told_from_one_that_does_not():
    random = np.random.default_rng(0)
    train, held_out, new = random.normal(size=(3, 300, 4))
    copies = train[:200] + 0.01 * random.normal(size=(200, 4))
    fair, copied = (quality.evaluate_features(train, x, held_out) for x in (new, copies))
    assert abs(fair["copying"] - 0.5) < 3 * fair["copying_error"] < 0.1
    assert copied["copying"] > 0.99
    for real in (held_out, quality.FeatureStatistics.of(train)):  # as of --reference
        assert quality.evaluate_features(real, new, held_out)["copying"] is None
    assert quality.evaluate_features(train, new)["copying"] is None


def test_copies_are_told_by_pixels_too():
    random = np.random.default_rng(0)
    train, held_out = random.integers(0, 256, (2, 60, 4, 4, 1), np.uint8)

    class Means(quality.FeatureExtractor):
        name, dim, channels, fingerprint = "means", 1, 1, "a"

        def _features(self, batch):
            return batch.mean(axis=(1, 2), dtype=np.float32)

    images = data.ImageData("noise", train=train, held_out=held_out)
    drawn_by = nearest.WithPixels(Means(), images)
    rows = quality.extract_features(drawn_by, train[:20] ^ np.uint8(1))
    assert rows.shape == (20, 2) and "a, pixels of" in drawn_by.fingerprint
    np.testing.assert_allclose(rows[:, 1], 4.0)  # of 16 pixels, one level each
    pair = rows[:, 1], quality.nearest(held_out, train)[0]
    features = Means()(train), rows[:, :1], Means()(held_out)
    found = quality.evaluate_features(*features, pixels=pair)
    assert found["copying_pixels"] == 1.0 and found["copying_pixels_error"] == 0.0
    assert quality.evaluate_features(*features)["copying_pixels"] is None


def test_the_picture_shows_the_most_suspicious_samples_above_what_they_are_near_to(tmp_path):
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (30, 4, 4, 1), np.uint8)
    samples = random.integers(0, 256, (20, 4, 4, 1), np.uint8)
    samples[7] = train[11]
    flat = [x.reshape(len(x), -1).astype(float) for x in (samples, train)]
    path = tmp_path / "nearest.png"
    nearest.write(path, *flat, samples.__getitem__, train)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))[::12, ::12]  # enlarged so many times
    for top in (0, 5, 10):
        np.testing.assert_array_equal(pixels[top : top + 4, :4], samples[7, ..., 0])
