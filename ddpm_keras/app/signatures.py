"""What things of `choices` take, told by their source where they are not imported, nor TensorFlow.

What is wrong in a command line is then said at once.
"""

import ast
import inspect
from pathlib import Path
from typing import Any

from .. import choices, kinds, scalars

_PACKAGE = Path(__file__).parents[1]
# What the checks of arguments may be written with; none of it needs TensorFlow.
_KNOWN = {name: each for name, each in vars(scalars).items() if inspect.isfunction(each)}
_KNOWN |= {name: each for name, each in vars(choices).items() if isinstance(each, tuple)}
_KNOWN |= {"check": choices.check, "choices": choices, "kinds": kinds}


def signature(among, name):
    """The `inspect.Signature` of a thing.

    Args:
        among: a `choices.Choices`.
        name: one of its names.
    """
    thing = among[name]
    return inspect.signature(thing) if not isinstance(thing, str) else _signature(*_place(thing))


def check(among, name, values):
    """Refuses values that a thing would refuse when it is made, as far as its source tells.

    What it does with an argument alone is done here: calls of `kinds`, `scalars` and
    `choices.check`. What it makes of several together is left to it, and so is None.

    Args:
        among, name: as of `signature`.
        values: dict argument -> value.

    Raises:
        ValueError: what the check says.
    """
    if not isinstance(among[name], str):
        return
    values = {name: value for name, value in values.items() if value is not None}
    for call, known in _checks(*_place(among[name])):
        names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
        if names & values.keys() and names <= known.keys() | values.keys():
            eval(compile(ast.Expression(call), __file__, "eval"), known | values)


def _place(thing):
    """(path, attribute) of "module:attribute"."""
    module, _, attribute = thing.partition(":")
    return _PACKAGE.joinpath(*module.split(".")).with_suffix(".py"), attribute


def _body(path):
    return ast.parse(path.read_text(encoding="utf-8")).body


def _find(path: Path, name: str) -> tuple[Path, Any, dict[str, Any]]:
    """(path, node, given): a class or function, and what a `functools.partial` of it gives it.

    It is defined in the module, or imported by it from one beside it.
    """
    for node in _body(path):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return path, node, {}
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            partial: Any = node.value
            given = {each.arg: _Default(each.value) for each in partial.keywords}
            return *_find(path, partial.args[0].id)[:2], given
        if isinstance(node, ast.ImportFrom) and any(each.name == name for each in node.names):
            return _find(path.parent / f"{node.module}.py", name)
    raise LookupError(name)


def _maker(node: Any) -> Any:
    """The function that makes a thing, or an `__init__`; None of a class that has none."""
    if isinstance(node, ast.FunctionDef):
        return node
    return next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)


def _signature(path, name):
    """That of a function or of an `__init__` without self; a class that has none takes nothing."""
    _, node, given = _find(path, name)
    made = _maker(node)
    parameters = [one for one in _parameters(made.args) if one.name != "self"] if made else []
    return inspect.Signature(
        [one.replace(default=given.get(one.name, one.default)) for one in parameters]
    )


def _parameters(arguments):
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    defaults = [empty] * (len(arguments.args) - len(arguments.defaults))
    defaults += map(_Default, arguments.defaults)
    for each, default in zip(arguments.args, defaults, strict=True):
        yield inspect.Parameter(each.arg, kind, default=default)


def _checks(path, name):
    """Yields the calls in what makes a thing, each with what their module knows besides."""
    path, node, _ = _find(path, name)
    known = _KNOWN | _constants(path)
    for call in ast.walk(_maker(node) or ast.Pass()):
        called = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
        if called == "super().__init__":
            yield from _checks(path, node.bases[0].id)
        elif called.partition(".")[0] in known:
            yield call, known


def _constants(path):
    """Tuples of names that a module holds, by theirs."""
    found = {}
    for node in _body(path):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            names = {each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)}
            if names <= _KNOWN.keys():
                code = compile(ast.Expression(node.value), path, "eval")
                found[ast.unparse(node.targets[0])] = eval(code, dict(_KNOWN))
    return found


class _Default:
    """A default by its text, as it is shown."""

    def __init__(self, node):
        self.text = ast.unparse(node).replace("'", '"')

    def __repr__(self):
        return self.text
