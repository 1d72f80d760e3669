"""Averages that are named one by one, as `--ema-rules` and files of options do.

A rule is written RULE:VALUE:VALUE or RULE:ARGUMENT=VALUE, with the arguments of its class in their
order, and NAME=RULE:... gives its average another name:

    power:0.05   halflife:500k   lawa:5:100   lawa:every=100:k=5   short=constant:0.9

`steps` and `batch_size`, where a rule takes them and they are left out, are those of the run. What
the rules are stands in `choices.EMA_RULES`, and what they take in their classes.
"""

import inspect
import re
from dataclasses import dataclass

from .. import choices
from ..errors import UsageError
from .parser import flag

EXAMPLES = {
    "constant": "constant:0.9999",
    "warmup": "warmup:0.9999",
    "power_warmup": "power_warmup:0.9999",
    "step": "step",
    "ramp": "ramp:0:0.999:1000",
    "power": "power:0.05",
    "halflife": "halflife:500k",
    "swa": "swa:1000",
    "lawa": "lawa:5:100",
    "wsm": "wsm:0.2:decay=cosine",
}
_UNITS = {"k": 10**3, "M": 10**6}


@dataclass(frozen=True)
class Rule:
    """What one text says.

    Attributes:
        text: the text itself.
        name: what its average is to be called, or "" for the rule's own name.
        kind: a name in `choices.EMA_RULES`.
        values: arguments given by place.
        named: arguments given by name.
    """

    text: str
    name: str
    kind: str
    values: tuple
    named: dict


def split(texts):
    """The rules in texts of one or several, a tuple of strings."""
    return tuple(rule for text in texts for rule in text.split())


def parse(text):
    """The `Rule` that a text names.

    Raises:
        UsageError: it is not written as a rule, or there is none of its name.
    """
    head, *parts = text.split(":")
    name, equals, kind = head.rpartition("=")
    if kind not in choices.EMA_RULES:
        known = ", ".join(EXAMPLES.get(each, each) for each in choices.EMA_RULES)
        raise UsageError(
            f"{flag('ema_rules')} {text}: there is no rule {kind!r}; write one such as {known}."
        )
    values, named = [], {}
    for part in parts:
        argument, given, value = part.rpartition("=")
        if not value:
            raise _wrong(text, kind, "a value is empty")
        if argument in named:
            raise _wrong(text, kind, f"{argument} is given twice")
        if named and not given:
            raise _wrong(text, kind, f"{value} has to come before what is given by name")
        if given:
            named[argument] = _read(value)
        else:
            values.append(_read(value))
    if equals and not name:
        raise _wrong(text, kind, "the name of its average is empty")
    return Rule(text, name, kind, tuple(values), named)


def _read(text):
    """A value: a whole number, any other number (500k, 2M), none, or a word."""
    if text == "none":
        return None
    match = re.fullmatch(r"(.+?)([kM]?)", text)
    try:
        number = float(match[1]) * _UNITS.get(match[2], 1)
    except ValueError:
        return text
    return int(number) if number % 1 == 0 and not re.search(r"[.e]", match[1]) else number


def averages(texts, **run):
    """The decays that rules name, by the names of their averages.

    Args:
        texts: one rule each.
        run: what a rule may leave out: `steps` and `batch_size` of the run.

    Returns:
        Dict name -> `Decay`, as `EMA` takes it.

    Raises:
        UsageError: a rule is wrong, or two averages would have the same name.
    """
    decays = {}
    for rule in map(parse, texts):
        decay = _make(rule, run)
        name = rule.name or decay.name
        if name in decays:
            raise UsageError(
                f"{flag('ema_rules')}: two averages would be called {name!r}; give one another "
                f"name, as in other={rule.text.rpartition('=')[2]}."
            )
        decays[name] = decay
    return decays


def _make(rule, run):
    make = choices.EMA_RULES.find(rule.kind)
    signature = inspect.signature(make)
    left_out = {name: value for name, value in run.items() if name in signature.parameters}
    try:
        given = signature.bind_partial(*rule.values, **rule.named).arguments
        return make(**signature.bind(**(left_out | given)).arguments)
    except (TypeError, ValueError) as error:
        raise _wrong(rule.text, rule.kind, str(error).rstrip("."), signature) from None


def _wrong(text, kind, reason, signature=None):
    """The error for a rule that is not what it must be."""
    takes = ""
    if signature:
        each = signature.parameters.values()
        plain = [str(one.replace(annotation=one.empty)) for one in each]
        takes = f"{kind} takes {', '.join(plain)}; "
    example = f", such as {EXAMPLES[kind]}" if kind in EXAMPLES else ""
    return UsageError(
        f"{flag('ema_rules')} {text}: {reason}; {takes}write {kind}:VALUE:...{example}."
    )
