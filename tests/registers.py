"""What can be chosen by name, left as it was."""

import contextlib

from ddpm_keras import choices


@contextlib.contextmanager
def kept():
    """As a context: what is registered within it is forgotten afterwards."""
    registers = [each for each in vars(choices).values() if isinstance(each, choices.Choices)]
    before = [dict(register) for register in registers]
    try:
        yield
    finally:
        for register, entries in zip(registers, before, strict=True):
            register.clear()
            register.update(entries)
