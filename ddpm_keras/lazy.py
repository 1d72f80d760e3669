"""Names of a package that are imported when they are first used (PEP 562)."""

import importlib


def attributes(package, homes):
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        homes: dict name -> the module that defines it, relative to the package (".unet").

    Returns:
        A function name -> object; `AttributeError` for a name that is not in `homes`.
    """

    def __getattr__(name):
        if name in homes:
            return getattr(importlib.import_module(homes[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
