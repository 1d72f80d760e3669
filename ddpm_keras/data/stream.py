"""An endless stream of batches that are a pure function of the seed and the step."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..scalars import count, flag, whole
from .rows import is_mapped


def training_stream(
    images: Any,
    labels: Any = None,
    batch_size: int = 128,
    seed: int = 0,
    start_step: int = 0,
    steps: int | None = None,
    flip: bool = False,
    shares: Sequence[tuple[int, int]] | None = None,
) -> Any:
    """An endless stream of batches in which the batch of step s depends on (seed, s) alone.

    Image number `i = s * batch_size + j` of the stream belongs to epoch `i // N`; its place in the
    epoch is mapped to an image by a random permutation keyed on `(seed, epoch)`. So each image
    comes exactly once an epoch, batches go on across the end of an epoch, no shuffle buffer has to
    be saved, and a stream started at `start_step` continues exactly where another was left.

    Args:
        images: array `(N, H, W, C)`, any dtype; kept in memory once, or, of a memory map, read
            batch by batch.
        labels: int array `(N,)`, or None.
        batch_size: images in a batch.
        seed: int; another seed is another order and other flips.
        start_step: step of the first batch.
        steps: number of batches; None for an endless stream.
        flip: mirror each image left-right with probability 1/2, keyed on `(seed, i)`.
        shares: None for whole batches; or, for a process that has a part in each batch, the places
            `(start, stop)` of it that its replicas take, one after the other without a gap. No
            other images are read.

    Returns:
        A `tf.data.Dataset` of `x` with shape `(batch_size, H, W, C)`, or of `(x, y)` when labels
        are given, y int32 of shape `(batch_size,)`. With shares, each batch is as many elements.

    Raises:
        ValueError: if there are no images, labels and images differ in number, or shares are no
            places in a batch.
    """
    import tensorflow as tf

    batch_size, flip = count(batch_size, "batch_size"), flag(flip, "flip")
    seed, start_step = whole(seed, "seed"), whole(start_step, "start_step", 0)
    steps = None if steps is None else whole(steps, "steps", 0)
    num_images = len(images)
    if num_images == 0:
        raise ValueError("A stream needs at least one image; got none.")
    if labels is not None and np.asarray(labels).dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers, not {np.asarray(labels).dtype}: give the number of each "
            "image's class."
        )
    if labels is not None and len(labels) != num_images:
        raise ValueError(f"{num_images} images but {len(labels)} labels: give one label an image.")
    if shares is not None:
        _check_shares(shares, batch_size)
    take = reader(images)
    with tf.device("CPU:0"):
        labels = None if labels is None else tf.convert_to_tensor(labels, tf.int32)
    first_epoch, position = divmod(start_step * batch_size, num_images)

    def epoch_order(epoch):
        # A sort of random keys. (tf.random.experimental.index_shuffle would need no memory, but the
        # 4 rounds of its cipher in TensorFlow 2.21 leave orders that are plainly not random.)
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
        order_key, coin_key = tf.unstack(tf.random.split(key, 2))
        shuffle = tf.random.experimental.stateless_shuffle  # pyright: ignore
        order = shuffle(tf.range(num_images), order_key)
        coins = tf.random.stateless_uniform([num_images], coin_key, 0, 2, tf.int32)
        first = tf.where(epoch == first_epoch, position, 0)
        return tf.data.Dataset.from_tensor_slices((order[first:], coins[first:]))

    def batch(index, coin):
        x = take(index)
        if flip:
            both = tf.concat([x, tf.reverse(x, axis=[2])], axis=0)
            size = tf.shape(index)[0]
            x = tf.gather(both, tf.range(size) + coin * size)
        return x if labels is None else (x, tf.gather(labels, index))

    stream = tf.data.Dataset.counter(first_epoch).flat_map(epoch_order)
    stream = stream.batch(batch_size, drop_remainder=True)
    length = tf.data.INFINITE_CARDINALITY if steps is None else steps
    stream = stream.take(length).apply(tf.data.experimental.assert_cardinality(length))
    if shares is not None:
        stream = _shared(stream, shares)
    return stream.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


def _check_shares(shares, batch_size):
    """Refuses shares that are empty, leave gaps or reach beyond a batch."""
    places = [0, *(place for share in shares for place in share), batch_size]
    gaps = [stop != start for (_, stop), (start, _) in itertools.pairwise(shares)]
    if len(places) < 4 or places != sorted(places) or any(gaps):
        raise ValueError(
            f"shares must be places (start, stop) in a batch of {batch_size}, one after the other "
            f"without a gap; got {shares!r}."
        )


def _shared(stream, shares):
    """The elements that the replicas of a process take of each batch, in turn."""
    first, last = shares[0][0], shares[-1][1]
    sizes = [stop - start for start, stop in shares]
    own = stream.map(lambda index, coin: (index[first:last], coin[first:last]))
    return own.rebatch(sizes[0] if len(set(sizes)) == 1 else sizes, drop_remainder=True)


def reader(images: Any) -> Any:
    """A function from the numbers of images, (batch,), to these images, for a graph.

    Args:
        images: an array `(N, ...)`, which is kept in memory as a tensor; a memory map is not, its
            images are read when they are asked for.
    """
    import tensorflow as tf

    if not is_mapped(images):
        # Eager tensors are captured by reference: nothing is copied into the graph, of any size.
        with tf.device("CPU:0"):
            tensor = tf.convert_to_tensor(images)
        return lambda index: tf.gather(tensor, index)

    def read(index):
        taken = tf.numpy_function(lambda rows: images[rows], [index], images.dtype, stateful=False)
        return tf.ensure_shape(taken, (*index.shape, *images.shape[1:]))

    return read
