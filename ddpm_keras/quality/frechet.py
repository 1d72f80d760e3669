"""Fréchet distance between two sets of features, seen as two Gaussians."""

import numpy as np
from numpy.typing import ArrayLike

from ..scalars import whole
from .matrices import blocks, check_no_constant_column, check_pair, check_same_width
from .metric import Metric, Number
from .statistics import FeatureStatistics


def frechet_distance(
    real: ArrayLike | FeatureStatistics, generated: ArrayLike | FeatureStatistics
) -> float:
    """Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two sets.

    `|mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))`, in float64, with covariances divided by
    N - 1. Its bias is positive and falls as 1/N, so a value means little without N; see
    `frechet_distance_infinity`. Symmetric in its arguments.

    Args:
        real: features `(N, D)` of real images, N >= 2, or their `FeatureStatistics`.
        generated: features `(M, D)` of generated images, or their `FeatureStatistics`.

    Returns:
        A float >= 0, in squared units of the features.

    Raises:
        ValueError: on fewer than 2 rows, NaN, different D, or a constant column in a matrix.

    Reference:
        - Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash
          equilibrium (2017), equation 6.
    """
    if not isinstance(real, FeatureStatistics) and not isinstance(generated, FeatureStatistics):
        real, generated = check_pair(real, generated)
        check_no_constant_column(real, "real")
        check_no_constant_column(generated, "generated")
    return distance(real, generated)


def distance(real, generated):
    """As `frechet_distance`, but constant columns, which do no harm to it, are accepted."""
    matrices = [x for x in (real, generated) if not isinstance(x, FeatureStatistics)]
    if len(matrices) == 2:
        real, generated = check_pair(real, generated)
        if max(len(real), len(generated)) < real.shape[1]:
            return _from_rows(real, generated)
    real, generated = (
        x if isinstance(x, FeatureStatistics) else FeatureStatistics.of(x)
        for x in (real, generated)
    )
    check_same_width(real.dim, generated.dim)
    return GaussianReference(real).distance(generated)


def _measure(sets):
    held_out = None if sets.held_out is None else distance(sets.held_out, sets.generated)
    return distance(sets.real, sets.generated), held_out


METRIC = Metric(
    _measure,
    {
        "frechet": Number("Fréchet distance", "to real images", at_least=0),
        "frechet_held_out": Number("distance to held-out images", "to held-out images", at_least=0),
    },
    "|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)",
    "Distance between the features of generated and of real images, by their means and "
    "covariances. It depends on the feature network and the number of images: compare it only with "
    "numbers of the same kind.",
    takes_statistics=True,
)


class GaussianReference:
    """One side of the distance, with its covariance split into A A^T once."""

    def __init__(self, statistics):
        self.mean = statistics.mean
        covariance = statistics.covariance
        self.trace = np.trace(covariance)
        try:
            self.root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:  # fewer images than features
            eigenvalues, vectors = np.linalg.eigh(covariance)
            self.root = vectors * np.sqrt(np.maximum(eigenvalues, 0))

    def distance(self, statistics):
        """Distance to other statistics, a float >= 0."""
        covariance = statistics.covariance
        # S_r S_g = A A^T S_g has the eigenvalues of the symmetric A^T S_g A, real and >= 0.
        eigenvalues = np.linalg.eigvalsh(self.root.T @ covariance @ self.root)
        trace_of_root = np.sqrt(np.maximum(eigenvalues, 0)).sum()
        return _combine(
            self.mean - statistics.mean, self.trace, np.trace(covariance), trace_of_root
        )

    def influence(self, features):
        """How much each row moves the distance: its derivative by the row's share, centred, (N,).

        With C = A^T S_g A the derivative of tr C^(1/2) is tr(C^(-1/2) A^T dS_g A) / 2.
        """
        statistics = FeatureStatistics.of(features)
        eigenvalues, vectors = np.linalg.eigh(self.root.T @ statistics.covariance @ self.root)
        kept = eigenvalues > 1e-12 * eigenvalues[-1]  # the rest is rounding
        transport = self.root @ vectors[:, kept] / eigenvalues[kept] ** 0.25
        parts = []
        for rows in blocks(features):
            rows = rows - statistics.mean
            value = (rows * rows).sum(axis=1) - ((rows @ transport) ** 2).sum(axis=1)
            value *= len(features) / (len(features) - 1)
            parts.append(value + 2 * rows @ (statistics.mean - self.mean))
        influence = np.concatenate(parts)
        return influence - influence.mean()


def _from_rows(real, generated):
    """The distance from rows (N, D) and (M, D) where N, M < D: no D x D matrix is built.

    tr (S_r S_g)^(1/2) is the sum of the singular values of X Y^T / sqrt((N-1)(M-1)), X and Y being
    the centred rows, since the eigenvalues of X^T X Y^T Y are those of (X Y^T)(X Y^T)^T.
    """
    x, y = (np.asarray(rows, np.float64) for rows in (real, generated))
    mean_difference = x.mean(axis=0) - y.mean(axis=0)
    x = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    trace_of_root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return _combine(mean_difference, np.vdot(x, x), np.vdot(y, y), trace_of_root)


