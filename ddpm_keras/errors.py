"""Errors that the commands and the library tell apart."""


class UsageError(ValueError):
    """The command line or the input is wrong. The message is one line that names the cure."""
