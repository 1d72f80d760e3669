"""Features of a network with random weights, which has learnt from nothing."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .base import to_uint8
from .classifier import ClassifierFeatures


class RandomFeatures(ClassifierFeatures):
    """Last hidden layer of the network of `ClassifierFeatures` before it learns anything.

    A second opinion on a ranking: what these features and learnt ones agree on does not hang on
    what a classifier looks at. Features are scaled so that their variances over the training images
    add up to `dim`.

    Reference:
        - Naeem et al.: Reliable fidelity and diversity metrics for generative models (2020),
          section 4, on features of networks that were not trained.
    """

    @classmethod
    def train(
        cls,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        dataset: str = "images",
        seed: int = 0,
        dim: int = 64,
    ) -> RandomFeatures:
        """Makes the network; of the images, only their size and the scale of features are used.

        Args:
            images: uint8 `(N, H, W, C)`, the real training images, at least 2.
            labels: of no use here; taken so that extractors are made alike.
            dataset: name of the data, which becomes part of the extractor's name.
            seed: of the weights.
            dim: number of features.

        Returns:
            A `RandomFeatures`.

        Raises:
            ValueError: there are fewer than 2 images.
        """
        del labels
        images = to_uint8(images)
        cls.check_learnable(images)
        return cls._made(images, dataset, "random", dim, num_outputs=2, seed=seed)
