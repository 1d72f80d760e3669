"""From features to numbers: every metric at once."""

from .extractors import get_extractor
from .features import extract_features
from .frechet import distance
from .kernel import kernel_distance
from .matrices import check_features
from .neighbours import precision_recall
from .statistics import FeatureStatistics


def evaluate_images(extractor, images, real, held_out=None, num_images=None, progress=None, seed=0):
    """Every metric of generated images, as `evaluate_features`, with the name of the extractor.

    Args:
        extractor: a `FeatureExtractor`, or a name or file as for `get_extractor`.
        images: as in `extract_features`, as are `num_images` and `progress`.
        real: features `(N, dim)` of the training images, or `FeatureStatistics`.
        held_out: features of held-out images, or None.
        seed: of the kernel distance's subsets.

    Returns:
        A dict as of `evaluate_features`, with `"extractor"` and `"metric"` (their names) besides.

    Example:

    ```python
    real, held_out = extractor(digits.train), extractor(digits.held_out)
    quality.evaluate_images(extractor, model.sample(1000), real, held_out)["frechet"]
    ```
    """
    extractor = get_extractor(extractor)
    features = extract_features(extractor, images, num_images, progress=progress)
    result = evaluate_features(real, features, held_out, seed=seed)
    return {**result, "extractor": extractor.name, "metric": extractor.metric}


def evaluate_features(real, generated, held_out=None, num_subsets=100, seed=0):
    """Fréchet distance, kernel distance, precision and recall of generated features.

    Args:
        real: features `(N, D)` of real images; or their `FeatureStatistics`, with which only the
            Fréchet distance can be had.
        generated: features `(M, D)`, M >= 2.
        held_out: features (or statistics) of real images that were not trained on, or None.
        num_subsets: subsets of the kernel distance, each of 1,000 images of either set or, for
            small sets, of half the smaller one, so that subsets differ.
        seed: of the subsets.

    Returns:
        A dict of plain numbers: `"frechet"` (Fréchet distance to `real`), `"frechet_held_out"`,
        `"kid"`, `"kid_std"`, `"precision"`, `"recall"`, `"num_images"` (M). None stands for what
        cannot be computed.

    Raises:
        ValueError: on NaN, on another number of features, on fewer than 2 images.
    """
    generated = check_features(generated, "generated")
    result = {
        "frechet": distance(real, generated),
        "frechet_held_out": None if held_out is None else distance(held_out, generated),
        "kid": None,
        "kid_std": None,
        "precision": None,
        "recall": None,
        "num_images": len(generated),
    }
    if isinstance(real, FeatureStatistics):
        return result
    smallest = min(len(real), len(generated))
    if smallest >= 4:
        subset_size = min(1000, smallest // 2)
        result["kid"], result["kid_std"] = kernel_distance(
            real, generated, num_subsets, subset_size, seed
        )
        result["precision"], result["recall"] = precision_recall(real, generated)
    return result
