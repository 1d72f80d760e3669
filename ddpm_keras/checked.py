"""Records that hold only what can be right, and are made of what JSON gives."""

import dataclasses
import math
import numbers
import sys
import types
import typing
from dataclasses import dataclass, field


def bounded(at_least=-math.inf, at_most=math.inf, **arguments):
    """A dataclass field of a number within bounds."""
    return field(metadata={"at_least": at_least, "at_most": at_most}, **arguments)


@dataclass(frozen=True)
class Checked:
    """A record whose every value is of its field's type, finite and within its bounds."""

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for each in dataclasses.fields(self):
            check(each.name, getattr(self, each.name), hints[each.name], each.metadata)

    @classmethod
    def arguments(cls, values):
        """The arguments of the record, from those that a file has: by default the same."""
        return values


def build(cls, values, where=""):
    """A record from what JSON gives; every error says where it is."""
    if not isinstance(values, dict):
        raise ValueError(f"{where.rstrip('.')} is no dictionary")
    values = cls.arguments(values)
    fields, hints = dataclasses.fields(cls), typing.get_type_hints(cls)
    known = {each.name for each in fields}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}{key} is unknown")
    for each in fields:
        required = each.default is each.default_factory is dataclasses.MISSING
        if required and each.name not in values:
            raise ValueError(f"{where}{each.name} is missing")
    found = {key: made(hints[key], value, f"{where}{key}") for key, value in values.items()}
    try:
        return cls(**found)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def made(hint, value, where):
    """A value of a hint, with records in place of dictionaries, and tuples in place of lists."""
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        inner = typing.get_args(hint)[0]
        return tuple(made(inner, each, f"{where}[{i}]") for i, each in enumerate(value))
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        _, inner = typing.get_args(hint)
        return {key: made(inner, each, f"{where}.{key}") for key, each in value.items()}
    record = next((kind for kind in _kinds(hint) if dataclasses.is_dataclass(kind)), None)
    return value if record is None or value is None else build(record, value, f"{where}.")


def _kinds(hint):
    """The types that a hint allows."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def check(name, value, hint, bounds):
    """Refuses a value that is not of its hint's type, not finite or out of bounds."""
    kinds = _kinds(hint)
    if hint is object or (value is None and type(None) in kinds):
        return
    kind = typing.get_origin(kinds[0]) or kinds[0]
    abstract = {float: numbers.Real, int: numbers.Integral}.get(kind, kind)
    if not isinstance(value, abstract) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r:.60}, not {_CALLED.get(kind, kind.__name__)}")
    if kind is dict:
        for key, each in value.items():
            check(f"{name}.{key}", each, typing.get_args(kinds[0])[1], {})
    if kind is tuple:
        for i, each in enumerate(value):
            check(f"{name}[{i}]", each, typing.get_args(kinds[0])[0], {})
    if kind in (float, int):
        low, high = bounds.get("at_least", -math.inf), bounds.get("at_most", math.inf)
        if not (abs(value) <= sys.float_info.max and low <= value <= high):
            raise ValueError(f"{name} is {value!r:.60}, not {_range(low, high)}")


_CALLED = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    dict: "a dictionary",
    tuple: "a list",
}


def _range(low, high):
    if math.isfinite(high):
        return f"from {low} to {high}"
    return f"finite and at least {low}" if math.isfinite(low) else "finite"


def no_number(text):
    """Refuses the constants that JSON has not: NaN and the infinities."""
    raise ValueError(f"{text} is not a finite number")
