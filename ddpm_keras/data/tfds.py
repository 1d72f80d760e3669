"""TensorFlow Datasets, by name or by the folder of a prepared one."""

import contextlib
import difflib
import pathlib
import re
import socket
import urllib.parse
import urllib.request

import numpy as np

from ..reading import json_text
from .builtin import BUILT_IN
from .decode import fit, to_pil
from .image_data import ImageData
from .listing import stamp
from .split import check_parts, divide, stratified
from .tfds_checks import METADATA, bounded_decoder, check_images, check_metadata
from .words import few, reason, shown

OPTIONS = ("data_dir",)  # arguments of `data.load` that other sources do not take


def is_prepared(folder):
    """Whether a folder holds a prepared data set of TensorFlow Datasets."""
    return any((folder / name).exists() for name in METADATA)


def reads(request):
    """Whether this is the folder of a prepared data set, or what may be the name of one."""
    if request.path.is_dir():
        return is_prepared(request.path)
    return not request.path.exists() and not request.looks_like_a_path


def signature(request):
    """What changes when the data set is prepared again: the sizes and times of its files."""
    folder = pathlib.Path(_builder(request).data_dir)
    for path in sorted(folder.iterdir()):
        yield f"{path.name} {stamp(path)}"


def _builder(request):
    """The builder of what is asked for, whose data lie on this machine."""
    import tensorflow_datasets as tfds

    if request.path.is_dir():
        return _prepared(tfds, request.path)
    return _named(tfds, request)


def load(request):
    """A data set of TensorFlow Datasets, as `ImageData`."""
    import tensorflow_datasets as tfds

    directory = request.path if request.path.is_dir() else None
    name = shown(directory or request.name)
    builder = _builder(request)
    image_key, label_key = _keys(tfds, name, builder.info.features)
    train, held_out = _splits(name, builder.info.splits)
    if held_out:
        request.refuse_share(name, f"its split {held_out}")
    parts = [
        _read_split(tfds, request, builder, split, image_key, label_key)
        for split in (train, held_out)
        if split
    ]
    class_names = tuple(builder.info.features[label_key].names) if label_key else ()
    left_out = sorted(set(builder.info.splits) - {train, held_out})
    notes = (f"Left out the splits {few(left_out)}.",) if left_out else ()
    if label_key and min(labels.min(initial=0) for _, labels in parts) < 0:
        none = f"No classes: some images of {name} have the label -1, which stands for none."
        notes = (*notes, none)
        parts, class_names = [(images, None) for images, _ in parts], ()
    fields = {
        "class_names": class_names,
        "provenance": f"TensorFlow Datasets {builder.info.full_name}, split {train} to train on "
        f"and {held_out or f'{request.share:.0%} of it'} held out",
        "path": directory and str(directory),
        "notes": notes,
    }
    images, labels = parts[0]
    if not held_out:
        is_held_out = stratified(labels, len(images), request.share, request.seed)
        return divide(name, images, labels, is_held_out, **fields)
    check_parts(name, *(len(images) for images, _ in parts))
    return ImageData(name, images, parts[1][0], labels, parts[1][1], **fields)


def _splits(name, splits):
    """Names of the split to train on, and of the one that is held out or None."""
    if not splits:
        raise ValueError(f"The data set {name} has no splits: prepare it again.")
    train = "train" if "train" in splits else max(splits, key=lambda k: splits[k].num_examples)
    others = [split for split in ("test", "validation") if split in splits and split != train]
    return train, next(iter(others), None)


def _prepared(tfds, directory):
    """The builder of a directory."""
    check_metadata(directory)
    try:
        return tfds.builder_from_directory(directory)
    except Exception as error:  # whatever reading broken descriptions throws
        _refuse_damaged_metadata(directory)
        raise ValueError(
            f"{shown(directory)} cannot be read as a TensorFlow Datasets set ({reason(error)}): "
            "prepare it again."
        ) from None


def _refuse_damaged_metadata(directory, names=METADATA):
    """Refuses a directory in which a description of the data set is missing or damaged."""
    for path in (directory / name for name in names):
        try:
            if not isinstance(json_text.read(path), dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{shown(path)} is missing or damaged ({reason(error)}): prepare the data set "
                "again, or copy it anew."
            ) from None


