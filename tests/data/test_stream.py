"""The stream of batches against its definition."""

import itertools
import time

import numpy as np
import pytest

from ddpm_keras import data


def stream_rows(images, **options):
    """First pixel of every image of every batch, for images that are numbered by it."""
    return [batch.numpy()[:, 0, 0, 0].tolist() for batch in data.training_stream(images, **options)]


def numbered(num_images, width=2):
    return np.arange(num_images * width).reshape(num_images, 1, width, 1)


def test_every_image_comes_exactly_once_an_epoch():
    rows = stream_rows(numbered(10), batch_size=4, seed=3, steps=25)
    epochs = np.array(rows).reshape(10, 10)
    assert all(sorted(epoch) == list(range(0, 20, 2)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 10


@pytest.mark.parametrize("start_step", [1, 2, 7, 100])
def test_batch_depends_on_seed_and_step_alone(start_step):
    images, labels = numbered(11), np.arange(11)
    options = dict(batch_size=4, seed=5, flip=True)
    whole = list(data.training_stream(images, labels, steps=start_step + 3, **options))
    part = list(data.training_stream(images, labels, start_step=start_step, steps=3, **options))
    for (x, y), (x_part, y_part) in zip(whole[start_step:], part, strict=True):
        np.testing.assert_array_equal(x, x_part)
        np.testing.assert_array_equal(y, y_part)


def test_batch_size_only_cuts_the_stream():
    flat = [
        sum(stream_rows(numbered(9), batch_size=size, seed=1, steps=24 // size, flip=True), [])
        for size in (1, 4, 8)
    ]
    assert flat[0] == flat[1] == flat[2]


@pytest.mark.parametrize("bounds", [(0, 3, 6), (0, 2, 4, 6), (0, 4, 6)])
def test_the_shares_of_several_processes_are_the_batches(bounds):
    images, labels = numbered(11), np.arange(11)
    options = dict(batch_size=6, seed=5, flip=True, start_step=3, steps=4)
    whole = list(data.training_stream(images, labels, **options))
    shares = list(itertools.pairwise(bounds))
    for own in (shares[:1], shares[1:]):
        found = iter(data.training_stream(images, labels, shares=own, **options))
        for x, y in whole:
            for start, stop in own:
                x_part, y_part = next(found)
                np.testing.assert_array_equal(x[start:stop], x_part)
                np.testing.assert_array_equal(y[start:stop], y_part)
        assert next(found, None) is None


@pytest.mark.parametrize("shares", [[], [(0, 2), (3, 4)], [(2, 5)], [(2, 1)], [(-1, 2)]])
def test_shares_that_are_no_places_in_a_batch_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be places .* in a batch of 4"):
        data.training_stream(numbered(9), batch_size=4, shares=shares)


def test_labels_stay_with_their_images():
    for x, y in data.training_stream(numbered(7), np.arange(7), batch_size=5, steps=6):
        np.testing.assert_array_equal(x[:, 0, 0, 0], 2 * y)
        assert y.dtype == "int32"


def test_seeds_give_other_orders_and_epochs_are_uniform():
    """Counts of (position, image) over 2,000 epochs of 12 images, by chi-squared."""
    rows = np.array(stream_rows(numbered(12), batch_size=12, seed=0, steps=2000)) // 2
    counts = np.array([np.bincount(rows[:, position], minlength=12) for position in range(12)])
    expected = 2000 / 12
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert 60 < statistic < 200  # 121 degrees of freedom, standard deviation 15.6
    other = np.array(stream_rows(numbered(12), batch_size=12, seed=1, steps=1)) // 2
    assert sorted(other[0]) == sorted(rows[0]) and other[0].tolist() != rows[0].tolist()


def test_flip_is_a_fair_coin_for_every_image():
    images = numbered(50)
    rows = np.array(stream_rows(images, batch_size=50, seed=2, steps=80, flip=True))
    flipped = rows % 2  # a mirrored image starts with its odd pixel
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(flipped.size)
    coins = flipped.reshape(-1)
    for lag in (1, 2, 50):
        assert abs(np.corrcoef(coins[lag:], coins[:-lag])[0, 1]) < 4 / np.sqrt(coins.size)
    assert not (np.array(stream_rows(images, batch_size=50, seed=2, steps=80)) % 2).any()


def test_flip_mirrors_left_and_right():
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    seen = {
        x.numpy().tobytes() for x in data.training_stream(image, None, 1, 0, steps=20, flip=True)
    }
    assert seen == {image.tobytes(), image[:, :, ::-1].tobytes()}


def test_stream_is_endless_and_says_so():
    import tensorflow as tf

    dataset = data.training_stream(numbered(3), batch_size=2)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert len(list(itertools.islice(dataset, 20))) == 20
    assert data.training_stream(numbered(3), batch_size=2, steps=4).cardinality() == 4


def test_batch_takes_milliseconds():
    images = np.random.randint(0, 255, (10_000, 32, 32, 3), np.uint8)
    stream = iter(data.training_stream(images, batch_size=128, flip=True))
    next(stream)
    start = time.process_time()
    for _ in range(200):
        next(stream)
    # About 1 ms of processor time; the bound leaves room for a loaded machine.
    assert (time.process_time() - start) / 200 < 5e-3


def test_stream_refuses_what_cannot_be_streamed():
    with pytest.raises(ValueError, match="at least one image"):
        data.training_stream(numbered(0))
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        data.training_stream(numbered(3), np.arange(2))
