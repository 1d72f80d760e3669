"""A parser made from a dataclass, whose every error is one line that names the cure."""

import argparse
import dataclasses
import difflib
import math
import typing
from dataclasses import field

from ..errors import UsageError
from . import invocation


def option(default, help, choices=None, at_least=None, below=None, positional=False, section=None):
    """A dataclass field that is also an option of the command line.

    Args:
        default: its value where neither a preset nor the command line gives one.
        help: one line, with the unit.
        choices: the allowed values, or None.
        at_least: smallest allowed number, or None.
        below: numbers must be smaller than this, or None.
        positional: given by place, not by name.
        section: title of the part of `--help` that begins with this option; None: it goes on.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "at_least": at_least,
        "below": below,
        "positional": positional,
        "section": section,
    }
    return field(default=default, metadata=metadata)


def parse(options, argv, job, description):
    """Parses `argv` of the command `job` by the fields of the dataclass `options`.

    Returns:
        A dict of the options that were given; the dataclass supplies the rest.

    Raises:
        UsageError: in one line, naming the option and what it accepts.
    """
    program = invocation.program(job)
    parser = _Parser(
        prog=program,
        usage=f"{program} [options]",
        description=description,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(options)
    fields = dataclasses.fields(options)
    section = parser
    for each in fields:
        if each.metadata["section"]:
            section = parser.add_argument_group(each.metadata["section"])
        _add_argument(section, each, hints[each.name])
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [
            f"--{each.name.replace('_', '-')}" for each in fields if not each.metadata["positional"]
        ]
        close = difflib.get_close_matches(unknown[0], names, 1) if unknown[0][:2] == "--" else []
        cure = f"did you mean {close[0]}?" if close else f"see {program} --help."
        raise UsageError(f"unknown argument {unknown[0]}; {cure}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(values).items()}
    for each in fields:
        if each.name in values:
            _check(each, values[each.name])
    return values


class _Parser(argparse.ArgumentParser):
    """Reports errors by raising, so that a wrong command line takes one line."""

    def error(self, message):
        raise UsageError(message.removeprefix("argument ") + f"; see {self.prog} --help.")


def _add_argument(section, each, hint):
    """Adds one field: booleans get --name and --no-name, tuples take several values."""
    several = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if several else hint
    default = " ".join(map(str, each.default)) if several else each.default
    shown = f" (default: {default})" if default not in ("", 0, False) else ""
    arguments = {"help": (each.metadata["help"] + shown).replace("%", "%%")}
    if each.metadata["positional"]:
        nargs = "*" if several else "?"
        section.add_argument(each.name, nargs=nargs, **arguments)
        return
    if kind is bool:
        arguments["action"] = argparse.BooleanOptionalAction
    else:
        arguments |= {"type": kind, "choices": each.metadata["choices"]}
        arguments["metavar"] = None if each.metadata["choices"] else kind.__name__.upper()
    if several:
        arguments["nargs"] = "*"
    section.add_argument(f"--{each.name.replace('_', '-')}", **arguments)


def _check(each, value):
    """Refuses numbers outside the field's range."""
    at_least, below = each.metadata["at_least"], each.metadata["below"]
    if at_least is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if not at_least <= number < (math.inf if below is None else below):
            bound = f"at least {at_least}" + (f" and below {below}" if below is not None else "")
            raise UsageError(f"--{each.name.replace('_', '-')} must be {bound}, not {number}.")
