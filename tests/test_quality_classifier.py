"""The classifier trained on the data itself, and what every extractor promises."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from ddpm_keras import data
from ddpm_keras.quality import ClassifierFeatures, evaluate_images, frechet_distance
from ddpm_keras.quality.extractors.base import to_uint8


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def extractor(digits):
    return ClassifierFeatures.train(digits.train, digits.train_labels, dataset="digits")


@pytest.fixture(scope="module")
def real(digits, extractor):
    return extractor(digits.train)


def test_the_classifier_knows_the_digits(digits, extractor, real):
    assert extractor.accuracy(digits.held_out, digits.held_out_labels) > 0.95
    assert extractor.name == "digits classifier"
    assert extractor.metric == "Fréchet distance, digits classifier"
    assert real.shape == (1437, extractor.dim) and real.dtype == np.float32
    assert real.var(axis=0).sum() == pytest.approx(extractor.dim, rel=1e-3)
    assert real.std(axis=0).min() > 0.01  # no dead unit


@pytest.mark.parametrize("damage", ["missing classes", "blur", "noise"])
def test_damage_raises_the_distance_in_order_of_severity(digits, extractor, real, damage):
    images, labels = digits.held_out, digits.held_out_labels
    if damage == "missing classes":
        versions = [images[labels >= missing] for missing in (1, 2, 4)]
    elif damage == "blur":
        versions = [ndimage.gaussian_filter(images, (0, s, s, 0)) for s in (0.5, 0.7, 1.0)]
    else:
        noise = np.random.RandomState(0).randn(*images.shape)
        versions = [np.uint8(np.clip(images + s * noise, 0, 255)) for s in (25, 50, 100)]
    distances = [frechet_distance(real, extractor(version)) for version in [images, *versions]]
    assert all(b > 1.1 * a for a, b in zip(distances, distances[1:], strict=False)), distances


def test_training_is_a_function_of_its_arguments_and_disturbs_nothing(digits):
    few, labels = digits.train[:200], digits.train_labels[:200]

    def train(seed):
        return ClassifierFeatures.train(few, labels, dataset="digits", steps=5, seed=seed)

    first = train(0)
    np.random.seed(1)
    keras.utils.set_random_seed(7)
    expected = np.random.rand(), keras.random.uniform((2,)).numpy()
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy("mixed_bfloat16")
    second = train(0)
    drawn = np.random.rand(), keras.random.uniform((2,)).numpy()
    assert first.fingerprint == second.fingerprint != train(1).fingerprint
    np.testing.assert_array_equal(first(few), second(few))
    assert drawn[0] == expected[0]
    np.testing.assert_array_equal(drawn[1], expected[1])


def test_features_do_not_depend_on_batches_and_the_last_one_counts(digits, extractor, real):
    images = digits.train[:300]
    in_parts = np.concatenate([extractor(part) for part in np.split(images, [1, 8, 265])])
    np.testing.assert_allclose(in_parts, real[:300], rtol=1e-5, atol=1e-5)
    assert extractor(images[:0]).shape == (0, extractor.dim)


def test_an_extractor_survives_a_file(digits, extractor, real, tmp_path):
    path = tmp_path / "classifier.npz"
    extractor.save(path)
    loaded = ClassifierFeatures.load(path)
    assert loaded.fingerprint == extractor.fingerprint and loaded.name == extractor.name
    np.testing.assert_array_equal(loaded(digits.train[:50]), real[:50])
    assert [p.name for p in tmp_path.iterdir()] == ["classifier.npz"]
    with np.load(path) as file:
        arrays = dict(file)
    arrays["weight_0"] = arrays["weight_0"] + 1
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="checksum does not match"):
        ClassifierFeatures.load(path)
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="no saved ClassifierFeatures"):
        ClassifierFeatures.load(path)
    with pytest.raises(FileNotFoundError, match="missing.npz"):
        ClassifierFeatures.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("shape, outputs", [((9, 9, 3), 4), ((12, 6, 1), 2), ((70, 65, 3), 2)])
def test_rotation_is_learnt_without_labels_at_any_size(shape, outputs):
    """Bright at the top, dark at the bottom: how far an image was turned can be seen."""
    random = np.random.RandomState(0)
    ramp = np.linspace(220, 30, shape[0])[:, None, None]
    images = np.uint8(np.clip(ramp + 20 * random.randn(40, *shape), 0, 255))
    extractor = ClassifierFeatures.train(images, dataset="ramps", steps=25, batch_size=32)
    assert extractor.name == "ramps rotation network"
    assert extractor.config["num_outputs"] == outputs
    assert extractor.accuracy(images, np.zeros(40)) > 0.9
    assert extractor.accuracy(images[:, ::-1, ::-1], np.full(40, outputs // 2)) > 0.9
    assert extractor(images).shape == (40, 64)


def test_images_are_rounded_as_saved_pictures(digits, extractor):
    images = digits.train[:9]
    exact = images / np.float32(127.5) - 1
    np.testing.assert_array_equal(to_uint8(exact), images)
    np.testing.assert_array_equal(extractor(exact * 0.998), extractor(images))


def test_grey_images_become_rgb_where_the_network_wants_it(digits):
    grey = digits.train[:100]
    extractor = ClassifierFeatures.train(
        np.repeat(grey, 3, axis=-1), digits.train_labels[:100], steps=2
    )
    np.testing.assert_array_equal(extractor(grey), extractor(np.repeat(grey, 3, axis=-1)))


BAD_IMAGES = {
    "another size": (np.zeros((2, 9, 8, 1), np.uint8), r"of images \(8, 8, 1\)"),
    "colour": (np.zeros((2, 8, 8, 3), np.uint8), "expects images with 1 channels"),
    "one image": (np.zeros((8, 8, 1), np.uint8), "must be a batch"),
    "floats to 255": (np.full((2, 8, 8, 1), 255.0), r"must lie in -1..1; got 255..255"),
    "NaN": (np.full((2, 8, 8, 1), np.nan), "NaN"),
    "int64": (np.zeros((2, 8, 8, 1), np.int64), "uint8 in 0..255"),
}


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_other_images_are_refused_with_the_reason(extractor, case):
    images, message = BAD_IMAGES[case]
    with pytest.raises(ValueError, match=message):
        extractor(images)


def test_accuracy_is_of_one_label_an_image_whatever_they_come_as(digits, extractor):
    images, labels = digits.held_out[:50], digits.held_out_labels[:50]
    accuracy = extractor.accuracy(images, labels)
    assert accuracy == extractor.accuracy(images / np.float32(127.5) - 1, labels) > 0.9
    for wrong in (labels[:, None], None, labels[:1]):
        with pytest.raises(ValueError, match=r"need labels \(50,\)"):
            extractor.accuracy(images, wrong)


def test_what_cannot_be_learnt_from_is_refused(digits):
    images = digits.train[:5]
    with pytest.raises(ValueError, match="learn rotations instead"):
        ClassifierFeatures.train(images, np.zeros(5))
    with pytest.raises(ValueError, match=r"need labels \(5,\)"):
        ClassifierFeatures.train(images, np.arange(4))
    with pytest.raises(ValueError, match="at least 2 images"):
        ClassifierFeatures.train(images[:1], np.zeros(1))


def test_evaluation_of_images_names_the_extractor(digits, extractor, real):
    held_out = extractor(digits.held_out)
    seen = []
    result = evaluate_images(
        extractor,
        digits.held_out[:300],
        real,
        held_out,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result["frechet"] == frechet_distance(real, held_out[:300])
    assert result["extractor"] == "digits classifier"
    assert result["metric"] == "Fréchet distance, digits classifier"
    assert result["num_images"] == 300
    assert seen == [(256, 300), (300, 300)]
