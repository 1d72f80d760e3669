"""The arguments of a call, whether given by place or by name."""

import inspect


def by_name(function, model, args, kwargs):
    """The arguments of a call of a method as a dict; those of its **kwargs too."""
    given = dict(inspect.signature(function).bind(model, *args, **kwargs).arguments)
    given.pop("self")
    return given | given.pop("kwargs", {})
