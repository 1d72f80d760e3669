"""Does a model copy its training images? The nearest one of each sample, and how near it is."""

import numpy as np
from numpy.typing import ArrayLike

from .matrices import Remembered, block_of, blocks, check_features, check_pair
from .metric import Metric, Number
from .neighbours import distances


def nearest(rows: ArrayLike, others: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The nearest row of another matrix to each row.

    Args:
        rows: features (N, D); or images of one size (N, ...), whose pixels are compared.
        others: features (M, D) or images (M, ...) of the same size.

    Returns:
        `(distance, index)`: Euclidean distances float64 (N,), and rows of `others`, int64 (N,).

    Raises:
        ValueError: on NaN, no rows, another number of columns, or images of another size or range.
    """
    _check_alike(rows, others)
    rows, others = check_pair(_flat(rows), _flat(others), 1, ("rows", "others"))
    least = np.full(len(rows), np.inf)
    index = np.zeros(len(rows), np.int64)
    for i, j, squared in distances(rows, others):
        place = squared.argmin(axis=1)
        found = squared[np.arange(len(place)), place]
        nearer = found < least[i]
        least[i] = np.where(nearer, found, least[i])
        index[i] = np.where(nearer, place + j.start, index[i])
    apart = [
        np.linalg.norm(block - others[index[start : start + len(block)]], axis=1)  # 0 for a copy
        for start, block in zip(range(0, len(rows), block_of(rows)), blocks(rows), strict=True)
    ]
    return np.concatenate(apart), index


def copying(generated: ArrayLike, held_out: ArrayLike) -> tuple[float, float]:
    """How often a sample is nearer to the training images than a held-out image is.

    0.5 where samples are as far from the training images as images are that the model has never
    seen; towards 1 where it copies. Below 0.5 samples stray from the data. It is the statistic of
    Mann and Whitney: the probability for a random pair, ties counted half. Samples that are
    smoother than real images are nearer to all of them, so look at the pictures, too.

    Args:
        generated: distance of each sample to its nearest training image, (N,), N >= 2.
        held_out: distance of each held-out image to its nearest training image, (M,), M >= 2.

    Returns:
        `(share, standard_error)`, floats; the error is that of DeLong et al. (1988).

    Raises:
        ValueError: on NaN, or fewer than 2 distances.

    Reference:
        - Meehan, Chaudhuri, Dasgupta: A non-parametric test to detect data-copying in generative
          models (2020), section 3.
    """
    generated, held_out = (
        check_features(np.reshape(each, (-1, 1)), name)[:, 0]
        for each, name in ((generated, "generated"), (held_out, "held_out"))
    )
    nearer = _share_above(generated, held_out)  # for each sample, of held-out images
    farther = _share_above(held_out, generated)  # for each held-out image, of samples
    variances = (each.var(ddof=1) / len(each) for each in (nearer, farther))
    return float(nearer.mean()), float(np.sqrt(sum(variances)))


def _share_above(values, others):
    """For each value the share of others above it, equal ones counted half, (N,)."""
    others = np.sort(others)
    at_most = np.searchsorted(others, values, "right") + np.searchsorted(others, values, "left")
    return 1.0 - at_most / 2.0 / len(others)


def _check_alike(rows, others):
    """Refuses images whose pixels do not lie at the same places, or not in the same range."""
    both = [np.asanyarray(each) for each in (rows, others)]
    kinds = {(x.shape[1:], x.dtype == np.uint8) for x in both if x.ndim > 2}
    if len(kinds) > 1:
        told = " and ".join(f"{x.dtype} of shape {x.shape}" for x in both)
        raise ValueError(f"rows and others are {told}: give images of one size and one range.")


def _flat(rows):
    """Images as rows of pixels; a matrix as it is."""
    rows = np.asanyarray(rows)
    return rows.reshape(len(rows), -1) if rows.ndim > 2 else rows


_of_held_out = Remembered(lambda held_out, real: nearest(held_out, real)[0])


def _measure(sets):
    """`copying` of feature sets; None where there are none of held-out images beside."""
    held_out = sets.held_out
    if not isinstance(held_out, np.ndarray) or held_out is sets.real or len(held_out) < 2:
        return [None, None]
    return copying(nearest(sets.generated, sets.real)[0], _of_held_out(held_out, sets.real))


def _measure_pixels(sets):
    """The same of distances of pixels, where they are given."""
    return [None, None] if sets.pixels is None else copying(*sets.pixels)


PIXELS = Metric(
    _measure_pixels,
    {
        "copying_pixels": Number(
            "copying by pixels", lower_is_better=None, digits=3, at_least=0, at_most=1
        ),
        "copying_pixels_error": Number(
            "copying by pixels: error", lower_is_better=None, at_least=0
        ),
    },
    "P(d(sample) < d(held-out image)), d the distance of pixels to the nearest training image",
    "The same by pixels: an image that is copied but for its smoothness shows here, too.",
)
METRIC = Metric(
    _measure,
    {
        "copying": Number("copying", digits=3, spread="copying_error", at_least=0, at_most=1),
        "copying_error": Number("copying: error", lower_is_better=None, at_least=0),
    },
    "P(d(sample) < d(held-out image)), d the distance of features to the nearest training image",
    "How often a generated image is nearer to the training images than an image that was held out: "
    "0.5 where the model generalises, towards 1 where it copies, and with its standard error.",
)
