"""What things of `choices` take, told by their source where they are not imported, nor TensorFlow.

What is wrong in a command line is then said at once.
"""

import ast
import inspect
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def signature(choices, name):
    """The `inspect.Signature` of a thing.

    Args:
        choices: a `choices.Choices`.
        name: one of its names.
    """
    thing = choices[name]
    if not isinstance(thing, str):
        return inspect.signature(thing)
    module, _, attribute = thing.partition(":")
    path = _PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return _signature(ast.parse(path.read_text(encoding="utf-8")).body, attribute)


def _signature(body, name):
    """That of a class, of a function, or of a `functools.partial` of one, in the same module."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return inspect.Signature([*_parameters(node.args)])
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node.body)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return _of_partial(body, node.value)
    raise LookupError(name)


def _of_class(body):
    """That of `__init__`, without self; a class that has none takes nothing."""
    if not any(isinstance(node, ast.FunctionDef) and node.name == "__init__" for node in body):
        return inspect.Signature()
    return inspect.Signature([*_signature(body, "__init__").parameters.values()][1:])


def _of_partial(body, call):
    whole = _signature(body, call.args[0].id)
    given = {each.arg: _Default(each.value) for each in call.keywords}
    return whole.replace(
        parameters=[
            one.replace(default=given.get(name, one.default))
            for name, one in whole.parameters.items()
        ]
    )


def _parameters(arguments):
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    defaults = [empty] * (len(arguments.args) - len(arguments.defaults))
    defaults += map(_Default, arguments.defaults)
    for each, default in zip(arguments.args, defaults, strict=True):
        yield inspect.Parameter(each.arg, kind, default=default)


class _Default:
    """A default by its text, as it is shown."""

    def __init__(self, node):
        self.text = ast.unparse(node).replace("'", '"')

    def __repr__(self):
        return self.text
