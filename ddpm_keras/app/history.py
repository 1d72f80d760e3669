"""history.csv: a row a log interval, each with a checksum, so that damage to it is found.

The last column is the CRC-32, as a whole number, of the names of the other columns and of the row
before it as they are written. Files of older versions, which lack it, are read as well. A line
without its end is torn, whatever it holds, and one whose step is not above that before it is none.
"""

import csv
import io
import re
import warnings
import zlib

from .. import files

CHECKSUM = "checksum"  # the name of the last column
_END = "\r\n"
_MOST_LINES = 5  # that are listed


def read(path):
    """The rows as dicts of numbers, without cells that were not measured.

    Lines that are damaged are left out, with a warning that names them.
    """
    rows, damaged = _read(path)
    if damaged:
        warnings.warn(f"{path} is damaged in {_listed(damaged)}; left out.", stacklevel=1)
    return rows


def mend(path):
    """Leaves the whole rows alone in the file; one without any is set aside, with a warning."""
    rows, damaged = _read(path)
    if damaged and not rows:
        files.set_aside(path, _listed(damaged))
    elif damaged:
        write(path, read(path))


def _read(path):
    """(rows, numbers of the lines that are damaged)."""
    if not path.is_file():
        return [], []
    is_whole, rows = _parse(path.read_bytes().decode("utf-8", "replace"))
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
    text = _line([*columns, CHECKSUM]) + _END + "".join(_sealed(columns, row) for row in rows)
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
            file.write(_sealed(columns, row).encode())
    else:
        write(path, [*read(path), row])


def cut(path, step):
    """Leaves the whole rows up to a step in the file, and returns them."""
    mend(path)
    kept = [row for row in read(path) if row["step"] <= step]
    write(path, kept)
    return kept


def _parse(text):
    """(whether the first line is whole, list of the others as dicts, None where damaged)."""
    header, *lines = re.findall(r"[^\n]*\n|[^\n]+", text) or [""]
    names, _, last = header.rpartition(",")
    bodies = [line.rpartition(",")[0] for line in lines]
    same = [line == _seal(names, body) for line, body in zip(lines, bodies, strict=True)]
    if CHECKSUM in header or any(same):
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


def _sealed(columns, row):
    """A row as a line with its checksum."""
    return _seal(_line(columns), _line([row.get(name, "") for name in columns]))


def _seal(names, body):
    """The line of a row: its text, and the checksum of that and of the names of the columns."""
    return f"{body},{zlib.crc32(f'{names}{_END}{body}'.encode())}{_END}"


def _columns_to_append_to(path):
    """The columns of a file that can be added to as it is, else none."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        columns = _cells(file.readline().decode("utf-8", "replace"))
        file.seek(-1, 2)
        is_torn = file.read() != b"\n"
    return [] if is_torn or columns[-1:] != [CHECKSUM] else columns[:-1]
