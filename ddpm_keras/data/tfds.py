"""TensorFlow Datasets, by name or by the folder of a prepared one."""

import difflib
import os
import pathlib
import socket
import urllib.parse
import urllib.request

import numpy as np

from .builtin import BUILT_IN
from .decode import check_memory, fit, to_pil
from .image_data import ImageData
from .split import check_parts, divide, stratified


def load(name, size, channels, held_out, data_dir, seed):
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name, data_dir)
    image_key, label_key = _keys(tfds, name, builder.info.features)
    splits = builder.info.splits
    if not splits:
        raise ValueError(f"The data set {name} has no splits: prepare it again.")
    train = "train" if "train" in splits else max(splits, key=lambda k: splits[k].num_examples)
    others = [split for split in ("test", "validation") if split in splits and split != train]
    parts = [
        _split(tfds, name, builder, split, image_key, label_key, size, channels)
        for split in [train, *others[:1]]
    ]
    class_names = tuple(builder.info.features[label_key].names) if label_key else ()
    provenance = (
        f"TensorFlow Datasets {builder.info.full_name}, split {train} to train on and "
        f"{others[0] if others else f'{held_out:.0%} of it'} held out"
    )
    images, labels = parts[0]
    if not others:
        is_held_out = stratified(labels, len(images), held_out, seed)
        return divide(name, images, labels, is_held_out, class_names, provenance)
    check_parts(name, *(len(part) for part, _ in parts))
    return ImageData(name, images, parts[1][0], labels, parts[1][1], class_names, provenance)


def _builder(tfds, name, data_dir):
    """A builder whose data lie on this machine, downloaded if need be."""
    try:
        if os.path.isdir(name):
            return tfds.builder_from_directory(name)
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception:  # unknown names, configurations and versions are refused in many ways
        known = [*BUILT_IN, *tfds.list_builders(with_community_datasets=False)]
        close = difflib.get_close_matches(name.split("/")[0].split(":")[0], known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"There is no data set {name!r}.{hint} Built in: {', '.join(BUILT_IN)}; otherwise give "
            "a folder of images or a TensorFlow Datasets name such as cifar10."
        ) from None
    if pathlib.Path(builder.data_dir).is_dir():
        return builder
    try:
        _check_reachable(builder.url_infos)
        builder.download_and_prepare()
    except Exception as error:  # whatever the network, the disk or the host throws
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{name} is not in {builder.data_dir} and could not be downloaded ({reason}): run "
            f"`tfds build {name}` on a machine with network, and copy the result there."
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


def _split(tfds, name, builder, split, image_key, label_key, size, channels):
    """Images and labels of one split, in the order of its files."""
    kind = builder.info.features[image_key]
    if np.dtype(kind.np_dtype) not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(f"{name} holds images of {kind.np_dtype}: choose a set of 8 or 16 bits.")
    if size is None and None in kind.shape[:2]:
        raise ValueError(f"The images of {name} differ in size: set image_size, such as 32.")
    shape = (*(size or kind.shape[:2]), channels or (1 if kind.shape[2] == 1 else 3))
    num_images = builder.info.splits[split].num_examples
    check_memory(name, num_images, shape[:2], shape[2])
    images = np.empty((num_images, *shape), np.uint8)
    labels = np.empty(num_images, np.int32)
    for i, example in enumerate(tfds.as_numpy(builder.as_dataset(split=split))):
        image = example[image_key]
        if image.dtype == np.uint16:
            image = np.round(image / 257).astype(np.uint8)
        images[i] = image if image.shape == shape else fit(to_pil(image), shape[:2], shape[2])
        labels[i] = example[label_key] if label_key else 0
    return images, labels if label_key else None
