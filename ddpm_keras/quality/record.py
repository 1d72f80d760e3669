"""An evaluation as a record: what was measured of each weight set, and how.

evaluation.json is read and written by `Evaluations` alone. It holds the newest evaluation,
joined with whatever was measured before in the same way, and under "evaluations" each one as it was
made. What cannot be right is refused in one line that names the place.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files, names
from ..checked import Checked, bounded, build, check, made, no_number
from ..errors import UsageError
from . import metrics
from .tuning import Tuning


@dataclass(frozen=True)
class Difference(Checked):
    """How much farther one weight set is from the real images than another, with an interval.

    Attributes:
        estimate: the first distance minus the second.
        low, high: ends of the confidence interval.
    """

    estimate: float
    low: float
    high: float

    def __post_init__(self):
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}")


@dataclass(frozen=True)
class Extractor(Checked):
    """What made the features: its name and its checksum."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Reference(Checked):
    """The real images.

    Attributes:
        dataset: what `--dataset` named.
        split: "train", "held-out", or the file of statistics that stood for the images.
        num_images: images of the split; None for a file of statistics.
        num_held_out: held-out images.
        fingerprint: checksum of the images, or of that file.
        floor_frechet: distance of held-out from training images.
        floor: distance that other real images would be at, were there as many as were drawn; None
            where there are too few to extrapolate from. See `frechet_floor`.
    """

    dataset: str = ""
    split: str = "train"
    num_images: int | None = bounded(1, default=None)
    num_held_out: int | None = bounded(0, default=None)
    fingerprint: str | None = None
    floor_frechet: float | None = bounded(0, default=None)
    floor: float | None = bounded(0, default=None)

    @property
    def images(self) -> str:
        """What they are, in words."""
        if self.floor_frechet is None:
            return "real images"
        known = {"train": "training images", "held-out": "held-out images"}
        return known.get(self.split, Path(self.split).name)


# Of how images are guided, which files older than these lack.
_GUIDED = ("guide", "guidance_rescale", "guidance_low", "guidance_high")
_FOLLOWS = {"floor_frechet": None, "floor": None}  # of a reference: it follows from the rest
_SETTINGS = ("num_images", "extractor", "sampler", "seed", "guidance", "dtype", *_GUIDED)


