"""Things of `choices` that options name with arguments: NAME:VALUE:VALUE or NAME:ARGUMENT=VALUE.

    lawa:5:100   lawa:k=5:every_steps=100   ddim:eta=0.5   linear:zero_terminal_snr=true

Arguments come by place, in the order of the class or function that the name stands for, and then by
name. How they are written and called, and what each may be by itself, is checked without importing
what they are for; what they make together is told when it is made.
"""

import contextlib
import functools
import re
from dataclasses import dataclass

from .. import choices
from ..errors import UsageError
from . import signatures

_UNITS = {"k": 10**3, "M": 10**6}
_WORDS = {"none": None, "true": True, "false": False}


@dataclass(frozen=True)
class Call:
    """What one text says.

    Attributes:
        said: the text after its option, for messages.
        kind: a name of `choices.Choices`.
        values: arguments given by place.
        named: arguments given by name.
        among: the `choices.Choices` that it names one of.
        example: how it may be written.
    """

    said: str
    kind: str
    values: tuple
    named: dict
    among: choices.Choices
    example: str = ""

    @functools.cached_property
    def takes(self):
        """The `inspect.Signature` of what is called."""
        return signatures.signature(self.among, self.kind)

    def bound(self, usual):
        """Every argument by its name: a dict.

        Args:
            usual: arguments that may be left out, which those that take them then have.
        """
        with self.errors():
            given = self.takes.bind_partial(*self.values, **self.named).arguments
            known = {name: value for name, value in usual.items() if name in self.takes.parameters}
            arguments = dict(self.takes.bind(**(known | given)).arguments)
            signatures.check(self.among, self.kind, arguments)
            return arguments

    @contextlib.contextmanager
    def errors(self):
        """Refuses the text where what it stands for refuses an argument."""
        try:
            yield
        except (TypeError, ValueError) as error:
            each = self.takes.parameters.values()
            plain = [str(one.replace(annotation=one.empty)) for one in each]
            takes = f"{self.kind} takes {', '.join(plain) or 'nothing'}"
            raise wrong(
                self.said, self.kind, f"{str(error).rstrip('.')}; {takes}", self.example
            ) from None


def parse(option, text, among, example=""):
    """The `Call` that a text is.

    Args:
        option: that the text is of.
        text: the text.
        among: the `choices.Choices` that it names one of.
        example: how it may be written.

    Raises:
        UsageError: it names none of them, or is not written as a call.
    """
    said, (kind, *parts) = f"{option} {text}", text.split(":")
    if kind not in among:
        raise UsageError(f"{option} is {kind!r:.60}; choose from {', '.join(among)}.")
    values, named = [], {}
    for part in parts:
        argument, given, value = part.rpartition("=")
        if not value:
            raise wrong(said, kind, "a value is empty", example)
        if argument in named:
            raise wrong(said, kind, f"{argument} is given twice", example)
        if named and not given:
            raise wrong(said, kind, f"{value} has to come before what is given by name", example)
        if given:
            named[argument] = _read(value)
        else:
            values.append(_read(value))
    return Call(said, kind, tuple(values), named, among, example)


def check(option, text, among, elsewhere):
    """Refuses a text that is no call by names, or gives what another option does.

    Args:
        option, text, among: as of `parse`.
        elsewhere: dict argument -> the option that gives it.
    """
    call = parse(option, text, among)
    for name, other in elsewhere.items():
        if name in call.named:
            raise wrong(call.said, call.kind, f"{other} gives {name}")
    if call.values:
        raise wrong(call.said, call.kind, f"{call.values[0]} has no name")
    call.bound(dict.fromkeys(elsewhere))


def _read(text):
    """A value: a whole number, any other number (500k, 2M), none, true or false, or a word."""
    if text.lower() in _WORDS:  # True, too, as Python and messages write it
        return _WORDS[text.lower()]
    match = re.fullmatch(r"(.+?)([kM]?)", text)
    try:
        number = float(match[1]) * _UNITS.get(match[2], 1)
    except ValueError:
        return text
    return int(number) if number % 1 == 0 and not re.search(r"[.e]", match[1]) else number


def wrong(said, kind, reason, example=""):
    """The error for a text that is not what it must be."""
    form = f"{kind}:VALUE:..., such as {example}" if example else f"{kind}:ARGUMENT=VALUE"
    return UsageError(f"{said}: {reason}; write {form}.")
