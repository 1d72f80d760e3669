"""Objects that are what their arguments say: compared, shown and saved by them."""

import inspect


class Configured:
    """Keeps each argument of `__init__` as an attribute of its name; from that follows the rest.

    A subclass whose attributes are called otherwise gives its own `get_config`.
    """

    def get_config(self):
        """The arguments to make an equal object with: dict name -> value."""
        names = inspect.signature(type(self)).parameters
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ValueError(
                f"{type(self).__name__} does not keep its argument {missing[0]!r}: set "
                f"self.{missing[0]} in __init__, or define get_config."
            )
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))
