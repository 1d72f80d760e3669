"""Features of many images: flat in memory, resumed after an interruption, cached under a key."""

import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

from ddpm_keras.quality import (
    FeatureExtractor,
    FeatureStatistics,
    evaluate_features,
    extract_features,
    reference_path,
)


class Means(FeatureExtractor):
    """Mean of each row of an image; counts the images it sees."""

    name, dim, channels, batch_size = "row means", 4, 1, 32

    def __init__(self, fingerprint="a"):
        self.fingerprint = fingerprint
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return super().__call__(images)

    def _features(self, batch):
        return batch.mean(axis=(2, 3), dtype=np.float32)


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (700, 4, 4, 1)).astype(np.uint8)


def test_array_and_function_give_the_same_features(images):
    expected = images.mean(axis=(2, 3))
    np.testing.assert_allclose(extract_features(Means(), images), expected, rtol=1e-6)
    asked = []

    def source(start, stop):
        asked.append(stop - start)
        return images[start:stop]

    from_function = extract_features(Means(), source, num_images=600)
    np.testing.assert_allclose(from_function, expected[:600], rtol=1e-6)
    assert sum(asked) == 600 and max(asked) <= 256


def test_memory_stays_flat_on_ten_thousand_images(tmp_path):
    """In float64 the features are 160 MB, and all distances of one set to another 800 MB."""

    class Wide(Means):
        dim = 2048

        def _features(self, batch):
            return np.float32(batch.reshape(len(batch), -1)[:, :2048])

    def source(start, stop):
        random = np.random.RandomState(start)
        return random.randint(0, 256, (stop - start, 32, 64, 1)).astype(np.uint8)

    tracemalloc.start()
    features = extract_features(
        Wide(), source, 10000, path=tmp_path / "features.npy", identity={"seed": 0}
    )
    statistics = FeatureStatistics.of(features)
    result = evaluate_features(features[:, :32], features[::-1, :32], num_subsets=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert statistics.num_images == result["num_images"] == 10000
    assert peak < 200 * 2**20


def test_an_interrupted_extraction_continues(images, tmp_path):
    path = tmp_path / "features.npy"
    expected = extract_features(Means(), images)
    extractor = Means()

    def interrupted(done, total):
        if done >= 512:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(extractor, images, path=path, progress=interrupted)
    assert extractor.seen == 512 and not path.exists()
    seen = []
    features = extract_features(
        extractor, images, path=path, progress=lambda done, total: seen.append(done)
    )
    assert extractor.seen == 700 and seen == [700]
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(extract_features(extractor, images, path=path), expected)
    assert extractor.seen == 700
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.npy", "features.npy.json"]


def test_a_file_of_features_is_of_these_very_images(images, tmp_path):
    path, extractor = tmp_path / "features.npy", Means()
    for each in (images, images[::-1], list(images), images[:5]):
        np.testing.assert_array_equal(extract_features(extractor, each, path=path), Means()(each))
    seen = extractor.seen
    extract_features(extractor, images.copy()[:5], path=path)
    extract_features(extractor, images, 5, path=path)
    assert extractor.seen == seen
    with pytest.raises(ValueError, match="needs identity.*identity={"):
        extract_features(extractor, lambda start, stop: images[start:stop], 5, path=path)


def test_of_several_that_want_a_file_one_makes_it(images, tmp_path):
    path, begun = tmp_path / "features.npy", threading.Event()
    extractors = [Means() for _ in range(3)]

    def extracted(extractor):
        def progress(done, total):
            begun.set()
            time.sleep(0.05)

        if extractor is not extractors[0]:
            assert begun.wait(10)
        return extract_features(extractor, images, path=path, progress=progress)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(extracted, extractors))
    for features in found:
        np.testing.assert_array_equal(features, extract_features(Means(), images))
    assert [extractor.seen for extractor in extractors] == [700, 0, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.npy", "features.npy.json"]


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), NotImplementedError()])
def test_a_file_that_cannot_be_locked_is_read_all_the_same(images, tmp_path, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    path, extractor = tmp_path / "features.npy", Means()
    expected = extract_features(Means(), images, path=path)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    np.testing.assert_array_equal(extract_features(extractor, images, path=path), expected)
    assert extractor.seen == 0


@pytest.mark.parametrize(
    "change", ["extractor", "identity", "number", "cut", "altered", "record", "list"]
)
def test_a_stale_file_is_never_used(images, tmp_path, change):
    path = tmp_path / "features.npy"
    extract_features(Means(), images, path=path, identity={"split": "train"})
    extractor, number, split = Means(), 700, "train"
    if change == "extractor":
        extractor = Means("b")
    elif change == "identity":
        split = "held-out"
    elif change == "number":
        number = 300
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "altered":
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\x41")
    else:
        text = {"record": "{", "list": "[]"}[change]
        path.with_name("features.npy.json").write_text(text)
    identity = {"split": split}
    others = change in ("extractor", "identity", "number")
    with nullcontext() if others else pytest.warns(UserWarning, match="features.npy is damaged"):
        features = extract_features(extractor, images, number, path=path, identity=identity)
    assert extractor.seen == number
    np.testing.assert_array_equal(features, extract_features(Means(), images[:number]))


def test_half_made_features_that_were_damaged_are_begun_anew(images, tmp_path):
    path = tmp_path / "features.npy"

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(Means(), images, path=path, progress=interrupted)
    partial = path.with_name("features.npy.partial")
    data = bytearray(partial.read_bytes())
    data[200] ^= 1
    partial.write_bytes(data)
    extractor = Means()
    with pytest.warns(UserWarning, match="features.npy.partial is damaged"):
        features = extract_features(extractor, images, path=path)
    assert extractor.seen == 700
    np.testing.assert_array_equal(features, extract_features(Means(), images))


def test_features_that_a_full_disk_ends_are_gone_on_with(images, tmp_path):
    resource = pytest.importorskip("resource", reason="files cannot be limited here")
    path, expected = tmp_path / "features.npy", extract_features(Means(), images)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (expected.nbytes // 2, most[1]))
    try:
        with pytest.raises(OSError, match="features.npy.partial"):
            extract_features(Means(), images, path=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    extractor = Means()
    np.testing.assert_array_equal(extract_features(extractor, images, path=path), expected)
    assert extractor.seen == 700 - 256


@pytest.mark.parametrize("shape", [(1, 4), (700, 5)])
def test_features_of_another_shape_than_was_said_are_refused(images, shape):
    class Other(Means):
        def __call__(self, batch):
            return np.zeros(shape, np.float32)

    with pytest.raises(ValueError, match="The extractor gave .* for .* images, and its dim is"):
        extract_features(Other(), images)


def test_half_made_features_of_something_else_are_never_continued(images, tmp_path):
    path = tmp_path / "features.npy"

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(Means("b"), images, path=path, progress=interrupted)
    extractor = Means("a")
    extract_features(extractor, images, path=path)
    assert extractor.seen == 700
    assert json.loads(path.with_name("features.npy.json").read_text())["key"]["extractor"] == "a"


def test_reference_path_differs_with_whatever_differs(tmp_path):
    folder = tmp_path / "cache"
    identity = {"dataset": "digits", "split": "train", "pixels": "1f"}
    paths = {
        reference_path(folder, Means(), **identity),
        reference_path(folder, Means("b"), **identity),
        *(reference_path(folder, Means(), **{**identity, key: "other"}) for key in identity),
    }
    assert len(paths) == 5 and all(path.parent == folder for path in paths)
    assert reference_path(folder, Means(), **identity) in paths


def test_sources_and_features_that_cannot_be_right_are_refused(images):
    with pytest.raises(ValueError, match="no images"):
        extract_features(Means(), images[:0])
    with pytest.raises(ValueError, match="512..767 were asked for; 188 came"):
        extract_features(Means(), images, num_images=800)

    class Broken(Means):
        def _features(self, batch):
            return np.full((len(batch), 4), np.nan)

    with pytest.raises(ValueError, match="NaN"):
        extract_features(Broken(), images)
