"""Kernel distance (KID): an unbiased distance between two sets of features."""

import numpy as np
from numpy.typing import ArrayLike

from ..scalars import count, whole
from .matrices import check_pair
from .metric import Metric, Number


def kernel_distance(
    real: ArrayLike,
    generated: ArrayLike,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the cubic kernel `(x.y / D + 1)^3`.

    Unbiased, so it may be negative, and its mean does not depend on the number of images. Subsets
    are drawn without replacement from `RandomState(seed)`, for each subset first from `generated`
    and then from `real`, as torch-fidelity draws them.

    Args:
        real: features `(N, D)` of real images, N >= 2.
        generated: features `(M, D)` of generated images.
        num_subsets: number of subsets.
        subset_size: images in a subset of either set; at most min(N, M) are used. Where that is a
            whole set, every subset holds it again, and the standard deviation says little.
        seed: of the subsets.

    Returns:
        `(mean, std)` over the subsets, floats.

    Raises:
        ValueError: on fewer than 2 rows, NaN or different D.

    Reference:
        - Bińkowski et al.: Demystifying MMD GANs (2018), section 4.
    """
    real, generated = check_pair(real, generated)
    num_subsets, subset_size = (
        count(num_subsets, "num_subsets"),
        whole(subset_size, "subset_size", 2),
    )
    seed = whole(seed, "seed", 0)
    size = min(subset_size, len(real), len(generated))
    random = np.random.RandomState(seed)
    distances = np.empty(num_subsets)
    for i in range(num_subsets):
        x = _pick(generated, random, size)
        y = _pick(real, random, size)
        distances[i] = _squared_mmd(x, y)
    return float(distances.mean()), float(distances.std())


def _pick(features, random, size):
    return np.asarray(features[random.choice(len(features), size, replace=False)], np.float64)


def _squared_mmd(x, y):
    """Unbiased estimate from two sets of equal size: no pair of a row with itself is counted."""
    m = len(x)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y))) / (m * (m - 1))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x, y):
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def _measure(sets):
    """Over subsets of half the smaller set at most, so that they differ."""
    size = min(1000, min(len(sets.real), len(sets.generated)) // 2)
    return kernel_distance(sets.real, sets.generated, sets.num_subsets, size, sets.seed)


METRIC = Metric(
    _measure,
    {
        "kid": Number("KID", scale=1000, spread="kid_std"),
        "kid_std": Number("KID spread", lower_is_better=None, at_least=0),
    },
    "unbiased MMD² with the kernel (x·y / d + 1)³",
    "Another distance between features, without bias by the number of images; it may be negative. "
    "Its spread is the standard deviation over subsets.",
    min_images=4,
)
