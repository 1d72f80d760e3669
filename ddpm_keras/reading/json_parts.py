"""The parts of what JSON held, however deep they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in nested lists and dictionaries, the value itself included."""
    left = [value]
    while left:  # no call of itself, which a deep file would exhaust
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
            yield value
