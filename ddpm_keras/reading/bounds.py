"""How much a file may take once it is read: the bounds of all readers, in one place.

A file of a few hundred bytes can promise terabytes. So each reader asks here before it unpacks,
decodes or builds anything, with what the file says of itself and the bytes that are really there.
"""

import os

VARIABLE = "DDPM_KERAS_MAX_BYTES"
_MOST = 2**26  # bytes that any file may unpack to
_RATIO = 32  # and that each of its own bytes may; deflate reaches 1032, real images about 20
_TEXT = 32  # the share of JSON and the like, of which a character may become an object


def most() -> int:
    """Bytes that a file of any length may unpack to: 64 MiB, or `DDPM_KERAS_MAX_BYTES`.

    Raises:
        ValueError: the variable holds no whole number.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return _MOST
    if not given.isascii() or not given.isdecimal() or not 0 < len(given) < 20:
        raise ValueError(f"{VARIABLE} is {given[:40]!r}; give a number of bytes, such as {_MOST}.")
    return int(given)


def check(what: str, needed: int, length: int) -> None:
    """Refuses what would take far more memory than its file has bytes.

    Args:
        what: it is, for the message.
        needed: bytes that it would take.
        length: bytes of the file, or of what is compressed in it.

    Raises:
        ValueError: `needed` is above `most()` and above 32 bytes for each byte of the file.
    """
    if needed > max(most(), _RATIO * length):
        raise ValueError(
            f"{what} would take {_spoken(needed)} of memory, of {length:,} bytes in the file: "
            f"where its source is trusted, raise the bound by {VARIABLE}=BYTES"
        )


def most_text() -> int:
    """Bytes of JSON, pickles and the like that are read, a part of `most()`: 2 MiB of its 64."""
    return most() // _TEXT


def check_text(length: int) -> None:
    """Refuses text of more than `most_text()` bytes.

    Raises:
        ValueError: it is longer.
    """
    if length > most_text():
        raise ValueError(
            f"it has {length:,} bytes, and {most_text():,} of text are read: where its source "
            f"is trusted, raise the bound by {VARIABLE}=BYTES"
        )


def _spoken(number):
    return f"{number:,} bytes" if number < 2**50 else "more than a petabyte"
