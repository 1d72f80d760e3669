"""Which samples an average changes most: those of one noise, by the raw weights and by it."""

import numpy as np
from PIL import Image

from .. import images


def most_changed(first, second, shape, count=8):
    """The samples of two pictures that differ most, and where.

    Args:
        first, second: paths of two grids of samples from the same noise, as `images.grid` makes.
        shape: (height, width) of a sample.
        count: samples shown, at most.

    Returns:
        `(places, rows)`: the numbers of the samples in the grid, from 1, the most changed first,
        and three `PIL.Image`s of them: of the first grid, of the second, and the difference (white
        where nothing changed). None where the pictures are no such grids.
    """
    pair = [images.tiles(Image.open(path), shape) for path in (first, second)]
    if any(each is None for each in pair) or pair[0].shape != pair[1].shape:
        return None
    before, after = (each.astype(np.int16) for each in pair)
    apart = np.abs(after - before)
    order = np.argsort(-np.square(apart).mean(axis=(1, 2, 3)), kind="stable")[:count]
    rows = (before[order], after[order], 255 - apart[order])
    return [int(i) + 1 for i in order], [
        images.grid(row.astype(np.uint8), columns=len(order), size=800) for row in rows
    ]
