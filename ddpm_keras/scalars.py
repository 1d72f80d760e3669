"""Numbers and flags given as arguments: each refused by its name where it is not of its kind."""

import math

import numpy as np


def number(value, name):
    """A float, refused by the name of its argument if it is no finite number."""
    try:
        result = math.nan if isinstance(value, (bool, np.bool_, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite number; got {value!r}.")
    return result


def positive(value, name):
    """A float above 0, refused by the name of its argument."""
    result = number(value, name)
    if result <= 0:
        raise ValueError(f"{name} must be positive; got {value!r}.")
    return result


def whole(value, name, least=-math.inf):
    """An int of at least `least`, refused by the name of its argument if it is no whole number."""
    try:
        result = number(value, name)
    except ValueError:
        result = math.nan
    if result % 1 != 0 or result < least:
        bound = "" if least == -math.inf else f", at least {least}"
        raise ValueError(f"{name} must be a whole number{bound}; got {value!r}.")
    return int(value)


def count(value, name):
    """A whole number of at least 1."""
    return whole(value, name, 1)


def flag(value, name):
    """A bool, refused by the name of its argument if it is anything else, such as "no"."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is True or False; got {value!r}.")
    return bool(value)
