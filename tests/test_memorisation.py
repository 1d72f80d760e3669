"""The nearest training image, against brute force; what copying is called, in closed form."""

import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras import quality


def test_the_nearest_row_is_that_of_brute_force(monkeypatch):
    monkeypatch.setattr("ddpm_keras.quality.neighbours.BLOCK", 4)  # several blocks of either
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


WRONG = [
    (lambda: quality.copying([1.0], [1.0, 2.0]), ["generated", "1 rows"]),
    (lambda: quality.copying([1.0, 2.0], [1.0, np.nan]), ["held_out", "NaN"]),
    (lambda: quality.nearest(np.zeros((2, 3)), np.zeros((2, 4))), ["3", "4"]),
    (lambda: quality.nearest(np.zeros((0, 3)), np.zeros((2, 3))), ["0 rows"]),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_what_cannot_be_compared_is_refused(call, words):
    assert_refused(call, words)
