"""The part of pickle that `torch.save` writes, read by a machine that can only build plain values.

`pickle.Unpickler` would call whatever a file names, keep a place in memory for every number of a
value that the file makes up, and let one value stand in a million places. Here an operation costs
no more than the bytes that it takes in the file, names stand for entries of a table, and a value
that refers to itself, or that repeats its parts within each other, is refused in the end.

Reference:
    - CPython's pickletools, which describes the operations.
"""

import collections
import contextlib
import gc
import struct
from typing import Any

from ..reading import bounds

_DEEPEST = 64  # containers within each other
_LONGEST_KEY = 2**63  # Python does not scatter the hashes of integers
_MARK = object()


class Refused(Exception):
    """The file asks for something that is not read; says what, and the cure."""


class Name:
    """A name that a file may use: `make` is what a call of it does, `kind` a storage's type."""

    def __init__(self, make=None, kind=None):
        self.make, self.kind = make, kind


class Dict(collections.OrderedDict):
    """An ordered dict that drops the attributes (`_metadata`) PyTorch sets on a state dict."""


def ordered_dict(*pairs):
    """`collections.OrderedDict()`, or of a list of pairs, as Python 2 wrote it."""
    if len(pairs) > 1 or not all(type(each) is list for each in pairs):
        raise Refused(_SEALED)
    result = Dict()
    for key, value in pairs[0] if pairs else ():
        _put(result, key, value)
    return result


