"""TensorFlow Datasets on disk against the images they were made of."""

import os
import shutil
import sys
import warnings

import numpy as np
import pytest
from refusals import assert_refused
from sklearn.datasets import load_digits

from ddpm_keras import data
from ddpm_keras.data import preparation


@pytest.fixture(scope="module")
def tfds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its dependencies deprecate on import
        return pytest.importorskip("tensorflow_datasets")


CONFIGS = ("split", "whole", "unlabelled", "parts")


@pytest.fixture(scope="module")
def scans(tfds, tmp_path_factory):
    """A data set on disk: 60 digits as PNG records, some configurations with a test split."""
    source = load_digits()

    class ScanConfig(tfds.core.BuilderConfig):
        pass

    class TinyScans(tfds.core.GeneratorBasedBuilder):
        """Sixty scanned digits."""

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [ScanConfig(name=name) for name in CONFIGS]

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _manager):
            if self.builder_config.name == "whole":
                return {"train": self._generate_examples(0, 60)}
            splits = {
                "train": self._generate_examples(0, 40),
                "test": self._generate_examples(40, 60),
            }
            if self.builder_config.name == "parts":
                others = {name: self._generate_examples(0, 9) for name in ("validation", "extra")}
                return splits | others
            return splits

        def _generate_examples(self, first, last):
            for i in range(first, last):
                image = np.round(source.images[i] * 255 / 16).astype(np.uint8)[..., None]
                is_labelled = self.builder_config.name != "unlabelled" or i < 40
                yield i, {"image": image, "label": int(source.target[i]) if is_labelled else -1}

    folder = tmp_path_factory.mktemp("tfds")
    for config in CONFIGS:
        TinyScans(config=config, data_dir=folder).download_and_prepare()
    return folder


def test_tfds_test_split_is_held_out(scans):
    loaded = data.load("tiny_scans/split", data_dir=scans)
    assert loaded.train.shape == (40, 8, 8, 1) and loaded.held_out.shape == (20, 8, 8, 1)
    source = load_digits()
    expected = np.round(source.data * 255 / 16)
    for images, labels, rows in (
        (loaded.train, loaded.train_labels, slice(0, 40)),
        (loaded.held_out, loaded.held_out_labels, slice(40, 60)),
    ):
        order = np.lexsort(images.reshape(-1, 64).T)
        by_source = np.lexsort(expected[rows].T)
        np.testing.assert_array_equal(images.reshape(-1, 64)[order], expected[rows][by_source])
        np.testing.assert_array_equal(labels[order], source.target[rows][by_source])
    assert loaded.class_names == tuple("0123456789")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_prepared_tfds_set_is_that_in_memory(scans, config, tmp_path, monkeypatch):
    given = {"name": f"tiny_scans/{config}", "data_dir": scans}
    expected = data.load(**given)
    data.load(**given, cache=tmp_path)
    monkeypatch.setattr(preparation, "_prepare", None)  # there is nothing to do any more
    found = data.load(**given, cache=tmp_path)
    assert isinstance(found.train, np.memmap) and found.fingerprint == expected.fingerprint
    for name in ("train", "held_out", "train_labels", "held_out_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.class_names, found.notes) == (expected.class_names, expected.notes)


def test_tfds_splits_that_are_not_used_are_said(scans):
    assert data.load("tiny_scans/split", data_dir=scans).notes == ()
    loaded = data.load("tiny_scans/parts", data_dir=scans)
    assert loaded.notes == ("Left out the splits extra, validation.",)


def test_tfds_without_a_test_split_holds_out_a_fixed_part(scans):
    loaded = data.load("tiny_scans/whole", data_dir=scans, held_out=0.25)
    assert len(loaded.train) == 45 and len(loaded.held_out) == 15
    again = data.load("tiny_scans/whole", data_dir=scans, held_out=0.25)
    assert again.fingerprint == loaded.fingerprint


def test_tfds_builder_directory_and_conversion(scans):
    directory = scans / "tiny_scans" / "split" / "1.0.0"
    loaded = data.load(directory, image_size=16, channels=3)
    assert loaded.train.shape == (40, 16, 16, 3)
    np.testing.assert_array_equal(loaded.train_labels, data.load(directory).train_labels)


def test_tfds_unknown_name_suggests_the_closest(tfds):
    with pytest.raises(
        ValueError, match=r"no data set 'cifar1'.*cifar10.*digits, mnist5k"
    ) as error:
        data.load("cifar1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10/none", "mnist:0.0.1"])
