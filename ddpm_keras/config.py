"""Options of the command line, their presets, and the parser made from them.

Imports neither Keras nor TensorFlow, so that `--help` and errors in the options come at once.
"""

import argparse
import dataclasses
import difflib
import math
import re
import typing
from dataclasses import dataclass, field

EMA_SCHEDULES = ("constant", "warmup", "step", "ramp")
SAMPLERS = ("ddpm", "ddim", "dpm")


class UsageError(ValueError):
    """The command line or the input is wrong. The message is one line that names the cure."""


def option(default, help, choices=None, at_least=None, below=None, positional=False):
    """A dataclass field that is also an option of the command line.

    Args:
        default: its value where neither a preset nor the command line gives one.
        help: one line, with the unit.
        choices: the allowed values, or None.
        at_least: smallest allowed number, or None.
        below: numbers must be smaller than this, or None.
        positional: given by place, not by name.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "at_least": at_least,
        "below": below,
        "positional": positional,
    }
    return field(default=default, metadata=metadata)


# fmt: off
@dataclass(frozen=True)
class TrainOptions:
    """What `train.py` can be told. A run's `config.json` holds the values that were used."""

    preset: str = option("", "settings to start from (default: the dataset's, else 'images')")
    # data
    dataset: str = option("digits", "digits, mnist5k, a folder of images, or a TFDS name: cifar10")
    image_size: int = option(0, "side in pixels to resize and crop to; 0: as it is", at_least=0)
    data_dir: str = option("", "where TensorFlow Datasets keeps prepared data (default: its own)")
    unreadable: str = option("refuse", "an unreadable image file is", choices=("refuse", "skip"))
    flip: bool = option(False, "mirror training images at random")
    conditional: bool = option(False, "learn the classes too, for guidance in sampling")
    # network
    base_channels: int = option(32, "width of the first level", at_least=1)
    channel_multipliers: tuple[int, ...] = option((1, 2), "width of each level", at_least=1)
    num_res_blocks: int = option(1, "residual blocks a level", at_least=1)
    attention_resolutions: tuple[int, ...] = option((4,), "sides that get attention", at_least=1)
    dropout: float = option(0.0, "dropout rate", at_least=0, below=1)
    # diffusion
    schedule: str = option("linear", "noise schedule", choices=("linear", "cosine", "sigmoid"))
    timesteps: int = option(1000, "diffusion timesteps T", at_least=2)
    prediction: str = option("epsilon", "what is predicted", choices=("epsilon", "sample", "v"))
    weighting: str = option("simple", "loss weight by timestep", choices=("simple", "min_snr"))
    # averages
    ema: tuple[float, ...] = option((0.99, 0.999), "decays; the last is 'ema'", at_least=0, below=1)
    ema_schedule: tuple[str, ...] = option(("warmup",), "how decays begin", choices=EMA_SCHEDULES)
    # optimisation
    steps: int = option(2000, "optimizer steps in all", at_least=1)
    batch_size: int = option(64, "images a step", at_least=1)
    accumulate: int = option(1, "micro-batches a step is split into, to save memory", at_least=1)
    learning_rate: float = option(1e-3, "Adam's learning rate after warm-up", at_least=0)
    warmup_steps: int = option(100, "steps in which the learning rate rises from 0", at_least=0)
    clip_norm: float = option(1.0, "global norm the gradient is clipped to", at_least=0)
    precision: str = option("auto", "of the computation; weights and averages stay float32",
                            choices=("auto", "float32", "bfloat16", "float16"))
    strategy: str = option("none", "devices", choices=("none", "mirrored", "multiworker"))
    seed: int = option(0, "of weights, data order and noise", at_least=0)
    # the run directory
    run_dir: str = option("", "where to write (default: runs/DATASET, numbered)")
    resume: bool = option(False, "continue the run in --run-dir (default: the newest in runs/)")
    log_every: int = option(20, "steps a row of history.csv", at_least=1)
    epoch_steps: int = option(250, "steps between pictures, validations, checkpoints", at_least=1)
    validation_images: int = option(128, "held-out images for each epoch's loss", at_least=1)
    keep: int = option(2, "checkpoints kept", at_least=1)
    snapshots: int = option(16, "snapshots for averages after the fact; 0: none", at_least=0)
    quality_every: int = option(4, "epochs between measures of quality; 0: never", at_least=0)
    quality_images: int = option(250, "images drawn for each of them", at_least=4)
    # the end
    evaluate: bool = option(True, "evaluate every weight set at the end and write the report")
    num_images: int = option(1437, "images to generate for each weight set", at_least=2)
    sampler: str = option("ddim", "sampler of pictures and evaluation", choices=SAMPLERS)
    sampling_steps: int = option(50, "its steps", at_least=1)


