"""Comparisons with other implementations, skipped with the reason where a peer is missing."""

import warnings

import pytest


@pytest.fixture(scope="session")
def torch():
    """PyTorch, with the two operators that torchvision's Python files look for at import defined.

    A torchvision built against another torch fails to import without them; nothing here calls them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="needs the extra 'conformance'")
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:  # a matching torchvision has defined them already
            pass
    yield torch
    del library