@dataclass(frozen=True)
class Measurement(Checked):
    """The numbers of one weight set; None stands for what was not or cannot be computed.

    Attributes:
        frechet: Fréchet distance to the reference, by which weight sets are compared.
        num_images: images drawn.
        extractor: name of what made the features.
        numbers: dict of all other numbers that the metrics of `choices.METRICS` give, such as
            "kid"; each is an attribute too, such as `measurement.kid`.
        sampler, seed, guidance, guide, dtype: how the images were drawn, guided by which weight set
            (None: by none, or by the network without label), and in what the network computed.
        guidance_rescale, guidance_low, guidance_high: as of `guidance.Guidance`; None: as usual.
        bits_per_dim, bits_per_dim_error: bound on held-out images and its standard error.
    """

    frechet: float = bounded(0)
    num_images: int = bounded(1)
    extractor: str
    numbers: dict[str, float | None] = field(default_factory=dict)
    sampler: str | None = None
    seed: int | None = bounded(0, default=None)
    guidance: float | None = bounded(0, default=None)
    guide: str | None = None
    dtype: str | None = None
    guidance_rescale: float | None = bounded(0, 1, default=None)
    guidance_low: int | None = bounded(0, default=None)
    guidance_high: int | None = bounded(1, default=None)
    bits_per_dim: float | None = None
    bits_per_dim_error: float | None = bounded(0, default=None)

    def __post_init__(self):
        known = _other_numbers()
        for name, value in self.numbers.items():
            if name not in known:
                raise ValueError(f"{name} is unknown")
            bounds = {"at_least": known[name].at_least, "at_most": known[name].at_most}
            check(name, value, float | None, bounds)
        super().__post_init__()
        object.__setattr__(self, "numbers", {name: self.numbers.get(name) for name in known})

    def __getattr__(self, name):
        if name in vars(self).get("numbers", ()):
            return self.numbers[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @classmethod
    def of(cls, **values: Any) -> Measurement:
        """A measurement of all numbers and settings by their names, as `evaluate_features` gives.

        Raises:
            ValueError: a name is unknown, or a value cannot be right.
        """
        return cls(**cls.arguments(values))

    @classmethod
    def arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What is no attribute of its own is one of the numbers; the inverse of `_flat`."""
        own = {each.name for each in dataclasses.fields(cls)} - {"numbers"}
        numbers = {name: value for name, value in values.items() if name not in own}
        return {name: values[name] for name in values if name in own} | {"numbers": numbers}

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same in two measurements that are compared, by name."""
        return {key: getattr(self, key) for key in _SETTINGS}


@dataclass(frozen=True)
class Evaluation(Checked):
    """Weight sets measured in the same way at one step of a run.

    Attributes:
        weights: dict weight set -> `Measurement`.
        reference: the real images.
        metric: what the Fréchet distance is called.
        differences: dict weight set -> `Difference` of its distance to that of the raw weights,
            either of which may have been measured before.
        extractor: what made the features.
        step: optimizer steps that the weights had made.
        protocols: dict weight set -> how it was made and measured, in one line.
        made_with: dict weight set -> the packages that it was measured with, in one line.
        options: options of sample.py by which images are drawn so, where they are not its own: a
            dict such as {"steps": "10"}.
        time, command: when and by which command it was made.
        seconds: dict stage -> time that it took, such as "sampling".
    """

    weights: dict[str, Measurement]
    reference: Reference
    metric: str = "Fréchet distance"
    differences: dict[str, Difference] = field(default_factory=dict)
    extractor: Extractor | None = None
    step: int | None = bounded(0, default=None)
    protocols: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    time: str = ""
    command: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if not self.weights:
            raise ValueError("weights holds no weight set")
        first = next(iter(self.weights))
        for name, each in self.weights.items():
            if each.settings != self.settings:
                raise ValueError(f"weights.{name} was not measured in the same way as {first}")
        for told in ("protocols", "made_with"):
            for name in getattr(self, told):
                if name not in self.weights:
                    raise ValueError(f"{told}.{name} is of a weight set that was not measured")

    @property
    def settings(self) -> dict[str, Any]:
        """How the images were drawn, by name: the same for all weight sets."""
        return next(iter(self.weights.values())).settings

    @property
    def num_images(self) -> int:
        """Images drawn with each weight set."""
        return self.settings["num_images"]

    @property
    def way(self) -> str:
        """How it was measured, in words."""
        drawn = self.settings
        parts = [f"{self.num_images:,} images"]
        parts += [f"by {drawn['sampler']}"] if drawn["sampler"] else []
        parts += [f"seed {drawn['seed']}"] if drawn["seed"] is not None else []
        parts += [f"guidance {drawn['guidance']:g}"] if drawn["guidance"] not in (None, 1) else []
        parts += [f"guided by {drawn['guide']}"] if drawn["guide"] else []
        if drawn["guidance_rescale"]:
            parts.append(f"rescaled by {drawn['guidance_rescale']:g}")
        if drawn["guidance_high"]:
            parts.append(f"at timesteps {drawn['guidance_low']} to {drawn['guidance_high']}")
        parts += [f"in {drawn['dtype']}"] if drawn["dtype"] not in (None, "float32") else []
        parts += [f"against {self.reference.split}"] if self.reference.split != "train" else []
        parts += [f"step {self.step:,}"] if self.step is not None else []
        return ", ".join([self.metric, *parts])

    @property
    def headings(self) -> dict[str, str]:
        """Dict number -> heading of its column, which says what the distance is measured to."""
        found = {key: each.column for key, each in metrics.every_number().items()}
        these = "these " if self.reference.split == "held-out" else ""
        return found | {"frechet": f"to {these}{self.reference.images}"}

    @property
    def notes(self) -> list[str]:
        """What is to be said of the weight sets side by side, a line each."""
        return [*self._alike(), *self._by_others()]

    def _by_others(self) -> list[str]:
        """Which weight sets were measured with other packages, where that is so."""
        groups: dict[str, list[str]] = {}
        for name, packages in self.made_with.items():
            groups.setdefault(packages, []).append(name)
        if len(groups) < 2:
            return []
        told = "; ".join(f"{', '.join(group)} with {each}" for each, group in groups.items())
        return [f"Measured with different packages, by which numbers may differ: {told}."]

    def _alike(self) -> list[str]:
        """A line for each group of averages that drew the same images, as their numbers say."""
        groups: dict[tuple, list[str]] = {}
        for name, each in self.weights.items():
            numbers = (each.frechet, *each.numbers.values())
            groups.setdefault(numbers, []).append(name)
        return [
            f"{', '.join(group)}: equal to the last digit, as are their images: these averages had "
            "the same decay at every step so far (a warm-up that none of them has outgrown, say), "
            "or the weights have hardly moved."
            for group in groups.values()
            if len(group) > 1 and names.RAW not in group
        ]

    def compares_with(self, other: Evaluation) -> bool:
        """Whether the numbers of two evaluations were got in the same way from the same step."""
        return self.key == other.key

    @property
    def key(self) -> str:
        """All that the numbers depend on but the weight set, as one text."""
        reference = dataclasses.replace(self.reference, **_FOLLOWS)
        settings = {name: value for name, value in self.settings.items() if value is not None}
        return repr((self.step, self.metric, self.extractor, reference, settings))

    def after(self, known: Evaluations | None) -> Evaluations:
        """The `Evaluations` of a run that had these (or None) and made this one."""
        return known.with_new(self) if known else Evaluations(self, (self,))

    def joined(self, earlier: Evaluation) -> Evaluation:
        """This evaluation with the weight sets and numbers that an earlier one of its kind adds."""
        weights = {
            name: _filled(each, earlier.weights.get(name)) for name, each in self.weights.items()
        }
        return dataclasses.replace(
            self,
            weights=_in_order(earlier.weights | weights),
            differences=_in_order(earlier.differences | self.differences),
            protocols=_in_order(earlier.protocols | self.protocols),
            made_with=_in_order(earlier.made_with | self.made_with),
        )


@dataclass(frozen=True)
class Evaluations:
    """All evaluations of a run.

    Attributes:
        current: the newest, with all that was measured in the same way.
        made: each one as it was made, oldest first.
        tunings: the searches for the best width of an average, oldest first.
    """

    current: Evaluation
    made: tuple[Evaluation, ...] = ()
    tunings: tuple[Tuning, ...] = ()

    def __post_init__(self):
        known = self.current.weights
        for name in self.current.differences:
            if name not in known or names.RAW not in known:
                raise ValueError(f"differences.{name} is of weight sets that were not measured")

    @property
    def weight_sets(self) -> tuple[str, ...]:
        """All weight sets that were measured, in any way."""
        each = (self.current, *self.made)
        return tuple(_in_order({name: None for one in each for name in one.weights}))

    @classmethod
    def read(cls, path: Path) -> Evaluations | None:
        """What an evaluation.json holds, or None where there is no such file.

        Raises:
            UsageError: the file is damaged, or holds what cannot be right.
        """
        if not path.is_file():
            return None
        try:
            values = files.read_record(path, parse_constant=no_number)
            if not isinstance(values, dict):
                raise ValueError("it is no dictionary")
            each = made(tuple[Evaluation, ...], values.pop("evaluations", []), "evaluations")
            tunings = made(tuple[Tuning, ...], values.pop("tunings", []), "tunings")
            return cls(build(Evaluation, values), each, tunings)
        except ValueError as error:
            raise UsageError(
                f"{path} is no evaluation of this version ({error}): remove it, and evaluate the "
                "run again."
            ) from error

    def write(self, path: Path) -> None:
        """Writes evaluation.json, whole or not at all."""
        values = _plain(self.current) | {"evaluations": [_plain(each) for each in self.made]}
        if self.tunings:
            values["tunings"] = [dataclasses.asdict(each) for each in self.tunings]
        files.write_record(path, values)

    def with_new(self, new: Evaluation) -> Evaluations:
        """These evaluations and a newer one."""
        current = new
        for each in (self.current, *reversed(self.made)):
            if each.compares_with(new):
                current = current.joined(each)
        return dataclasses.replace(self, current=current, made=(*self.made, new))

    def with_tuning(self, tuning: Tuning) -> Evaluations:
        """These evaluations and a newer `Tuning`."""
        return dataclasses.replace(self, tunings=(*self.tunings, tuning))

    @property
    def apart(self) -> list[Evaluation]:
        """What was measured otherwise than the newest: an `Evaluation` a way, newest first."""
        found = []
        for each in reversed(self.made):
            if each.compares_with(self.current):
                continue
            place = next((i for i, other in enumerate(found) if other.compares_with(each)), None)
            if place is None:
                found.append(each)
            else:
                found[place] = found[place].joined(each)
        return found


def _filled(new, earlier):
    """A measurement, with what only an earlier one of the same weight set knows."""
    if earlier is None:
        return new
    known = {key: value for key, value in _flat(new).items() if value is not None}
    return Measurement.of(**_flat(earlier) | known)


def _other_numbers():
    """Dict name -> `Number` of what the metrics give besides the Fréchet distance."""
    return {key: each for key, each in metrics.every_number().items() if key != "frechet"}


def _plain(evaluation):
    """An `Evaluation` as JSON has it: the numbers of a weight set beside its settings."""
    rows = {name: _flat(each) for name, each in evaluation.weights.items()}
    for row in rows.values():
        for name in _GUIDED:
            if row[name] is None:
                del row[name]
    values = dataclasses.asdict(evaluation) | {"weights": rows}
    for name in ("protocols", "made_with", "options", "seconds"):
        if not values[name]:
            del values[name]
    if values["reference"]["floor"] is None:
        del values["reference"]["floor"]
    return values


def _flat(measurement):
    """Dict of the settings of a `Measurement` and the numbers that it has, in their order."""
    flat = {}
    for name, value in dataclasses.asdict(measurement).items():
        if name == "numbers":
            flat |= {key: each for key, each in value.items() if each is not None}
        else:
            flat[name] = value
    return flat


def _in_order(weight_sets):
    """The raw weights first, then averages, then what was synthesised."""

    def place(name):
        return name != names.RAW, names.synthesis(name) is not None

    return {name: weight_sets[name] for name in sorted(weight_sets, key=place)}
