"""Standard output and error that end no command: closed, full, or unable to show a letter."""

import contextlib
import io
import os
import sys
import warnings

# Notes of libraries to programmers, which no user of a command can act on.
NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


class _Guarded:
    """A text stream that keeps its first failure in `error`; what comes after it goes nowhere."""

    def __init__(self, stream):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self.stream = stream
        self.error = None

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        self._attempt(self.stream.write, text)
        return len(text)

    def flush(self):
        self._attempt(self.stream.flush)

    def _attempt(self, call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            self.error = self.error or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # what is buffered goes there too
            os.close(nowhere)


@contextlib.contextmanager
def guarded():
    """Output of the block goes on where it can be written, and is dropped where it cannot.

    A warning takes one line, without the place in the code that gave it, and is given once.

    Yields:
        The guarded standard output, whose `error` is None or the `OSError` of its first failure.
    """
    _open_closed()
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Guarded, kept)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _shower_of_warnings()
            for category in NOT_FOR_USERS:
                warnings.simplefilter("ignore", category)
            yield sys.stdout
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = kept


def _open_closed():
    """Points closed standard streams to nowhere, so that no opened file takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _shower_of_warnings():
    """A `warnings.showwarning`; `warnings` forgets what it has shown when filters change."""
    shown = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = one_line(message)
        if text not in shown:
            shown.add(text)
            print(f"Warning: {text}", file=sys.stderr)

    return show


def one_line(text, most=600):
    """`text` as one line of at most so many characters, all of which a terminal only shows."""
    from ..data.words import shown  # with NumPy, which --help does without

    text = shown(" ".join(str(text).split()))
    return text if len(text) <= most else f"{text[:most]} ..."
