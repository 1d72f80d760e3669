"""The containers that `fit` and `evaluate` are given: told apart, and made what Keras takes."""

import collections.abc
import contextlib
import itertools

import keras
import numpy as np
import tensorflow as tf

from .arrays import dtype_of
from .checks import unpacked


def prepare(inputs, x, y=None, sample_weight=None):
    """What `fit` and `evaluate` of Keras take, in place of what was given.

    Args:
        inputs: the `Inputs` of the model.
        x, y, sample_weight: as given to `fit`.

    Returns:
        (x, y, sample_weight).

    Raises:
        ValueError: what was given is not images (and labels), in one line that names the cure.
    """
    if isinstance(x, (tf.data.Dataset, tf.distribute.DistributedDataset)):
        _check_spec(inputs, x.element_spec)
    elif isinstance(x, keras.utils.PyDataset):
        x = _of_py_dataset(inputs, x)
    elif _is_data_loader(x):
        x = _of_data_loader(inputs, x)
    elif isinstance(x, collections.abc.Iterator):
        x = _of_iterator(inputs, x)
    else:
        return arrays(inputs, x, y, sample_weight)
    return x, y, sample_weight


def comes_in_batches(x):
    """Whether data are batches, one after the other, and not whole arrays."""
    kinds = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)
    return isinstance(x, (*kinds, collections.abc.Iterator)) or _is_data_loader(x)


def refuse_batch_size(x, size, name="batch_size"):
    """Refuses a number of images a batch for data that come in batches, which would be ignored."""
    if size is not None and comes_in_batches(x):
        raise ValueError(
            f"{name}={size} means nothing for a {type(x).__name__}, whose batches are made already:"
            " leave it out, and make them of that size."
        )


def arrays(inputs, x, y=None, sample_weight=None):
    """Whole arrays, every value checked; labels that an unconditional model ignores are dropped."""
    if isinstance(x, (str, bytes)) or hasattr(x, "__fspath__"):
        raise ValueError(
            f"{str(x)[:80]!r} is a name, not images: read a folder by "
            "keras.utils.image_dataset_from_directory, and give DDPM(..., image_range=(0, 255))."
        )
    if isinstance(x, tuple) and len(x) in (2, 3):
        raise ValueError(
            f"x is a tuple of {len(x)} parts: give them one by one, as x, y and sample_weight."
        )
    y, sample_weight = (
        np.asarray(part) if isinstance(part, (list, tuple)) else part for part in (y, sample_weight)
    )
    inputs.check_arrays(x, y, sample_weight)
    return x, *inputs.labels_kept(x, y, sample_weight)


def class_weights(inputs, x, class_weight):
    """(x, class_weight): of a data set the weights become those of its images.

    Args:
        inputs: the `Inputs` of the model.
        x: as made by `prepare`.
        class_weight: dict class -> weight; classes left out count 1.

    Raises:
        ValueError: the model has no classes, or the dict is not one of its classes' weights.
    """
    if inputs.num_classes is None:
        raise ValueError(
            "class_weight needs a network with num_classes: give sample_weight, one an image."
        )
    table = _table(inputs.num_classes, class_weight)
    batch = x.element_spec if isinstance(x, tf.data.Dataset) else None
    batch = x[0] if isinstance(x, _Checked) else batch
    if batch is not None and unpacked(batch)[2] is not None:
        raise ValueError("The data set has a sample_weight already: leave out class_weight.")
    if not isinstance(x, tf.data.Dataset):
        return x, dict(enumerate(table.tolist()))

    def weighted(images, labels, *_):
        index = tf.clip_by_value(tf.cast(labels, tf.int64), 0, len(table) - 1)  # checked later
        return images, labels, tf.gather(tf.constant(table), tf.reshape(index, [-1]))

    return x.map(weighted), None


def _table(num_classes, class_weight):
    """The weights as float32 (num_classes,)."""
    table = np.ones(num_classes, np.float32)
    try:
        for label, weight in class_weight.items():
            if label != int(label) or not 0 <= label < num_classes:
                raise ValueError
            table[int(label)] = weight
        if not (np.isfinite(table).all() and (table >= 0).all()):
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"class_weight must be a dict of classes in 0..{num_classes - 1} and finite weights of "
            f"at least 0, such as {{0: 2.0}}, not {str(class_weight)[:80]}."
        ) from None
    return table


def _check_spec(inputs, spec):
    leaves = tf.nest.flatten(spec)
    if not any(type(leaf).__name__ == "PerReplicaSpec" for leaf in leaves):
        inputs.check_kinds(*unpacked(spec))  # of replicas it is known when a step is traced


def _of_py_dataset(inputs, dataset):
    if dataset.num_batches == 0:
        raise ValueError("The PyDataset has no batches: give it a __len__ of at least 1.")
    return _Checked(inputs, dataset, _first_dtype(inputs, dataset[0]))


class _Checked(keras.utils.PyDataset):
    """A PyDataset of checked batches, each a tuple, as Keras asks for."""

    def __init__(self, inputs, dataset, dtype):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self.inputs = inputs
        self.dataset = dataset
        self.dtype = dtype

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, index):
        return self.inputs.check_batch(self.dataset[index], self.dtype)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def _is_data_loader(x):
    return any(
        kind.__name__ == "DataLoader" and kind.__module__.startswith("torch.utils.data")
        for kind in type(x).__mro__
    )


def _of_data_loader(inputs, loader):
    first = next(iter(loader), None)
    dtype = _first_dtype(inputs, first)
    signature = tuple(
        tf.TensorSpec((None, *part.shape[1:]), part.dtype)
        for part in inputs.check_batch(first, dtype)
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: (inputs.check_batch(batch, dtype) for batch in loader), output_signature=signature
    )
    with contextlib.suppress(TypeError):  # a loader of an IterableDataset has no length
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _of_iterator(inputs, iterator):
    first = next(iterator, None)
    dtype = _first_dtype(inputs, first)
    return (inputs.check_batch(batch, dtype) for batch in itertools.chain([first], iterator))


def _first_dtype(inputs, batch):
    """The dtype of the images of a first batch, refused here where it can be."""
    if batch is None:
        raise ValueError("The data yield no batch: give at least one, such as (images,).")
    images, labels, weights = unpacked(batch)
    inputs.check_kinds(images, labels, weights)
    return dtype_of(images)
