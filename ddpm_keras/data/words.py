"""Names, reasons and lists as one line of text that every terminal can print."""

from collections import Counter


def shown(name):
    """A name or path in printable characters: bytes that are no UTF-8, line ends are escaped."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))
    return "".join(escaped)


def reason(error):
    """What an exception or a text says, in one line of at most 200 characters."""
    return shown(" ".join(str(error).split()))[:200] or type(error).__name__


def in_order(names):
    """Names of classes as they are numbered: 2 before 10 where all are whole numbers, else text."""
    if all(str(name).isdecimal() and str(name).isascii() for name in names):
        return sorted(names, key=lambda name: (int(name), str(name)))
    return sorted(names)


def few(names, most=3):
    """The first names of many: "a, b, c and 7 more"."""
    names = [shown(name) for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def by_suffix(names):
    """How many files there are of each kind, most frequent first: "7 .txt, 1 without suffix"."""
    counts = Counter(_suffix(name) for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return few([f"{count:,} {suffix}" for suffix, count in ordered], most=8)


def _suffix(name):
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot and len(suffix) <= 12 else "without suffix"
