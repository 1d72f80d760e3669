"""Noise of each image: the generator's bits, and that they are normal."""

import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import samplers


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_generator_gives_the_published_known_answers(key, counter, expected):
    key, counter = [[tf.constant(word, tf.int64) for word in pair] for pair in (key, counter)]
    assert tuple(int(word) for word in samplers.threefry_2x32(key, counter)) == expected


def test_noise_is_standard_normal_and_uncorrelated():
    seeds = samplers.image_seeds(0, 0, 500)
    draws = [samplers.step_noise(seeds, k, (10, 10, 1)).numpy().ravel() for k in (0, 1, 2)]
    draws.append(
        samplers.step_noise(samplers.image_seeds(1, 0, 500), 0, (10, 10, 1)).numpy().ravel()
    )
    draws.append(np.roll(draws[0], 100))  # the neighbouring image
    draws.append(np.roll(draws[0], 50))  # the other half of each pair
    count = draws[0].size
    for z in draws:
        assert abs(z.mean()) < 4 / np.sqrt(count)
        assert abs(z.var() - 1) < 4 * np.sqrt(2 / count)
        assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / count)
    correlations = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(count)


def test_odd_image_sizes_and_large_seeds():
    noise_of = samplers.initial_noise(samplers.image_seeds(2**40 + 7, 0, 2), (3, 3, 1))
    assert noise_of.shape == (2, 3, 3, 1) and noise_of.dtype == tf.float32
    same = samplers.initial_noise(samplers.image_seeds(7, 0, 2), (3, 3, 1))
    np.testing.assert_array_equal(noise_of, same)
    assert samplers.image_seeds(-1, 3, 2).numpy().tolist() == [[-1, 3], [-1, 4]]
    assert samplers.image_seeds(2**31, 0, 1).numpy().tolist() == [[-(2**31), 0]]
