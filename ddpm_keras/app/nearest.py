"""How near samples are to training images: by their pixels, and in pictures for a reader."""

import numpy as np

from .. import images as pictures
from .. import quality

LOOKED_AT, SHOWN = 1000, 10  # of the first so many samples, so many are shown


class WithPixels:
    """An extractor whose last column is the distance of the pixels to the nearest training image.

    Args:
        extractor: a `quality.FeatureExtractor`.
        images: a `data.ImageData`.
    """

    def __init__(self, extractor, images):
        self.extractor, self.train = extractor, images.train
        self.dim = extractor.dim + 1
        self.fingerprint = f"{extractor.fingerprint}, pixels of {images.fingerprint}"

    def __call__(self, images):
        distance, _ = quality.nearest(images, self.train)
        return np.column_stack([self.extractor(images), distance]).astype(np.float32)


def write(path, features, real, draw, images):
    """Writes a picture of three rows: samples, and the training images nearest to each of them.

    Above are the samples that are nearest to a training image by their features; in the middle
    those training images, below the training images that are nearest by their pixels.

    Args:
        path: of the picture, a .png.
        features: of samples, (N, dim).
        real: of the training images, (M, dim).
        draw: function of indices, ints (K,), that draws those samples, uint8 (K, height, width,
            channels).
        images: the training images, uint8 (M, height, width, channels).
    """
    distance, by_features = quality.nearest(features[:LOOKED_AT], real)
    chosen = np.argsort(distance, kind="stable")[:SHOWN]
    samples = draw(chosen)
    _, by_pixels = quality.nearest(samples, images)
    rows = [samples, images[by_features[chosen]], images[by_pixels]]
    pictures.save(pictures.grid(np.concatenate(rows), columns=len(chosen), size=600), path)