def tree_of(value, leaf, most):
    """The containers of a value as plain ones, and what `leaf` makes of everything else.

    Args:
        value: what a file held.
        leaf: a function of what is no container.
        most: values that there may be, each counted wherever it stands; a file that lists them has
            a byte for each.

    Raises:
        Refused: there are more, or too many within each other.
    """
    left = most

    def convert(value, depth):
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise Refused("it repeats its parts within each other; save model.state_dict() alone.")
        if isinstance(value, dict):
            return {key: convert(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(convert(entry, depth + 1) for entry in value)
        return leaf(value)

    return convert(value, 0)


@contextlib.contextmanager
def _nothing_collected():
    """Python looks for circles among all values each time that there are more: most of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Reader:
    """Reads pickles one after another from the bytes of a file.

    Args:
        data: the bytes, or a view of them.
        names: (module, name) -> `Name`, all that a file may use.
        position: where the first pickle begins.

    Attributes:
        position: the byte after the last pickle.
    """

    def __init__(self, data, names, position=0):
        self.data, self.names, self.position = memoryview(data), names, position

    def load(self, persistent=None) -> Any:
        """The value of the next pickle.

        Args:
            persistent: a function of what a file says of data beside the pickle, a tuple.

        Raises:
            Refused: it uses what is not read here.
            EOFError, IndexError, KeyError, TypeError, ValueError, struct.error: it is damaged.
        """
        self._stack, self._memo, self._persistent, self._copied = [], [], persistent, 0
        with _nothing_collected():
            return self._run()

    def _run(self):
        start, most = self.position, bounds.most_text()
        while True:
            if self.position - start > most:
                bounds.check_text(self.position - start)
            operation = self._take(1)[0]
            if operation == _STOP:
                return self._stack.pop()
            if operation not in _OPERATIONS:
                raise Refused(
                    f"it uses the operation {operation:#04x} of pickle, which tensors do not need; "
                    "save it with torch.save(model.state_dict(), path)."
                )
            _OPERATIONS[operation](self)

    # The bytes.

    def _take(self, count):
        """The next bytes, of which there must be so many."""
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise EOFError("it is cut short")
        return self.data[start : self.position]

    def _number(self, layout):
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _counted(self, layout):
        """Bytes after their number, which a length of this layout gives."""
        return bytes(self._take(self._number(layout)))

    def _line(self):
        found = bytes(self.data[self.position : self.position + 200]).find(b"\n")
        if found < 0:
            raise ValueError("a name has no end")
        return bytes(self._take(found + 1))[:-1].decode()

    # The stack.

    def _push(self, value):
        self._stack.append(value)

    def _since_mark(self):
        for index in reversed(range(len(self._stack))):
            if self._stack[index] is _MARK:
                found = self._stack[index + 1 :]
                del self._stack[index:]
                return found
        raise ValueError("a list has no beginning")

    def _last(self, count):
        found = self._stack[-count:]
        if len(found) < count:
            raise IndexError("a value is missing")
        del self._stack[-count:]
        return found

    def _extend(self, values):
        target = self._stack[-1]
        if type(target) is not list:
            raise Refused(_SEALED)
        target.extend(values)

    def _update(self, values):
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise Refused(_SEALED)
        for key, value in zip(values[::2], values[1::2], strict=True):
            _put(target, key, value)

    # Names.

    def _name(self, module, name):
        called = " ".join(f"{module}.{name}"[:100].split())
        if (module, name) not in self.names:
            raise Refused(
                f"it names {called}; only plain tensors are read, nothing is run. Save it with "
                "torch.save(model.state_dict(), path)."
            )
        self._push(self.names[module, name])

    def _call(self):
        function, arguments = self._last(2)
        if not isinstance(function, Name) or function.make is None or type(arguments) is not tuple:
            raise Refused("it calls what is no function; save model.state_dict() alone.")
        # A list can be given again and again, so that its length counts each time.
        self._copied += sum(len(each) for each in arguments if isinstance(each, (list, tuple)))
        if self._copied > len(self.data):
            raise Refused("it copies its parts; save model.state_dict() alone.")
        self._push(function.make(*arguments))

    def _set_state(self):
        target, _ = self._last(2)
        if not isinstance(target, Dict):
            raise Refused(_SEALED)
        self._push(target)

    def _persist(self):
        (pid,) = self._last(1)
        if self._persistent is None or type(pid) is not tuple:
            raise Refused("it holds something other than tensors; save model.state_dict() alone.")
        self._push(self._persistent(*pid))

    def _global_of_stack(self):
        module, name = self._last(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name is no text")
        self._name(module, name)

    # Values by their numbers, which are given one after another, by some from 1 on.

    def _remember(self, index):
        while len(self._memo) <= index <= len(self._memo) + 1:
            self._memo.append(_MARK)
        self._memo[index] = self._stack[-1]


_SEALED = "it changes what it should only hold; save model.state_dict() alone."
_STOP = ord(".")
_OPERATIONS = {
    0x80: lambda r: r._take(1),  # protocol
    0x95: lambda r: r._take(8),  # frame
    ord("("): lambda r: r._push(_MARK),
    ord("N"): lambda r: r._push(None),
    0x88: lambda r: r._push(True),
    0x89: lambda r: r._push(False),
    ord("J"): lambda r: r._push(r._number("<i")),
    ord("K"): lambda r: r._push(r._number("<B")),
    ord("M"): lambda r: r._push(r._number("<H")),
    0x8A: lambda r: r._push(int.from_bytes(r._counted("<B"), "little", signed=True)),
    ord("G"): lambda r: r._push(r._number(">d")),
    ord("X"): lambda r: r._push(r._counted("<I").decode()),
    0x8C: lambda r: r._push(r._counted("<B").decode()),
    ord("T"): lambda r: r._push(r._counted("<I").decode()),  # text of Python 2
    ord("U"): lambda r: r._push(r._counted("<B").decode()),
    ord("B"): lambda r: r._push(r._counted("<I")),
    ord("C"): lambda r: r._push(r._counted("<B")),
    ord("]"): lambda r: r._push([]),
    ord("}"): lambda r: r._push({}),
    ord(")"): lambda r: r._push(()),
    0x85: lambda r: r._push(tuple(r._last(1))),
    0x86: lambda r: r._push(tuple(r._last(2))),
    0x87: lambda r: r._push(tuple(r._last(3))),
    ord("t"): lambda r: r._push(tuple(r._since_mark())),
    ord("a"): lambda r: r._extend(r._last(1)),
    ord("e"): lambda r: r._extend(r._since_mark()),
    ord("s"): lambda r: r._update(r._last(2)),
    ord("u"): lambda r: r._update(r._since_mark()),
    ord("q"): lambda r: r._remember(r._number("<B")),
    ord("r"): lambda r: r._remember(r._number("<I")),
    0x94: lambda r: r._remember(len(r._memo)),
    ord("h"): lambda r: r._push(r._memo[r._number("<B")]),
    ord("j"): lambda r: r._push(r._memo[r._number("<I")]),
    ord("c"): lambda r: r._name(r._line(), r._line()),
    0x93: lambda r: r._global_of_stack(),
    ord("R"): lambda r: r._call(),
    ord("b"): lambda r: r._set_state(),
    ord("Q"): lambda r: r._persist(),
}


def _put(target, key, value):
    """Sets an entry whose key takes a bounded time to compare."""
    is_short = isinstance(key, int) and abs(key) < _LONGEST_KEY
    if not isinstance(key, str) and not is_short:
        raise Refused("the name of an entry is neither text nor a number of 64 bits.")
    target[key] = value
