"""Splits against their definitions."""

import hashlib

import numpy as np
import pytest

from ddpm_keras.data import split


def test_shares_are_rounded_by_the_largest_remainder():
    """8 of 30: 2.67, 2.93 and 2.40 of the classes, so the third loses."""
    labels = np.repeat([3, 5, 8], [10, 11, 9])
    is_held_out = split.stratified(labels, 30, 0.25, seed=0)
    assert is_held_out.dtype == bool and is_held_out.shape == (30,)
    assert [is_held_out[labels == value].sum() for value in (3, 5, 8)] == [3, 3, 2]


def test_equal_remainders_go_to_the_first_classes():
    labels = np.array([0, 1, 2] * 5)
    is_held_out = split.stratified(labels, 15, 5 / 15, seed=0)
    assert [is_held_out[labels == value].sum() for value in (0, 1, 2)] == [2, 2, 1]


@pytest.mark.parametrize("labels", [None, [7] * 11])
def test_members_are_drawn_by_the_seed(labels):
    for seed in (0, 4):
        expected = np.random.RandomState(seed).permutation(np.arange(11))[:3]
        is_held_out = split.stratified(labels, 11, 0.2, seed)
        assert set(np.flatnonzero(is_held_out)) == set(expected)


def places(names, seed):
    """The definition: the first 64 bits of SHA-256, as a fraction."""
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:16] for name in names]
    return np.array([int(digest, 16) / 2**64 for digest in digests])


NAMES = [f"{i}.png" for i in range(50)]


@pytest.mark.parametrize("seed", [0, 1])
def test_names_are_held_out_by_their_hash(seed):
    expected = places(NAMES, seed) < 0.3
    np.testing.assert_array_equal(split.hashed(NAMES, 0.3, seed), expected)
    fewer = split.hashed(NAMES[10:], 0.3, seed)
    np.testing.assert_array_equal(fewer, expected[10:])


@pytest.mark.parametrize(("held_out", "count"), [(1e-9, 2), (1 - 1e-9, 48)])
def test_each_part_gets_two_names_at_least(held_out, count):
    is_held_out = split.hashed(NAMES, held_out, seed=0)
    assert is_held_out.sum() == count
    np.testing.assert_array_equal(np.argsort(places(NAMES, 0))[:count], sorted_marks(is_held_out))


def sorted_marks(is_held_out):
    """Marked places in the order of their hash."""
    order = np.argsort(places(NAMES, 0))
    return order[is_held_out[order]]


def test_parts_keep_their_order_labels_and_provenance():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    marks = np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 0], bool)
    said = {"class_names": ("even", "odd"), "provenance": "a test", "notes": ("small",)}
    found = split.divide("numbers", images, range(10), marks, **said)
    assert found.name == "numbers" and found.class_names == ("even", "odd")
    assert found.provenance == "a test" and found.notes == ("small",)
    for part, labels, expected in (
        (found.train, found.train_labels, [0, 2, 3, 5, 6, 8, 9]),
        (found.held_out, found.held_out_labels, [1, 4, 7]),
    ):
        assert part.ravel().tolist() == labels.tolist() == expected
        assert labels.dtype == np.int32 and part.flags.c_contiguous
    without = split.divide("numbers", images, None, marks)
    assert without.train_labels is None and without.held_out_labels is None


@pytest.mark.parametrize(("train", "held_out"), [(1, 9), (9, 1), (0, 10)])
def test_a_part_of_fewer_than_two_images_is_refused(train, held_out):
    marks = np.arange(10) >= train
    with pytest.raises(ValueError, match=f"few has {train} images to train on and {held_out} held"):
        split.divide("few", np.zeros((10, 1, 1, 1), np.uint8), None, marks)
    split.check_parts("enough", 2, 2)
