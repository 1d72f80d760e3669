"""What the names of a folder's images say: which are held out, and of which class each one is."""

import re
from dataclasses import dataclass

from .words import few, shown

_TRAIN, _TEST, _VALIDATION = "train", "test", "validation"
# Also train2017, test_images, val-set and the like.
_PART = re.compile(
    r"(?:(train|training)|(test|testing)|(val|valid|validation))"
    r"(?:[-_ ]?(?:set|images?|imgs?|data|\d+))?",
    re.IGNORECASE,
)


def _part(folder):
    """The part of a data set that a folder is by its name, or None."""
    match = folder and _PART.fullmatch(folder)
    return match and (_TRAIN, _TEST, _VALIDATION)[match.lastindex - 1]


@dataclass(frozen=True)
class Layout:
    """How the images of a folder are divided.

    Attributes:
        names: paths of the images, relative to the folder.
        is_used: for each name, whether its image is used at all.
        held_out: for each name, whether it is held out; None where no folders say so.
        classes: for each name, the name of its class; None where there are no classes.
        notes: what has to be said of it, a line each.
    """

    names: list[str]
    is_used: list[bool]
    held_out: list[bool] | None
    classes: list[str] | None
    notes: tuple[str, ...]

    def of(self, names):
        """The layout of some of the names."""
        row_of = {name: row for row, name in enumerate(self.names)}
        rows = [row_of[name] for name in names]
        return Layout(
            names,
            [self.is_used[row] for row in rows],
            self.held_out and [self.held_out[row] for row in rows],
            self.classes and [self.classes[row] for row in rows],
            self.notes,
        )


def arrange(root, names):
    """Reads the `Layout` off the paths of images.

    Folders named train, test, validation and the like at the top are parts and never classes; other
    folders at the top are classes, if every image is in one and there are several. A folder that
    holds all others is passed through.

    Args:
        root: the folder, for messages.
        names: paths relative to it, with "/" between parts.

    Raises:
        ValueError: a folder named like a part stands beside images or other folders.
    """
    notes = []
    parts = _without_wrappers([name.split("/") for name in names], notes)
    splits = _splits(root, {_top(part) for part in parts})
    if not splits:
        return Layout(names, [True] * len(names), None, _classes(parts, notes), tuple(notes))
    held_out = _choose_held_out(splits, notes)
    used = {splits[_TRAIN], splits[held_out]} if held_out else set(splits.values())
    is_used = [_top(part) in used for part in parts]
    classes = _classes([part[1:] for part, use in zip(parts, is_used, strict=True) if use], notes)
    in_turn = iter(classes or ())
    return Layout(
        names=names,
        is_used=is_used,
        held_out=held_out and [_top(part) == splits[held_out] for part in parts],
        classes=classes and [next(in_turn) if use else None for use in is_used],
        notes=tuple(notes),
    )


def _choose_held_out(splits, notes):
    """Which part is held out, test before validation; None where there is none to train on."""
    if _TRAIN not in splits:
        notes.append(f"Taken together, as no folder is named train: {few(splits.values())}.")
        return None
    if _TEST in splits and _VALIDATION in splits:
        notes.append(f"Left out {shown(splits[_VALIDATION])}: {shown(splits[_TEST])} is held out.")
    return _TEST if _TEST in splits else _VALIDATION


def _without_wrappers(parts, notes):
    """Cuts off the folders that hold all images."""
    while True:
        tops = {_top(part) for part in parts}
        if len(tops) != 1 or None in tops:
            return parts
        (top,) = tops
        if _part(top):
            notes.append(f"{shown(top)} holds all images: it is neither a class nor a part.")
        parts = [part[1:] for part in parts]


def _top(part):
    """The folder at the top of a path in parts, or None for a file."""
    return part[0] if len(part) > 1 else None


def _splits(root, tops):
    """Maps parts to the folders that are named so, if there are any."""
    found = {}
    for top in sorted(tops - {None}):
        kind = _part(top)
        if kind in found:
            raise ValueError(
                f"{shown(root)} has both {found[kind]} and {shown(top)}: put the images of one "
                "part into one folder."
            )
        if kind:
            found[kind] = top
    others = sorted(shown(top) if top else "images" for top in tops - set(found.values()))
    if found and others:
        raise ValueError(
            f"{shown(root)} holds {few(found.values())}, by name a part of a data set, beside "
            f"{few(others)}: move those into the parts, or give the class another name."
        )
    return found


def _classes(parts, notes):
    """The class of each path, the folder at its top, or None if there are no classes."""
    tops = [_top(part) for part in parts]
    classes = set(tops) - {None}
    if classes and None in tops:
        loose = [part[-1] for part in parts if len(part) == 1]
        notes.append(
            f"No classes: {len(loose):,} images are in no sub-folder, such as {shown(loose[0])}."
        )
    nested = sorted({part[1] for part in parts if len(part) > 2 and _part(part[1])})
    if nested:
        notes.append(f"Folders named {few(nested)} inside others are not taken as parts.")
    return tops if None not in tops and len(classes) > 1 else None
