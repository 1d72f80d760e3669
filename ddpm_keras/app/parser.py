"""A parser made from a dataclass, whose every error is one line that names the cure."""

import argparse
import dataclasses
import difflib
import math
import os
import typing
from dataclasses import field

from ..errors import UsageError
from . import calls, invocation

LARGEST = 2**31  # of a whole number that has no bound of its own: TensorFlow's int32


def option(
    default,
    help,
    choices=None,
    at_least=None,
    at_most=None,
    above=None,
    below=None,
    positional=False,
    distinct=False,
    optional=False,
    path=False,
    section=None,
    formerly=None,
    named=None,
    elsewhere=None,
    refused=None,
):
    """A dataclass field that is also an option of the command line.

    Args:
        default: its value where neither a preset nor the command line gives one; it need not be
            among those that can be given.
        help: one line, with the unit.
        choices: the allowed values, or None.
        at_least, at_most: smallest and largest allowed number, or None.
        above: numbers must be larger than this, or None.
        below: numbers must be smaller than this, or None.
        positional: given by place, not by name.
        distinct: of several values, no two may be the same.
        optional: several values may be none at all.
        path: a file or folder; `~` at its beginning is the home folder.
        section: title of the part of `--help` that begins with this option; None: it goes on.
        formerly: an older name, which the command line and stored options still take; or None.
        named: a `choices.Choices` of which it is a name, its arguments after it (see `calls`); or
            None.
        elsewhere: dict argument of what is named -> the option that gives it; or None.
        refused: dict value -> why it cannot be, though one may look for it; or None.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "below": below,
        "positional": positional,
        "distinct": distinct,
        "optional": optional,
        "path": path,
        "section": section,
        "formerly": formerly,
        "named": named,
        "elsewhere": elsewhere or {},
        "refused": refused or {},
    }
    return field(default=default, metadata=metadata)


def flag(name):
    """The name of a field on the command line."""
    return f"--{name.replace('_', '-')}"


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
    named, by_place = _divide(argv)
    values, unknown = parser.parse_known_intermixed_args(named)
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(values).items()}
    unknown += _add_by_place(given, fields, by_place)
    if unknown:
        raise UsageError(_unknown(unknown[0], fields, program))
    for each in fields:
        if each.name in given:
            check(each, hints[each.name], given[each.name])
            if each.metadata["path"]:
                given[each.name] = _expand(given[each.name])
    return given


def _divide(argv):
    """The arguments before `--`, and those after it, none of which is an option."""
    end = argv.index("--") if "--" in argv else len(argv)
    for argument in argv[:end]:
        name, _, value = argument.partition("=")
        if name.startswith("--") and value == "--":  # which argparse takes for no value at all
            raise UsageError(f"{name} cannot be --; give another value, such as ./-- for a path.")
    return argv[:end], argv[end + 1 :]


def _add_by_place(given, fields, arguments):
    """Adds arguments to the field that is given by place; returns those that it does not take."""
    for each in fields:
        if not each.metadata["positional"] or not arguments:
            continue
        if isinstance(each.default, tuple):
            given[each.name] = (*given.get(each.name, ()), *arguments)
            return []
        if each.name not in given:
            given[each.name], *arguments = arguments
    return arguments


def fields_of(options):
    """The fields of a dataclass by their names."""
    return {each.name: each for each in dataclasses.fields(options)}


def former_names(options):
    """The names that fields of a dataclass had before: dict older name -> name."""
    each_field = fields_of(options).items()
    return {each.metadata["formerly"]: name for name, each in each_field}


def read_given(options, values):
    """Values for fields of the dataclass `options`, each taken as on a command line.

    Args:
        options: the dataclass.
        values: dict name of a field -> number, text, true or false, or a list of several. Text that
            is a number is one, as on a command line; one value stands for a list of it.

    Returns:
        A dict for the dataclass.

    Raises:
        UsageError: in one line, a value that its field does not take.
    """
    fields, hints = fields_of(options), typing.get_type_hints(options)
    result = {}
    for name, value in values.items():
        value = _as_given(fields[name], hints[name], value)
        check(fields[name], hints[name], value)
        result[name] = _expand(value) if fields[name].metadata["path"] else value
    return result


def _as_given(each, hint, value):
    """A value of a file as the command line would give it."""
    kind, several = _kind(hint)
    if not isinstance(value, list):
        value = _read_one(each.name, kind, value)
        return (value,) if several else value
    if not several or (not value and not each.metadata["optional"]):
        raise UsageError(f"{flag(each.name)} takes {'at least' if several else 'only'} one value.")
    return tuple(_read_one(each.name, kind, one) for one in value)


def _read_one(name, kind, value):
    if kind in (int, float) and isinstance(value, str):
        try:
            return _READERS[kind](value)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"{flag(name)} {error}.") from None
    accepted = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, accepted):
        raise UsageError(f"{flag(name)} must be {_ARTICLES[kind]}, not {value!r:.40}.")
    return kind(value)


def read_stored(options, values):
    """Values of a file for the fields of the dataclass `options`, checked as a command line is.

    Args:
        options: the dataclass.
        values: a dict as read from JSON; lists stand for tuples.

    Returns:
        A dict for the dataclass.

    Raises:
        UsageError: in one line, an unknown name or a value that its field does not take.
    """
    fields, hints = fields_of(options), typing.get_type_hints(options)
    older = former_names(options)
    result = {}
    for name, value in values.items():
        name = older.get(name, name)
        if name not in fields:
            raise UsageError(f"it holds an unknown option {name!r}")
        value = tuple(value) if isinstance(value, list) else value
        if value != fields[name].default:
            _check_type(name, value, hints[name])
            check(fields[name], hints[name], value)
        result[name] = value
    return result


def _check_type(name, value, hint):
    """Refuses a stored value of another type than the field's; a whole number may be a float."""
    kind, several = _kind(hint)
    accepted = (int, float) if kind is float else kind
    for one in value if several and isinstance(value, tuple) else (value,):
        if isinstance(one, bool) != (kind is bool) or not isinstance(one, accepted):
            raise UsageError(f"its option {name!r} is {value!r}")
    if isinstance(value, tuple) != several:
        raise UsageError(f"its option {name!r} is {value!r}")