@dataclass(frozen=True)
class SampleOptions:
    """What `sample.py` can be told."""

    source: str = option("", "a run directory or a .keras file", positional=True)
    from_diffusers: str = option("", "a diffusers folder (config.json and weights) instead")
    weights: str = option("ema", "weight set: raw, ema, ema_0.999 ...")
    num: int = option(64, "images to draw", at_least=1)
    out: str = option("samples.png", "a .png grid, an .npz of uint8 NHWC, or a folder of PNGs")
    sampler: str = option("ddim", "sampler", choices=SAMPLERS)
    steps: int = option(50, "its steps", at_least=1)
    labels: tuple[int, ...] = option((), "classes to draw, in turn (conditional model)", at_least=0)
    guidance: float = option(1.0, "classifier-free guidance; 1 is none", at_least=0)
    batch_size: int = option(64, "images at a time; does not change them", at_least=1)
    seed: int = option(0, "of the noise", at_least=0)


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate.py` can be told."""

    runs: tuple[str, ...] = option((), "run directories", positional=True)
    images: str = option("", "a folder of images to judge, instead of runs")
    against: str = option("", "the folder of real images to judge them by")
    extractor: str = option("auto", "features: auto, classifier, inception, inception75, or a file "
                            "of the FID network's weights")
    reference: str = option("train", "real images: train, held-out, or an .npz of mu and sigma")
    weights: tuple[str, ...] = option((), "weight sets (default: all)")
    sigma_rel: tuple[float, ...] = option((), "widths of averages to synthesise", at_least=0)
    decay: tuple[float, ...] = option((), "decays of averages to synthesise", at_least=0, below=1)
    bits_per_dim: bool = option(False, "also bound the likelihood of held-out images (slow)")
    num_images: int = option(0, "images a weight set (default: the run's)", at_least=0)
    sampler: str = option("", "sampler (default: the run's)", choices=SAMPLERS)
    steps: int = option(0, "its steps (default: the run's)", at_least=0)
    guidance: float = option(1.0, "classifier-free guidance; 1 is none", at_least=0)
    batch_size: int = option(256, "images at a time; does not change them", at_least=1)
    seed: int = option(0, "of the noise, the same for every weight set", at_least=0)


# fmt: on

# What the published configurations share (Ho et al. 2020, appendix B).
_PUBLISHED = {
    "batch_size": 128,
    "base_channels": 128,
    "num_res_blocks": 2,
    "attention_resolutions": (16,),
    "dropout": 0.1,
    "flip": True,
    "ema": (0.9999,),
    "ema_schedule": ("constant",),
    "learning_rate": 2e-4,
    "warmup_steps": 5000,
    "log_every": 100,
    "epoch_steps": 5000,
    "validation_images": 5000,
    "num_images": 50_000,
}

# Each preset: what it changes, and what to expect of it (command, hardware, time, score).
PRESETS = {
    "digits": {},
    "images": {
        "batch_size": 128,
        "base_channels": 64,
        "channel_multipliers": (1, 2, 2),
        "num_res_blocks": 2,
        "attention_resolutions": (),
        "dropout": 0.1,
        "flip": True,
        "ema": (0.999, 0.9999),
        "steps": 50_000,
        "learning_rate": 2e-4,
        "warmup_steps": 1000,
        "log_every": 50,
        "epoch_steps": 1000,
        "validation_images": 1000,
        "num_images": 5000,
    },
    "mnist": {
        "batch_size": 128,
        "channel_multipliers": (1, 2, 2),
        "attention_resolutions": (7,),
        "dropout": 0.1,
        "ema": (0.99, 0.999, 0.9999),
        "steps": 10_000,
        "learning_rate": 5e-4,
        "epoch_steps": 500,
        "validation_images": 500,
        "num_images": 4000,
    },
    "cifar10": _PUBLISHED
    | {
        "channel_multipliers": (1, 2, 2, 2),
        "steps": 800_000,
        "sampler": "ddpm",
        "sampling_steps": 1000,
    },
    "celeba64": _PUBLISHED
    | {
        "dataset": "celeb_a",
        "image_size": 64,
        "channel_multipliers": (1, 2, 2, 2, 4),
        "steps": 500_000,
        "sampling_steps": 100,
    },
}
_PRESET_OF_DATASET = {"mnist5k": "mnist", "celeb_a": "celeba64"}


def train_options(argv):
    """Options of `train.py` from its arguments: defaults, then the preset, then what was given.

    Args:
        argv: the arguments, without the program's name.

    Returns:
        `(TrainOptions, given)`: the options, and the dict of those that the command line named.

    Raises:
        UsageError: an argument is wrong; the message names it and the cure.
    """
    given = parse(TrainOptions, argv, "train.py", "Train DDPM and its averages; see README.md.")
    dataset = given.get("dataset", "digits")
    implied = dataset if dataset in PRESETS else _PRESET_OF_DATASET.get(dataset, "images")
    preset = given.get("preset", implied)
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: choose from {', '.join(PRESETS)}.")
    own_dataset = {} if preset == "images" else {"dataset": preset}
    values = {"preset": preset} | own_dataset | PRESETS[preset] | given
    for name, example in (("ema", "0.999"), ("ema_schedule", "warmup")):
        if not values.get(name, True):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} needs at least one value, such as {flag} {example}.")
    return TrainOptions(**values), given


def sample_options(argv):
    """`SampleOptions` from the arguments of `sample.py`."""
    options = SampleOptions(**parse(SampleOptions, argv, "sample.py", "Draw images from a model."))
    if not options.out:
        raise UsageError("--out is empty; give a .png, an .npz or a folder.")
    return options


def evaluate_options(argv):
    """`EvaluateOptions` from the arguments of `evaluate.py`.

    Raises:
        UsageError: an argument is wrong, or there is nothing to evaluate.
    """
    given = parse(EvaluateOptions, argv, "evaluate.py", "Measure every weight set of runs.")
    options = EvaluateOptions(**given)
    if options.num_images == 1:
        raise UsageError("--num-images must be at least 2 (0: the run's own number), not 1.")
    if bool(options.images) != bool(options.against):
        raise UsageError("--images and --against go together: the images to judge, the real ones.")
    if bool(options.runs) == bool(options.images):
        raise UsageError(
            "name run directories to evaluate, such as runs/digits, or --images with --against."
        )
    return options


def run_name(dataset):
    """Name of a run's directory: that of the data set, or of the folder of images."""
    return re.sub(r"[^\w.-]+", "-", dataset.rstrip("/").rsplit("/", 1)[-1]) or "run"


# What may differ when a run is continued: nothing that the weights depend on.
_FREE_ON_RESUME = {"resume", "run_dir", "steps", "log_every", "keep", "evaluate", "data_dir"}
_FREE_ON_RESUME |= {"validation_images"}


def resumed_options(stored, given):
    """Options of a run that is continued: its own, and those that may change.

    Args:
        stored: "options" of the run's config.json.
        given: options that the command line named.

    Raises:
        UsageError: the command line changes what the weights depend on.
    """
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    for name in given.keys() - _FREE_ON_RESUME:
        if given[name] != stored.get(name):
            raise UsageError(
                f"--{name.replace('_', '-')} was {stored.get(name)} in this run and cannot change "
                "on --resume; leave it out, or begin a new run."
            )
    free = {name: value for name, value in given.items() if name in _FREE_ON_RESUME}
    return TrainOptions(**(stored | free | {"run_dir": stored["run_dir"], "resume": True}))


def parse(options, argv, program, description):
    """Parses `argv` by the fields of the dataclass `options`.

    Returns:
        A dict of the options that were given; the dataclass supplies the rest.

    Raises:
        UsageError: in one line, naming the option and what it accepts.
    """
    parser = _Parser(
        prog=program,
        description=description,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(options)
    fields = dataclasses.fields(options)
    for each in fields:
        _add_argument(parser, each, hints[each.name])
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [
            f"--{each.name.replace('_', '-')}" for each in fields if not each.metadata["positional"]
        ]
        close = difflib.get_close_matches(unknown[0], names, 1) if unknown[0][:2] == "--" else []
        cure = f"did you mean {close[0]}?" if close else f"see {program} --help."
        raise UsageError(f"unknown argument {unknown[0]}; {cure}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(values).items()}
    for each in fields:
        if each.name in values:
            _check(each, values[each.name])
    return values


class _Parser(argparse.ArgumentParser):
    """Reports errors by raising, so that a wrong command line takes one line."""

    def error(self, message):
        raise UsageError(message.removeprefix("argument ") + f"; see {self.prog} --help.")


def _add_argument(parser, each, hint):
    """Adds one field: booleans get --name and --no-name, tuples take several values."""
    several = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if several else hint
    default = " ".join(map(str, each.default)) if several else each.default
    shown = f" (default: {default})" if default not in ("", 0, False) else ""
    arguments = {"help": (each.metadata["help"] + shown).replace("%", "%%")}
    if each.metadata["positional"]:
        nargs = "*" if several else "?"
        parser.add_argument(each.name, nargs=nargs, **arguments)
        return
    if kind is bool:
        arguments["action"] = argparse.BooleanOptionalAction
    else:
        arguments |= {"type": kind, "choices": each.metadata["choices"]}
        arguments["metavar"] = None if each.metadata["choices"] else kind.__name__.upper()
    if several:
        arguments["nargs"] = "*"
    parser.add_argument(f"--{each.name.replace('_', '-')}", **arguments)


def _check(each, value):
    """Refuses numbers outside the field's range."""
    at_least, below = each.metadata["at_least"], each.metadata["below"]
    if at_least is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if not at_least <= number < (math.inf if below is None else below):
            bound = f"at least {at_least}" + (f" and below {below}" if below is not None else "")
            raise UsageError(f"--{each.name.replace('_', '-')} must be {bound}, not {number}.")
