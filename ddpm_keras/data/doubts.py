"""What is odd about images and their classes, whatever the source: said, since it may be meant."""

import numpy as np

from .words import few

_LOOKED_AT = 1000  # images whose brightness is looked at
_WHITES = (1, 15, 16)  # of other scales: bits, four bits, and the digits of scikit-learn
_MOST_COMPARED = 2**28  # bytes of images that are compared with each other, for a start at once


def notes(images):
    """A list of lines.

    Args:
        images: an `ImageData`.
    """
    found = []
    if images.untrained_classes:
        found.append(f"Without an image to train on: {few(images.untrained_classes)}.")
    return [*found, *_of_numbers(images), *_of_brightness(images), *_of_seen(images)]


def _of_numbers(images):
    """Labels count classes from 0, whatever numbers these are called by."""
    called = images.class_names
    apart = [f"label {i} is class {name}" for i, name in enumerate(called) if name != str(i)]
    if apart and all(map(str.isdecimal, called)):
        yield f"Labels count the classes from 0: {few(apart)}."


def _of_brightness(images):
    """Images of 0 and 1, as are left where floats are cast, or of 0 to 16, are all but black."""
    first = np.asarray(images.train[:_LOOKED_AT])
    white = max(1, int(first.max()))
    if white in _WHITES:
        yield (
            f"No pixel of the first {len(first):,} images is above {white} of 255: if white is "
            f"{white}, multiply them by {255 // white}."
        )


def _of_seen(images):
    """What is measured on held-out images that are trained on says nothing of new ones."""
    if images.train.nbytes + images.held_out.nbytes > _MOST_COMPARED:
        return
    trained_on = {hash(image.tobytes()) for image in np.asarray(images.train)}
    seen = sum(hash(image.tobytes()) in trained_on for image in np.asarray(images.held_out))
    if seen:
        yield (
            f"{seen:,} of the {len(images.held_out):,} held-out images are among those to train "
            "on, too: what is measured on them is not of new images."
        )