# What other programs call an option, where the letters lead to none or to another.
_ELSEWHERE = {
    "bs": ("batch_size",),
    "ema_decay": ("ema",),
    "epochs": ("steps",),
    "gpus": ("strategy",),
    "lr": ("learning_rate",),
    "output": ("out", "run_dir"),
    "output_dir": ("out", "run_dir"),
    "resolution": ("image_size",),
    "size": ("image_size",),
}


def meant(name, known):
    """Which of the known options somebody meant who wrote another name, or None."""
    name = name.replace("-", "_")
    usual = [each for each in _ELSEWHERE.get(name, ()) if each in known]
    return next(iter(usual or difflib.get_close_matches(name, known, 1)), None)


def _unknown(argument, fields, program):
    """What to say of an argument that no field stands for."""
    word = argument.split("=")[0]
    names = [each.name for each in fields if not each.metadata["positional"]]
    if word in map(flag, names):
        return f"{argument} comes after --, where nothing is an option; write it before."
    close = meant(word[2:], names) if argument[:2] == "--" else None
    cure = f"did you mean {flag(close)}?" if close else f"see {program} --help."
    return f"unknown argument {argument}; {cure}"


class _Parser(argparse.ArgumentParser):
    """Reports errors by raising, so that a wrong command line takes one line."""

    def error(self, message):
        if "ignored explicit argument" in message:  # as of --flip=true
            names = message.removeprefix("argument ").partition(":")[0]
            raise UsageError(f"{names.replace('/', ' or ')} takes no value; write it alone.")
        raise UsageError(message.removeprefix("argument ") + f"; see {self.prog} --help.")


class _Once(argparse.Action):
    """Stores the value of an option, which must not be given twice."""

    def __call__(self, parser, namespace, values, option_string=None):
        _refuse_repetition(namespace, self.dest)
        setattr(namespace, self.dest, values)


class _Switch(argparse.BooleanOptionalAction):
    """--name or --no-name, but not both, and not twice."""

    def __call__(self, parser, namespace, values, option_string=None):
        _refuse_repetition(namespace, self.dest)
        super().__call__(parser, namespace, values, option_string)


def _refuse_repetition(namespace, name):
    if hasattr(namespace, name):
        raise UsageError(f"{flag(name)} is given twice; give it once.")


# What a value must be.
_ARTICLES = {
    int: "a whole number",
    float: "a number",
    str: "text, in quotes if need be",
    bool: "true or false",
}


