"""Signals that ask a command to end: none is lost, and none destroys what is being saved.

Python raises `KeyboardInterrupt` wherever the program happens to be. In a finalizer or the callback
of a weak reference, of which TensorFlow runs many while it traces, the exception is dropped. So a
signal is remembered, and raised again at the next turn of a loop that is slow enough to have a
progress bar. Where something would be left half done, it is only remembered, until a safe place.
"""

import contextlib
import math
import os
import signal

# Ctrl-C, a polite kill, and a terminal that is closed.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
PATIENCE = 2  # signals that wait for a safe place; the next does not
_NOTE = b"\nStopping at the end of this step; twice more stops at once.\n"

_waiting = 0  # signals that have come and were not raised
_patience = 0  # how many may wait
_last = signal.SIGINT


class Interrupted(KeyboardInterrupt):
    """An interrupt where all that was done so far is kept, or can be."""


_raised = KeyboardInterrupt  # by a signal that does not wait


def install():
    """Takes over the signals that end a program, but for a terminal's end under nohup."""
    global _waiting, _patience, _last
    _waiting, _patience, _last = 0, 0, signal.SIGINT
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _receive)


def listen_again():
    """Takes the same signals over once more, from TensorFlow: it takes SIGTERM of workers."""
    for number in SIGNALS:
        if signal.getsignal(number) is _receive:  # all that Python knows of
            signal.signal(number, _receive)


def status():
    """The exit status of a command that a signal has ended, as the shell expects it: 130 ..."""
    return 128 + _last


def check():
    """Raises an interrupt that came since the last check, unless it may wait."""
    global _waiting
    if _waiting > _patience:
        _waiting = 0
        raise _raised


@contextlib.contextmanager
def held():
    """Signals in the block wait for its end, however many, and then for `check`."""
    global _patience
    before, _patience = _patience, math.inf
    try:
        yield
    finally:
        _patience = before


@contextlib.contextmanager
def safe_places():
    """Within the block, from the first `stop_here` on, signals wait for the next one."""
    global _patience, _raised
    before = _patience
    try:
        yield
    finally:
        _patience, _raised = before, KeyboardInterrupt
    check()


def stop_here(together=bool, until_next=False):
    """Says that this is a safe place.

    Args:
        together: function of whether a signal has come here that gives whether one has come to any
            of the processes that stop together.
        until_next: whether it is one until the next, so that signals need not wait for that.

    Raises:
        Interrupted: a signal has come. All that come until the end of the block will wait.
    """
    global _patience, _raised
    if together(_waiting > 0):
        settle()
        raise Interrupted
    _patience, _raised = (0, Interrupted) if until_next else (PATIENCE, KeyboardInterrupt)


def settle():
    """Lets all signals that come until the end of the block wait, after an `Interrupted`."""
    global _waiting, _patience
    _waiting, _patience = 0, math.inf


def _receive(number, frame):
    global _waiting, _last
    _waiting, _last = _waiting + 1, number
    if _waiting == 1 and _patience == PATIENCE and number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, _NOTE)  # print might have been interrupted itself
    if _waiting > _patience:
        raise _raised
