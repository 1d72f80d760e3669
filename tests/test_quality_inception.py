"""The two Inception networks, and folders of images of any size."""

import urllib.error

import keras
import numpy as np
import pytest
from inception_weights import random_state
from PIL import Image
from refusals import assert_refused
from safetensors.numpy import save_file

from ddpm_keras.quality import (
    FIDInceptionFeatures,
    ImageFolder,
    InceptionFeatures,
    extract_features,
)
from ddpm_keras.quality.extractors import fid_inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.npz"
    np.savez(path, **random_state())
    return path


@pytest.fixture(scope="module")
def extractor(weights):
    return FIDInceptionFeatures(weights)


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (3, 20, 30, 3)).astype(np.uint8)


def test_the_network_has_the_convolutions_of_inception_v3(extractor):
    """Its 94 convolutions have the shapes of Keras' InceptionV3, in which only pooling differs."""
    layers = [x for x in extractor._network.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(layers) == 94
    keras_network = keras.applications.InceptionV3(include_top=False, weights=None)
    theirs = [x for x in keras_network.layers if isinstance(x, keras.layers.Conv2D)]
    shapes = sorted(tuple(layer.kernel.shape) for layer in layers)
    assert shapes == sorted(tuple(layer.kernel.shape) for layer in theirs)


def test_only_the_published_weights_are_called_fid(extractor, monkeypatch):
    assert extractor.name == f"Inception of 2015-12-05, weights {extractor.checksum[:8]}"
    assert extractor.metric == f"Fréchet distance, {extractor.name}"
    assert extractor.checksum in extractor.fingerprint
    monkeypatch.setattr(fid_inception, "PUBLISHED", extractor.checksum)
    assert (extractor.name, extractor.metric) == ("Inception 2015-12-05", "FID")


def test_file_kinds_give_the_same_features(extractor, images, tmp_path):
    save_file(random_state(), tmp_path / "inception.safetensors")
    other = FIDInceptionFeatures(tmp_path / "inception.safetensors")
    np.testing.assert_array_equal(other(images), extractor(images))
    assert other.fingerprint != extractor.fingerprint


def test_features_do_not_depend_on_the_batch(extractor, images):
    together = extractor(images)
    assert together.shape == (3, 2048) and together.dtype == np.float32
    for image, features in zip(images, together, strict=True):
        np.testing.assert_allclose(extractor(image[None])[0], features, rtol=1e-5, atol=1e-6)


def test_greyscale_is_repeated_and_floats_are_rounded(extractor, images):
    grey = images[..., :1]
    np.testing.assert_array_equal(extractor(grey), extractor(np.repeat(grey, 3, axis=-1)))
    floats = (images / 127.5 - 1).astype(np.float32) * np.float32(0.999)
    np.testing.assert_array_equal(extractor(floats), extractor(images))


def test_other_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="supply pt_inception-2015-12-05-6726825d.pth.*Classifier"):
        FIDInceptionFeatures(tmp_path / "missing.pth")
    for suffix, kind in ((".npz", "npz"), (".safetensors", "safetensors"), (".pth", "PyTorch")):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"x" * 100)
        with pytest.raises(ValueError, match=kind) as error:
            FIDInceptionFeatures(path)
        assert str(path) in str(error.value)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="Conv2d_1a_3x3.conv.weight should have .* found nothing"):
        FIDInceptionFeatures(tmp_path / "other.npz")
    state = {**random_state(), "Mixed_7c.branch_pool.bn.bias": np.zeros(5)}
    np.savez(tmp_path / "other.npz", **state)
    with pytest.raises(ValueError, match=r"\(192,\), found shape \(5,\)"):
        FIDInceptionFeatures(tmp_path / "other.npz")


@pytest.fixture(scope="module")
def keras_weights(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("weights") / "imagenet.weights.h5"
    keras.applications.InceptionV3(include_top=False, weights=None).save_weights(path)
    return path


def test_keras_inception_from_a_file(keras_weights, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    extractor = InceptionFeatures(size=75, weights=keras_weights)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert extractor.name.startswith("Keras InceptionV3 at 75 pixels, weights ")
    assert extractor.metric == f"Fréchet distance, {extractor.name}"
    features = extractor(images)
    assert features.shape == (3, 2048) and features.dtype == np.float32
    resized = keras.ops.image.resize(images.astype(np.float32), (75, 75), antialias=True)
    expected = np.asarray(extractor._network(resized / 127.5 - 1))
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5 * expected.max())
    before = extractor.fingerprint
    extractor.size = 76
    assert extractor.fingerprint != before


def test_keras_inception_offline_names_the_file_and_the_way_out(monkeypatch, tmp_path):
    """The download fails as it does without a network, and leaves nothing half there."""

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", no_network)
    assert_refused(
        InceptionFeatures,
        [
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "ClassifierFeatures, which works offline",
        ],
    )
    assert not list(tmp_path.rglob("*.h5"))


def test_a_damaged_download_is_never_used(monkeypatch, tmp_path):
    """It is refused by its checksum, and fetched again the next time."""
    fetched = []

    def half_a_file(url, path, *args, **kwargs):
        fetched.append(path)
        with open(path, "wb") as file:
            file.write(b"half")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", half_a_file)
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be fetched .*corrupted"):
            InceptionFeatures()
    assert len(fetched) == 2


def test_keras_inception_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="at least 75"):
        InceptionFeatures(size=32)
    with pytest.raises(ValueError, match="is not there"):
        InceptionFeatures(weights=tmp_path / "missing.h5")
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(ValueError, match="does not hold the weights") as error:
        InceptionFeatures(size=75, weights=path)
    assert "\n" not in str(error.value)


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(1)
    for name, shape in {"b": (8, 8), "a": (9, 12), "sub/c": (8, 8), "sub/d": (9, 12)}.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.randint(0, 256, (*shape, 3)).astype(np.uint8)).save(path)
    return tmp_path


class TopLeft(FIDInceptionFeatures):
    """The first pixel, to see which image is which."""

    dim, fingerprint = 3, "top left"

    def __init__(self):
        pass

    def _features(self, batch):
        return batch[:, 0, 0].astype(np.float32)


def test_a_folder_of_images_of_several_sizes(folder):
    images = ImageFolder(folder)
    assert len(images) == 4
    pictures = [np.asarray(Image.open(path)) for path in images.paths]
    assert [path.stem for path in images.paths] == ["a", "b", "c", "d"]
    for read, picture in zip(images[0:4], pictures, strict=True):
        np.testing.assert_array_equal(read, picture)
    features = extract_features(TopLeft(), images)
    np.testing.assert_array_equal(features, [picture[0, 0] for picture in pictures])


def test_the_identity_of_a_folder_changes_with_its_files(folder):
    before = ImageFolder(folder).identity
    assert before == ImageFolder(folder).identity
    Image.new("RGB", (5, 5)).save(folder / "a.png")
    assert ImageFolder(folder).identity != before


def test_a_folder_whose_names_are_no_utf8_has_an_identity_and_names_its_files(folder):
    try:
        (folder / "a.png").rename(folder / "\udcff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    images = ImageFolder(folder)
    assert len(images) == 4 and images.identity
    (folder / "\udcff.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"\\udcff.png cannot be read"):
        images[0:4]


def test_a_folder_without_images_or_with_a_broken_one_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(ValueError, match="no folder with images"):
            ImageFolder(path)
    (folder / "b.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match=r"b.png cannot be read as an image"):
        ImageFolder(folder)[0:4]
