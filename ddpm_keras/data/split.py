"""Which images are held out: a fixed share of every class, or by a hash of the names."""

import hashlib
import math

import numpy as np

from .image_data import ImageData


def stratified(labels, num_images, held_out, seed):
    """Marks a fixed share of every class; shares are rounded so that the total is exact."""
    is_held_out = np.zeros(num_images, bool)
    groups = np.zeros(num_images, int) if labels is None else np.asarray(labels)
    total = math.ceil(held_out * num_images)
    random = np.random.RandomState(seed)  # its stream is frozen across NumPy versions
    classes, counts = np.unique(groups, return_counts=True)
    share = counts * total / num_images
    quota = np.floor(share).astype(int)
    largest_remainders = np.argsort(quota - share, kind="stable")[: total - quota.sum()]
    quota[largest_remainders] += 1
    for value, number in zip(classes, quota, strict=True):
        members = np.flatnonzero(groups == value)
        is_held_out[random.permutation(members)[:number]] = True
    return is_held_out


def hashed(names, held_out, seed):
    """Marks names by their own hash alone: adding a file moves no other file across the split."""
    # The bytes of a name that is no UTF-8 are those it has on disk.
    keys = [f"{seed}:{name}".encode("utf-8", "surrogateescape") for name in names]
    digests = [hashlib.sha256(key).digest()[:8] for key in keys]
    place = np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
    # A small folder could leave a part empty by chance: both get at least two files.
    ranked = np.sort(place)
    return place < np.clip(held_out, np.nextafter(ranked[1], 1), ranked[-2])


def divide(name, images, labels, is_held_out, **fields):
    """The `ImageData` of images in one array, each part in the original order."""
    check_parts(name, int((~is_held_out).sum()), int(is_held_out.sum()))
    labels = None if labels is None else np.asarray(labels, np.int32)
    return ImageData(
        name=name,
        train=images[~is_held_out],
        held_out=images[is_held_out],
        train_labels=None if labels is None else labels[~is_held_out],
        held_out_labels=None if labels is None else labels[is_held_out],
        **fields,
    )


def check_parts(name, num_train, num_held_out):
    if min(num_train, num_held_out) < 2:
        raise ValueError(
            f"{name} has {num_train} images to train on and {num_held_out} held out, where "
            "each part needs at least 2: add images, or change held_out."
        )
