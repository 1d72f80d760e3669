"""The parser made from a dataclass, on one that is made here."""

import dataclasses
import os
import re

import pytest
from refusals import assert_refused

from ddpm_keras.app.parser import flag, option, parse, read_stored
from ddpm_keras.errors import UsageError


@pytest.fixture
def make():
    """Makes the dataclass anew: its fields are what `option` gives."""

    def make():
        @dataclasses.dataclass
        class Options:
            place: str = option("", "where", positional=True, path=True)
            color: str = option("red", "of 100% of it", choices=("red", "blue"), section="looks")
            size: int = option(4, "in pixels", at_least=2, below=9)
            rate: float = option(0.5, "a step", above=0)
            shown: bool = option(False, "show it")
            steps: tuple[int, ...] = option((1, 2), "in turn", at_least=0, distinct=True)
            names: tuple[str, ...] = option((), "none or more", optional=True)
            long_name: int = option(0, "has no bound")
            once: int = option(1, "has a default of 1")

        return Options

    return make


@pytest.fixture
def read(make):
    return lambda *argv: parse(make(), list(argv), "train", "What it does.")


RIGHT = [
    ([], {}),
    (["here"], {"place": "here"}),
    (["--size", "2", "here"], {"size": 2, "place": "here"}),
    (["--", "--size"], {"place": "--size"}),
    (["here", "--color=blue"], {"place": "here", "color": "blue"}),
    (["--rate", "1e-3"], {"rate": 0.001}),
    (["--shown"], {"shown": True}),
    (["--no-shown"], {"shown": False}),
    (["--steps", "3"], {"steps": (3,)}),
    (["--steps", "3", "0", "--size", "8"], {"steps": (3, 0), "size": 8}),
    (["--names"], {"names": ()}),
    (["--names", "a", "a"], {"names": ("a", "a")}),
    (["--long-name", "-5"], {"long_name": -5}),
    (["--long-name", str(2**31 - 1)], {"long_name": 2**31 - 1}),
    (["~/x"], {"place": os.path.expanduser("~/x")}),
]


@pytest.mark.parametrize(("argv", "expected"), RIGHT)
def test_what_is_given_is_returned_and_nothing_else(argv, expected, read):
    found = read(*argv)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a", "b"], {"places": ("a", "b")}),
        (["--", "a", "-b"], {"places": ("a", "-b")}),
        (["a", "--", "-b"], {"places": ("a", "-b")}),
        ([], {}),
    ],
)
def test_several_may_be_given_by_place(argv, expected):
    @dataclasses.dataclass
    class Options:
        places: tuple[str, ...] = option((), "where", positional=True)

    found = parse(Options, argv, "evaluate", "What it does.")
    assert {name: value for name, value in found.items() if value} == expected


WRONG = [
    (["--colour", "red"], "unknown argument --colour; did you mean --color?"),
    (["--colr=red"], "unknown argument --colr=red; did you mean --color?"),
    (["--zzzzzz"], "unknown argument --zzzzzz; see train.py --help."),
    (["here", "there"], "unknown argument there; see train.py --help."),
    (["--col", "red"], "unknown argument --col; did you mean --color?"),
    (["--size"], "--size: expected one argument; see train.py --help."),
    (["--size", "x"], "--size: must be a whole number, not 'x'; see train.py --help."),
    (["--size", "2.5"], "--size: must be a whole number, not '2.5'; see train.py --help."),
    (["--rate", "x" * 50], f"--rate: must be a number, not '{'x' * 40}...'; see train.py --help."),
    (["--size", "1"], "--size must be at least 2 and below 9, not 1."),
    (["--size", "9"], "--size must be at least 2 and below 9, not 9."),
    (["--rate", "0"], "--rate must be above 0 and finite, not 0.0."),
    (["--rate", "nan"], "--rate must be above 0 and finite, not nan."),
    (["--rate", "inf"], "--rate must be above 0 and finite, not inf."),
    (["--long-name", str(2**31)], f"--long-name must be below {2**31}, not {2**31}."),
    (["--steps", "3", "-1"], f"--steps must be at least 0 and below {2**31}, not -1."),
    (["--steps"], "--steps: expected at least one argument; see train.py --help."),
    (["--steps", "3", "4", "3"], "--steps names 3 twice; name each once."),
    (["--size", "3", "--size", "3"], "--size is given twice; give it once."),
    (["--shown", "--no-shown"], "--shown is given twice; give it once."),
    (["--names", " "], "--names is empty; give a value, or leave it out."),
    (["a\0b"], "place holds a zero byte; give a name without it."),
    ([""], "place is empty; give a value, or leave it out."),
]


@pytest.mark.parametrize(("argv", "message"), WRONG)
def test_what_is_wrong_is_told_in_one_line(argv, message, read):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        read(*argv)


def test_a_choice_that_is_none_is_told_with_the_others(read):
    assert_refused(
        lambda: read("--color", "green"), ["--color", "green", "red", "blue"], UsageError
    )


def test_help_shows_sections_defaults_and_metavars(read, capsys):
    with pytest.raises(SystemExit) as stop:
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for part in (
        "usage: train.py [options] What it does.",
        "looks: --color {red,blue} of 100% of it (default: red)",
        "--size INT in pixels (default: 4)",
        "--rate FLOAT a step (default: 0.5)",
        "--shown, --no-shown show it --steps",
        "INT ...] in turn (default: 1 2)",
        "--long-name INT has no bound --once INT has a default of 1 (default: 1)",
    ):
        assert part in text, text
    assert "has no bound (default" not in text and "where (default" not in text


def test_flags_are_spelled_with_hyphens():
    assert flag("long_name_of_it") == "--long-name-of-it"


STORED = {"color": "blue", "size": 3, "rate": 1, "shown": True, "steps": [3, 4], "names": []}


def test_stored_values_are_checked_as_a_command_line_is(make):
    found = read_stored(make(), STORED)
    assert found == STORED | {"steps": (3, 4), "names": ()}
    assert read_stored(make(), {"place": "", "steps": [1, 2]}) == {"place": "", "steps": (1, 2)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("colour", "red", "it holds an unknown option 'colour'"),
        ("color", "green", "--color is 'green'; choose from red, blue."),
        ("color", 3, "its option 'color' is 3"),
        ("size", 2.5, "its option 'size' is 2.5"),
        ("size", True, "its option 'size' is True"),
        ("size", [3], "its option 'size' is (3,)"),
        ("size", 10, "--size must be at least 2 and below 9, not 10."),
        ("rate", "1", "its option 'rate' is '1'"),
        ("shown", 1, "its option 'shown' is 1"),
        ("steps", 3, "its option 'steps' is 3"),
        ("steps", [3, "4"], "its option 'steps' is (3, '4')"),
        ("steps", [3, 3], "--steps names 3 twice; name each once."),
        ("place", " ", "place is empty; give a value, or leave it out."),
    ],
)
def test_wrong_stored_values_are_told_in_one_line(name, value, message, make):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        read_stored(make(), STORED | {name: value})
