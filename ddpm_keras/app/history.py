"""history.csv: a row a log interval, each with a checksum, so that damage to it is found.

The last column is the CRC-32, as a whole number, of the id of the run, the names of the other
columns and the row before it as they are written: rows of another run are none. Files of older
versions, which lack it, are read as well. A line without its end is torn, whatever it holds, and
one whose step is not above that before it is none.
"""

import csv
import io
import re
import warnings
import zlib

from .. import files
from ..reading import bounds, owners

CHECKSUM = "checksum"  # the name of the last column
_END = "\r\n"
_MOST_LINES = 5  # that are listed
_told = set()  # the files of whose gaps `mend` has told in this process
_OF_CELL = 24  # bytes, of which `bounds.most` are read: 2.8 million cells


def read(path, known=(0, 0)):
    """The rows as dicts of numbers, without cells that were not measured.

    Lines that are damaged are left out, with a warning that names them.

    Args:
        path: the file.
        known: (step, how many rows there were up to it). Of rows that are gone a warning tells.

    Raises:
        ValueError: the file is too long.
    """
    rows, damaged = _read(path)
    step, count = known
    missing = count - len(damaged) - sum(row["step"] <= step for row in rows)
    told = f" in {_listed(damaged)}; left out" if damaged else ""
    if missing > 0 and path.resolve() not in _told:
        told += f"{'.' if told else ':'} {missing} of its rows up to step {step} are gone"
    if told:
        warnings.warn(f"{path} is damaged{told}.", stacklevel=1)
    return rows


def length(path):
    """How many rows there are, damaged ones among them."""
    return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0


def mend(path, known=(0, 0)):
    """Leaves the whole rows alone in the file; one without any is set aside.

    Args:
        path, known: as of `read`, whose warnings it gives. Rows that are gone are not told of again
            in this process.
    """
    try:
        rows, damaged = _read(path)
    except ValueError as error:
        return files.set_aside(path, error)
    if damaged and not rows:
        return files.set_aside(path, _listed(damaged))
    whole = read(path, known)
    if damaged:
        write(path, whole)
    if sum(row["step"] <= known[0] for row in whole) < known[1]:
        _told.add(path.resolve())


def _read(path):
    """(rows, numbers of the lines that are damaged)."""
    if not path.is_file():
        return [], []
    bounds.check(f"{path}", path.stat().st_size, 0)
    data = path.read_bytes()
    bounds.check(f"{path}", _OF_CELL * (data.count(b",") + data.count(b"\n")), 0)
    is_whole, rows = _parse(data.decode("utf-8", "replace"), owners.of_place(path))
    damaged = [] if is_whole else [1]
    kept = []
    for number, row in enumerate(rows, 2):
        if row is None or (kept and row["step"] <= kept[-1]["step"]):  # twice, or out of order
            damaged.append(number)
        else:
            kept.append(row)
    return kept, damaged


def _listed(lines):
    more = " ..." if len(lines) > _MOST_LINES else ""
    return f"line {', '.join(map(str, lines[:_MOST_LINES]))}{more}"


def write(path, rows):
    """Writes the file anew, columns in the order of their first appearance; no file for no row."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = _line([*columns, CHECKSUM]) + _END + _sealed(path, columns, rows)
    if rows:
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(text.encode())
    else:
        path.unlink(missing_ok=True)


def append(path, row):
    """Adds one row to the file, which is rewritten where the row brings new columns.

    It is rewritten, too, where the last line is torn, which the row would be glued to.
    """
    columns = _columns_to_append_to(path)
    if set(row) <= set(columns):
        with open(path, "ab") as file:
            file.write(_sealed(path, columns, [row]).encode())
    else:
        write(path, [*read(path), row])


def cut(path, step):
    """Leaves the whole rows up to a step in the file, and returns them."""
    mend(path)
    kept = [row for row in read(path) if row["step"] <= step]
    write(path, kept)
    return kept


def _parse(text, run):
    """(whether the first line is whole, list of the others as dicts, None where damaged)."""
    header, *lines = re.findall(r"[^\n]*\n|[^\n]+", text) or [""]
    names, _, last = header.rpartition(",")
    bodies = [line.rpartition(",")[0] for line in lines]
    same = [line == _seal(run, names, body) for line, body in zip(lines, bodies, strict=True)]
    if run or CHECKSUM in header or any(same):
        columns = _cells(names)
        rows = [_row(columns, body) if ok else None for body, ok in zip(bodies, same, strict=True)]
        return last == CHECKSUM + _END, rows
    columns = _cells(header)
    rows = [_row(columns, line) if line.endswith("\n") else None for line in lines]
    return "step" in columns and header.endswith("\n"), rows


def _row(columns, text):
    """The numbers of a row, or None where it has not one for each column."""
    cells = _cells(text)
    row = {name: _number(cell) for name, cell in zip(columns, cells, strict=False) if cell}
    is_whole = len(cells) == len(columns) and "step" in row and None not in row.values()
    return row if is_whole else None


def _number(text):
    """A cell as a number, or None where it is none."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return None


def _cells(line):
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _line(cells):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _sealed(path, columns, rows):
    """Rows as lines with their checksums."""
    run, names = owners.of_place(path), _line(columns)
    bodies = (_line([row.get(name, "") for name in columns]) for row in rows)
    return "".join(_seal(run, names, body) for body in bodies)


def _seal(run, names, body):
    """The line of a row: its text, and the checksum of the run, the columns' names and the text."""
    sealed = f"{run or ''}{names}{_END}{body}"
    return f"{body},{zlib.crc32(sealed.encode())}{_END}"


def _columns_to_append_to(path):
    """The columns of a file that can be added to as it is, else none."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        columns = _cells(file.readline().decode("utf-8", "replace"))
        file.seek(-1, 2)
        is_torn = file.read() != b"\n"
    return [] if is_torn or columns[-1:] != [CHECKSUM] else columns[:-1]