def _combine(mean_difference, trace_real, trace_generated, trace_of_root):
    squared = mean_difference @ mean_difference
    # Rounding may leave a tiny negative number for two equal sets.
    return float(max(squared + trace_real + trace_generated - 2 * trace_of_root, 0.0))


def frechet_distance_infinity(
    real: ArrayLike, generated: ArrayLike, num_sizes: int = 15, num_groups: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Fréchet distance extrapolated to infinitely many images, with its standard error.

    Both sets are thinned together to `num_sizes` fractions f between 1/4 and 1; the distance is
    linear in 1/(f N) to first order, and the intercept of the straight line is the estimate. It
    may be negative. The standard error is a jackknife that leaves out `num_groups` parts of both
    sets in turn, so all takes the time of `num_sizes * (num_groups + 1)` distances.

    Args:
        real: features `(N, D)`.
        generated: features `(M, D)`.
        num_sizes: number of fractions, at least 3.
        num_groups: number of groups left out in turn, at least 2.
        seed: of the subsets; the result is a function of it.

    Returns:
        `(estimate, standard_error)`, floats.

    Raises:
        ValueError: as `frechet_distance`, or if a set is too small to be thinned.

    Reference:
        - Chong, Forsyth: Effectively unbiased FID and Inception Score and where to find them
          (2020), section 4: 15 sizes and a linear fit. There only the generated set is thinned,
          which leaves the bias of a finite reference.
    """
    real, generated = check_pair(real, generated)
    num_sizes, num_groups = whole(num_sizes, "num_sizes", 3), whole(num_groups, "num_groups", 2)
    seed = whole(seed, "seed", 0)
    smallest = min(len(real), len(generated))
    if smallest < 8 * num_groups:
        raise ValueError(f"{smallest} rows are too few; at least {8 * num_groups} are needed.")
    random = np.random.RandomState(seed)
    x, y = real[random.permutation(len(real))], generated[random.permutation(len(generated))]
    estimate = _extrapolate(x, y, num_sizes, seed)
    left_out = []
    for group in range(num_groups):
        part = [np.delete(z, np.s_[group::num_groups], axis=0) for z in (x, y)]
        left_out.append(_extrapolate(*part, num_sizes, seed))
    # Delete-a-group jackknife: both sets lose a group at once, so their variances add up.
    variance = (num_groups - 1) * np.var(left_out)
    return estimate, float(np.sqrt(variance))


def frechet_floor(
    real: ArrayLike, held_out: ArrayLike, num_images: int, num_sizes: int = 15, seed: int = 0
) -> float:
    """The distance that real images would be at, were there `num_images` of them.

    What a perfect model gets: held-out images stand for its images, and since they are fewer or
    more than it draws, their distance is extrapolated. It is linear in 1/N + 1/M to first order;
    both sets are thinned as in `frechet_distance_infinity`, and the straight line is read where M
    is `num_images` and N is that of all real images.

    Args:
        real: features `(N, D)` of the real images that are the reference.
        held_out: features `(M, D)` of other real images.
        num_images: images that are drawn with the model that this is the floor of.
        num_sizes: number of fractions, at least 3.
        seed: of the subsets; the result is a function of it.

    Returns:
        A float >= 0.

    Raises:
        ValueError: as `frechet_distance`, or if a set is too small to be thinned.
    """
    real, held_out = check_pair(real, held_out, 16, ("real", "held_out"))
    num_images, num_sizes = whole(num_images, "num_images", 2), whole(num_sizes, "num_sizes", 3)
    fractions, distances = _thinned(real, held_out, num_sizes, whole(seed, "seed", 0))
    per_fraction = 1 / len(real) + 1 / len(held_out)
    slope, intercept = np.polyfit(per_fraction / fractions, distances, 1)
    return float(max(intercept + slope * (1 / len(real) + 1 / num_images), 0.0))


def _extrapolate(real, generated, num_sizes, seed):
    """Intercept of a straight line through the distances at several sizes."""
    fractions, distances = _thinned(real, generated, num_sizes, seed)
    _, intercept = np.polyfit(1 / fractions, distances, 1)
    return float(intercept)


def _thinned(real, generated, num_sizes, seed):
    """`(fractions, distances)` of both sets thinned to fractions between 1/4 and 1."""
    random = np.random.RandomState(seed)
    fractions = np.linspace(0.25, 1, num_sizes)
    distances = []
    for fraction in fractions:
        sizes = [max(2, round(fraction * len(z))) for z in (real, generated)]
        x, y = (
            z[random.permutation(len(z))[:size]]
            for z, size in zip((real, generated), sizes, strict=True)
        )
        distances.append(distance(x, y))
    return fractions, np.array(distances)