def test_tfds_unknown_configuration_or_version(tfds, name):
    with pytest.raises(ValueError, match=f"no data set '{name}'.*Did you mean") as error:
        data.load(name)
    assert "\n" not in str(error.value)


def test_tfds_without_network_says_at_once_where_the_data_belong(tfds, monkeypatch, tmp_path):
    def no_network(host, *_args):
        raise OSError(f"{host} cannot be\nresolved")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(
        ValueError, match=r"toronto\.edu cannot be resolved.*`tfds build cifar10`"
    ) as error:
        data.load("cifar10", data_dir=tmp_path)
    assert str(tmp_path / "cifar10") in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_tfds_failed_download_is_one_line(tfds, monkeypatch, tmp_path):
    def fail(*_args, **_kwargs):
        raise ConnectionError("connection\nreset")

    monkeypatch.setattr("socket.getaddrinfo", lambda *_args: [])
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ValueError, match="connection reset") as error:
        data.load("mnist", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def cut(path):
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bits(path):
    """Changes a byte of the first record."""
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def lose_records(path):
    """Leaves the first record alone: a whole file, of fewer images than are promised."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes(content[: 8 + 4 + length + 4])


SHARD = "tiny_scans-test.tfrecord-00000-of-00001"


def test_tfds_labels_that_stand_for_none_are_no_classes(scans):
    loaded = data.load("tiny_scans/unlabelled", data_dir=scans)
    assert loaded.num_classes is None and loaded.train_labels is None
    assert len(loaded.train) == 40 and "label -1" in loaded.notes[0]


DAMAGED = {
    "cut description": ("dataset_info.json", cut),
    "empty description": ("dataset_info.json", empty),
    "no description": ("dataset_info.json", remove),
    "cut features": ("features.json", cut),
    "no features": ("features.json", remove),
    "cut shard": (SHARD, cut),
    "flipped bits": (SHARD, flip_bits),
    "no shard": (SHARD, remove),
    "empty shard": (SHARD, empty),
    "lost records": (SHARD, lose_records),
}


@pytest.fixture
def copied(scans, tmp_path):
    """The directory of a copy, in `tmp_path`, that a test may damage."""
    directory = tmp_path / "tiny_scans" / "split" / "1.0.0"
    return shutil.copytree(scans / "tiny_scans" / "split" / "1.0.0", directory)


@pytest.mark.parametrize("case", DAMAGED)
def test_tfds_damaged_files_of_a_directory_are_named(copied, case):
    name, damage = DAMAGED[case]
    damage(copied / name)
    assert_refused(lambda: data.load(copied), [name, "missing or damaged", "prepare the data set"])


# The class of a set that is asked for by name knows its features.
@pytest.mark.parametrize("case", [case for case in DAMAGED if "features" not in case])
def test_tfds_damaged_files_of_a_named_set_are_named(copied, tmp_path, case):
    name, damage = DAMAGED[case]
    damage(copied / name)
    assert_refused(
        lambda: data.load("tiny_scans/split", data_dir=tmp_path), [name, "missing or damaged"]
    )


def test_tfds_share_is_refused_where_a_split_is_held_out(scans):
    assert_refused(
        lambda: data.load("tiny_scans/split", data_dir=scans, held_out=0.2),
        ["held_out=0.2", "split test"],
    )


def test_tfds_sets_without_images_are_refused(tfds, tmp_path):
    class Words(tfds.core.GeneratorBasedBuilder):
        """Three words."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _manager):
            return {"train": ((i, {"text": word}) for i, word in enumerate("abc"))}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Words(data_dir=tmp_path)
    builder.download_and_prepare()
    with pytest.raises(ValueError, match=r"holds no images \(its features: text\)"):
        data.load(builder.data_path)


def test_tfds_is_not_imported_for_other_sources(tmp_path):
    import subprocess

    program = (
        "import sys; from ddpm_keras import data; data.load('digits');"
        "sys.exit('tensorflow_datasets' in sys.modules or 'tensorflow' in sys.modules)"
    )
    environment = {"DDPM_KERAS_LAZY": "1", "PATH": "", "PYTHONPATH": os.environ["PYTHONPATH"]}
    result = subprocess.run([sys.executable, "-c", program], env=environment, timeout=120)
    assert result.returncode == 0
