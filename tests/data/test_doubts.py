"""What is odd about images is said, and what is not is not."""

import numpy as np
import pytest
from images_on_disk import tree

from ddpm_keras import data

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
OTHERS = 255 - IMAGES


def load(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return data.load(path / "set.npz")


NOTES = {
    "nothing": (dict(images=IMAGES), ()),
    "black": (dict(images=IMAGES * 0), ("multiply",)),
    "0 and 1": (dict(images=IMAGES // 128), ("No pixel of the first 16 images is above 1",)),
    "0 to 15": (dict(images=IMAGES // 16), ("if white is 15, multiply them by 17",)),
    "dark": (dict(images=IMAGES // 12), ()),
    "seen": (dict(x_train=IMAGES, x_test=IMAGES), ("20 of the 20 held-out images are among",)),
    "two seen": (
        dict(x_train=IMAGES, x_test=np.concatenate([OTHERS, IMAGES[3:5]])),
        ("2 of the 22 held-out images are among",),
    ),
    "unseen": (dict(x_train=IMAGES, x_test=OTHERS), ()),
    "from 0": (dict(images=IMAGES, labels=np.arange(20) % 3), ()),
    "names": (dict(images=IMAGES, labels=np.array(["a", "b"] * 10)), ()),
    "from 1": (
        dict(images=IMAGES, labels=np.arange(20) % 2 + 1),
        ("Labels count the classes from 0: label 0 is class 1, label 1 is class 2.",),
    ),
    "a gap": (dict(images=IMAGES, labels=np.arange(20) % 2 * 5), ("label 1 is class 5",)),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_is_odd_is_said(case, tmp_path):
    arrays, words = NOTES[case]
    notes = load(tmp_path, **arrays).notes
    if case in ("black", "0 and 1", "0 to 15"):  # so few pixels that some are the same
        notes = notes[:1]
    assert len(notes) == len(words) and all(w in n for w, n in zip(words, notes, strict=True)), (
        notes
    )


@pytest.mark.parametrize("of", ["folders", "texts"])
def test_classes_that_are_numbers_come_in_their_order(of, tmp_path):
    names = [str(number) for number in range(11)]
    if of == "folders":
        found = data.load(tree(tmp_path, *(f"{n}/{i}.png" for n in names for i in range(3))))
    else:
        labels = np.array(names * 3)
        images = np.tile(np.arange(33, dtype="u1")[:, None, None], (1, 4, 4))
        found = load(tmp_path, images=images, labels=labels)
        pixels = [image[0, 0, 0] % 11 for image in found.train]
        assert pixels == found.train_labels.tolist()
    assert found.class_names == tuple(names) and not [n for n in found.notes if "Labels" in n]