def _named(tfds, request):
    """A builder whose data lie on this machine, downloaded if need be."""
    name = request.name
    base = name.split("/")[0].split(":")[0]
    folder = pathlib.Path(request.data_dir or tfds.core.constants.DATA_DIR).expanduser() / base
    check_metadata(folder)
    try:
        builder = tfds.builder(name, data_dir=request.data_dir)
    except Exception:  # unknown names, configurations and versions are refused in many ways
        for parent in {path.parent for file in METADATA for path in folder.rglob(file)}:
            _refuse_damaged_metadata(parent)
        known = [*BUILT_IN, *tfds.list_builders(with_community_datasets=False)]
        close = difflib.get_close_matches(base, known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"There is no data set {shown(repr(name))}.{hint} Built in: {', '.join(BUILT_IN)}; "
            "otherwise give a folder of images or a TensorFlow Datasets name such as cifar10."
        ) from None
    if pathlib.Path(builder.data_dir).is_dir():
        _refuse_damaged_metadata(pathlib.Path(builder.data_dir), METADATA[:1])
        return builder
    try:
        _check_reachable(builder.url_infos)
        builder.download_and_prepare()
    except Exception as error:  # whatever the network, the disk or the host throws
        raise ValueError(
            f"{name} is not in {builder.data_dir} and could not be downloaded ({reason(error)}): "
            f"run `tfds build {name}` on a machine with network, and copy the result there."
        ) from None
    return builder


def _check_reachable(urls):
    """Fails at once without a network, where the downloader would try again for minutes."""
    if urllib.request.getproxies():
        return  # a proxy resolves the names
    for host in sorted({urllib.parse.urlsplit(url).hostname for url in urls or ()} - {None})[:3]:
        socket.getaddrinfo(host, None)


def _keys(tfds, name, features):
    """Keys of the image and, if there is one, of the class label."""
    kinds = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    if not images:
        raise ValueError(
            f"The data set {name} holds no images (its features: {', '.join(kinds) or features}): "
            "choose one that does, such as cifar10."
        )
    pick = {"image": images, "label": labels}
    return tuple(key if key in keys else next(iter(keys), None) for key, keys in pick.items())


def _read_split(tfds, request, builder, split, image_key, label_key):
    """Images and labels of one split, in the order of its files."""
    name, kind = shown(request.name), builder.info.features[image_key]
    if np.dtype(kind.np_dtype) not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(f"{name} holds images of {kind.np_dtype}: choose a set of 8 or 16 bits.")
    if request.size is None and None in kind.shape[:2]:
        raise ValueError(f"The images of {name} differ in size: set image_size, such as 32.")
    size = request.size or kind.shape[:2]
    num_images = builder.info.splits[split].num_examples
    shape = (num_images, *size, request.channels or (1 if kind.shape[2] == 1 else 3))

    if not request.size:
        check_images(name, num_images, shape[1:], builder.info.splits[split].filepaths)
    decoders = {image_key: bounded_decoder(tfds)}

    def read(start):
        with _damage_in_one_line(builder, split):
            examples = builder.as_dataset(split=split, decoders=decoders).skip(start)
            examples = tfds.as_numpy(examples)
            number = start
            for number, example in enumerate(examples, start + 1):
                if number <= num_images:
                    yield _converted(example[image_key], shape[1:])
            _check_number(number, num_images)

    images, _ = request.fill(name, shape, read)
    return images, _labels(tfds, builder, split, image_key, label_key) if label_key else None


def _converted(image, shape):
    """An image of 8 or 16 bits as uint8 of the shape asked for."""
    if image.dtype == np.uint16:
        image = np.round(image / 257).astype(np.uint8)
    return image if image.shape == shape else fit(to_pil(image), shape[:2], shape[2])


def _labels(tfds, builder, split, image_key, label_key):
    """The labels of a split, int32 (N,), in the order in which its images come."""
    undecoded = {image_key: tfds.decode.SkipDecoding()}
    with _damage_in_one_line(builder, split):
        examples = builder.as_dataset(split=split, decoders=undecoded)
        batches = examples.map(lambda example: example[label_key]).batch(4096)
        labels = np.concatenate([batch.astype(np.int32) for batch in tfds.as_numpy(batches)])
        _check_number(len(labels), builder.info.splits[split].num_examples)
    return labels


def _check_number(found, promised):
    if found != promised:
        raise ValueError(f"{promised} images are promised, and {found} are there")


@contextlib.contextmanager
def _damage_in_one_line(builder, split):
    """Names the file that cannot be read, which TensorFlow's errors do not."""
    try:
        yield
    except Exception as error:  # whatever broken files make TensorFlow throw
        split = builder.info.splits[split]
        what = _damaged_file(split) or f"The split {split.name} in {builder.data_dir}"
        text = reason(re.sub(r"{{.*?}} ?|\[Op:.*", "", str(error)))  # TensorFlow's own additions
        raise ValueError(
            f"{shown(what)} is missing or damaged ({text}): prepare the data set again, or copy it "
            "anew."
        ) from None


def _damaged_file(split):
    """The first file of a split that does not hold the records it should, or None."""
    import tensorflow as tf

    for path, length in zip(split.filepaths, split.shard_lengths, strict=True):
        try:
            found = sum(1 for _ in tf.data.TFRecordDataset(str(path)))
        except tf.errors.OpError:
            return path
        if found != length:
            return path
    return None
