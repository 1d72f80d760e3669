"""Files that ask for more than they hold, or for code: each a name, and how it is made and read."""

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        name: what is wrong with it, after the kind of file.
        make: writes it into an empty folder, and returns what `read` takes.
        read: the reader that a user would call.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[object], object]