def _number(kind):
    """A type of argparse whose error says what was expected."""

    def read(text):
        try:
            return kind(text)
        except (ValueError, OverflowError):
            shown = text if len(text) < 40 else f"{text[:40]}..."
            raise argparse.ArgumentTypeError(f"must be {_ARTICLES[kind]}, not {shown!r}") from None

    return read


_READERS = {int: _number(int), float: _number(float), str: str}


def _add_argument(section, each, hint):
    """Adds one field: booleans get --name and --no-name, tuples take several values."""
    kind, several = _kind(hint)
    default = " ".join(map(str, each.default)) if several else each.default
    shown = f" (default: {default})" if default not in ("", 0, False) else ""
    arguments = {"help": (each.metadata["help"] + shown).replace("%", "%%")}
    if each.metadata["positional"]:
        nargs = "*" if several else "?"
        section.add_argument(each.name, nargs=nargs, **arguments)
        return
    if kind is bool:
        section.add_argument(flag(each.name), action=_Switch, **arguments)
        return
    arguments |= {"action": _Once, "type": _READERS[kind], "choices": each.metadata["choices"]}
    arguments["metavar"] = None if each.metadata["choices"] else kind.__name__.upper()
    names = each.metadata["named"]
    if each.metadata["refused"]:  # which is told why by `check`
        names = arguments.pop("choices")
    if names is not None:
        arguments["metavar"] = f"{{{','.join(names)}}}"
    if several:
        arguments["nargs"] = "*" if each.metadata["optional"] else "+"
    section.add_argument(flag(each.name), **arguments)
    if each.metadata["formerly"]:
        arguments |= {"dest": each.name, "help": argparse.SUPPRESS}
        section.add_argument(flag(each.metadata["formerly"]), **arguments)


def _kind(hint):
    """(type of a value, whether there are several) of a field's annotation."""
    several = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if several else hint), several


def check(each, hint, value):
    """Refuses a value that a field does not take.

    Args:
        each: the `dataclasses.Field`.
        hint: its annotation.
        value: a value, or a tuple of several.

    Raises:
        UsageError: in one line that names the option, or the argument given by place.
    """
    name = each.name if each.metadata["positional"] else flag(each.name)
    kind, several = _kind(hint)
    values = value if several else (value,)
    choices = each.metadata["choices"]
    for one in values:
        if one in each.metadata["refused"]:
            raise UsageError(f"{name} {one}: {each.metadata['refused'][one]}")
        if choices and one not in choices:
            raise UsageError(f"{name} is {one!r}; choose from {', '.join(choices)}.")
        if kind is str:
            _check_text(name, one)
            if each.metadata["named"] is not None:
                calls.check(name, one, each.metadata["named"], each.metadata["elsewhere"])
        elif kind is not bool:
            _check_number(name, one, kind, each.metadata)
    if each.metadata["distinct"] and len(set(values)) < len(values):
        twice = max(values, key=values.count)
        raise UsageError(f"{name} names {twice} twice; name each once.")


def _check_text(name, text):
    if not text.strip():
        raise UsageError(f"{name} is empty; give a value, or leave it out.")
    if "\0" in text:
        raise UsageError(f"{name} holds a zero byte; give a name without it.")


def _check_number(name, number, kind, bounds):
    """Refuses numbers outside the field's range; NaN and infinity are in none."""
    at_least, at_most, above, below = (
        bounds[name] for name in ("at_least", "at_most", "above", "below")
    )
    if below is None:
        below = LARGEST if kind is int else math.inf
    low = (above is None or number > above) and (at_least is None or number >= at_least)
    if low and number < below and (at_most is None or number <= at_most):
        return
    parts = [f"at least {at_least}"] if at_least is not None else []
    parts += [f"above {above}"] if above is not None else []
    parts += [f"at most {at_most}"] if at_most is not None else []
    if at_most is None:
        parts += [f"below {round(below, 4)}"] if below != math.inf else ["finite"]
    raise UsageError(f"{name} must be {' and '.join(parts)}, not {number}.")


def _expand(value):
    """A path, or a tuple of paths, with `~` replaced by the home folder."""
    if isinstance(value, tuple):
        return tuple(map(os.path.expanduser, value))
    return os.path.expanduser(value)
