"""Averages that are named one by one, as `--ema-rules` and files of options do.

A rule is written RULE:VALUE:VALUE or RULE:ARGUMENT=VALUE, with the arguments of its class in their
order, and NAME=RULE:... gives its average another name:

    power:0.05   halflife:500k   lawa:5:100   lawa:every_steps=100:k=5   short=constant:0.9

`steps` and `batch_size`, where a rule takes them and they are left out, are those of the run. What
the rules are stands in `choices.EMA_RULES`, and what they take in their classes.
"""

from .. import choices
from ..errors import UsageError
from . import calls
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


def split(texts):
    """The rules in texts of one or several, a tuple of strings."""
    return tuple(rule for text in texts for rule in text.split())


def parse(text):
    """The rule that a text names.

    Returns:
        `(name, call)`: what its average is to be called, or "" for the rule's own name, and the
        `calls.Call` of a rule in `choices.EMA_RULES`.

    Raises:
        UsageError: it is not written as a rule, or there is none of its name.
    """
    if "," in text:
        raise UsageError(f"{flag('ema_rules')} {text}: write a space between rules, not a comma.")
    head, colon, values = text.partition(":")
    name, equals, kind = head.rpartition("=")
    if kind not in choices.EMA_RULES:
        known = ", ".join(EXAMPLES.get(each, each) for each in choices.EMA_RULES)
        raise UsageError(
            f"{flag('ema_rules')} {text}: there is no rule {kind!r}; write one such as {known}."
        )
    example = EXAMPLES.get(kind, "")
    if equals and not name:
        reason = "the name of its average is empty"
        raise calls.wrong(f"{flag('ema_rules')} {text}", kind, reason, example)
    call = calls.parse(flag("ema_rules"), kind + colon + values, choices.EMA_RULES, example)
    return name, call


def check(texts):
    """Refuses rules that are not written as such, or lack an argument, without importing them.

    Args:
        texts: one rule each.

    Raises:
        UsageError: in one line with what the rule takes.
    """
    for text in texts:
        _, call = parse(text)
        call.bound({"steps": None, "batch_size": None})


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
    for text in texts:
        name, call = parse(text)
        arguments = call.bound(run)
        with call.errors():
            decay = choices.EMA_RULES.find(call.kind)(**arguments)
        name = name or decay.name
        if name in decays:
            raise UsageError(
                f"{flag('ema_rules')}: two averages would be called {name!r}; give one another "
                f"name, as in other={text.rpartition('=')[2]}."
            )
        decays[name] = decay
    return decays
