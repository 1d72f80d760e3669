"""Values of a configuration that somebody else wrote, each of its kind and within its bounds."""

import contextlib
import math
import numbers
import reprlib

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def shown(value):
    """`value` as a message shows it: in one line, and a short one."""
    return _REPR.repr(value).replace("\n", " ")


def same(value, accepted):
    """Whether a plain value is one of `accepted`; True is not 1 here, and False not 0."""
    if value is not None and not isinstance(value, (bool, str, numbers.Real)):
        return False
    return any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in accepted
    )


def whole(name, value, least, most):
    """`value` as an int, or a ValueError that gives the bounds."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise ValueError(
            f"{name} is {shown(value)}; it must be a whole number from {least} to {most}."
        )
    return int(value)


def real(name, value, above, below):
    """`value` as a float strictly between the bounds, or a ValueError that gives them."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not above < value < below or not math.isfinite(value):
        raise ValueError(f"{name} is {shown(value)}; it must lie between {above} and {below}.")
    return float(value)


def entries(name, value, most):
    """`value` as a tuple of 1 to `most` entries, or a ValueError."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= most:
        raise ValueError(f"{name} is {shown(value)}; it must be a list of 1 to {most} entries.")
    return tuple(value)


@contextlib.contextmanager
def within(source):
    """Puts `source`, such as the file that is read, before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
