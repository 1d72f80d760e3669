"""What arguments of decays and samplers may be, each refused by its name where it is no such thing.

Nothing here imports TensorFlow, so that the commands can refuse a value at once: `app.signatures`
finds these checks, and those of `scalars`, where a class or function makes them.
"""

from .choices import SPACINGS, check
from .scalars import count, flag, number

WIDEST = 12**-0.5  # the standard deviation of a flat profile on [0, 1]: no average is as wide
DYNAMIC = "dynamic"


def beta(value, name="beta"):
    """A decay, from 0 and below 1."""
    value = number(value, name)
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, such as 0.999; got {value!r}.")
    return value


def width(value, name="sigma_rel"):
    """The relative width of a power-function average, above 0 and below `WIDEST`."""
    value = number(value, name)
    if not 0.0 < value < WIDEST:
        raise ValueError(f"{name} must be above 0 and below 0.2887, such as 0.05; got {value!r}.")
    return value


def share(value, name="share"):
    """A part of a run, above 0 and at most 1."""
    value = number(value, name)
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be above 0 and at most 1, such as 0.2; got {value!r}.")
    return value


def eta(value):
    """A share of fresh noise, from 0 to 1."""
    value = number(value, "eta")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"eta is {value}; use a number from 0 (deterministic) to 1.")
    return value


def churn(value):
    """Noise that is added before a step, at least 0."""
    if number(value, "churn") < 0:
        raise ValueError(f"churn is {value}; use a number of at least 0.")
    return float(value)


def order(value):
    """The order of a multistep solver: how many x_starts it looks at."""
    value = count(value, "order")
    if value > 3:
        raise ValueError(f"order is {value}; use 1, 2 or 3.")
    return value


def spacing(value):
    """How a grid of timesteps is spaced."""
    check("spacing", value, SPACINGS)
    return value


def clip(value):
    """Whether predicted images are cut off at the range of images, or how."""
    if value == DYNAMIC:
        return DYNAMIC
    try:
        return flag(value, "clip")
    except ValueError:
        raise ValueError(f'clip is True, False or "dynamic"; got {value!r}.') from None
