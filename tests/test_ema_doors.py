"""Every rule against its definition, through every door that averages are kept by."""

import itertools

import ema_doors
import pytest

from ddpm_keras import choices, ema


def test_every_rule_is_in_the_table():
    classes = {type(rule) for rule in ema_doors.RULES}
    public = {getattr(ema, name) for name in ema.__all__}
    rules = {each for each in public if isinstance(each, type) and issubclass(each, ema.Decay)}
    assert classes == rules - {ema.Decay}
    assert classes >= {choices.EMA_RULES.find(name) for name in choices.EMA_RULES.built_in}


PAIRS = itertools.product(ema_doors.DOORS, ["accumulation", "skipped under XLA"])


@pytest.mark.parametrize(("door", "way"), [x for x in PAIRS if x != ("outside", "accumulation")])
def test_every_rule_is_its_definition_through_every_door(door, way):
    ema_doors.check(door, way)
