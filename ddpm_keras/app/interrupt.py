"""Ctrl-C that is not lost.

Python raises `KeyboardInterrupt` wherever the program happens to be. In a finalizer or the callback
of a weak reference, of which TensorFlow runs many while it traces, the exception is dropped. So an
interrupt is remembered, and raised again at the next turn of a loop that is slow enough to have a
progress bar.
"""

import signal

_pending = False


def install():
    """Takes over Ctrl-C, and a polite kill (SIGTERM), which then saves as Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _remember_and_raise)


def _remember_and_raise(number, frame):
    global _pending
    _pending = True
    raise KeyboardInterrupt


def check():
    """Raises an interrupt that came since the last check."""
    global _pending
    if _pending:
        _pending = False
        raise KeyboardInterrupt
