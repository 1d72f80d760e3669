"""What the commands can be told: one field an option.

Imports neither Keras nor TensorFlow, so that `--help` and errors in the options come at once.
"""

import os
import re
from dataclasses import dataclass

from .. import choices, names, pretrained
from ..errors import UsageError
from ..kinds import WIDEST
from . import config_file, consistency, exported, rules
from .consistency import SEEDS
from .parser import option, parse, read_stored
from .presets import PRESETS, preset_of

# What a network may take of the options; one that does not take a setting refuses it.
NETWORK_SETTINGS = (
    "base_channels",
    "channel_multipliers",
    "num_res_blocks",
    "attention_resolutions",
    "dropout",
    "groups",
    "recompute",
)
_UNTRAINED = {0: "nothing is trained before the first step; name a step that is stored."}


# fmt: off
@dataclass(frozen=True)
class TrainOptions:
    """What `train.py` can be told. A run's `config.json` holds the values that were used."""

    preset: str = option("", "settings to start from (default: the dataset's, else 'images')")
    config: str = option("", "a YAML or JSON file of options, or a run's config.json; the command "
                         "line wins over it, and it over the preset", path=True)
    dataset: str = option("digits", "digits, mnist5k, a folder or .npz of images, TFDS: cifar10",
                          path=True, section="data")
    image_size: int = option(0, "side in pixels to resize and crop to; 0: as it is", at_least=0)
    data_dir: str = option("", "where TensorFlow Datasets keeps prepared data (default: its own)",
                           path=True)
    data_cache: str = option("", "where decoded images are kept for the next time (default: "
                             "images in the cache folder)", path=True)
    unreadable: str = option("refuse", "what to do with an unreadable image file",
                             choices=choices.UNREADABLE)
    flip: bool = option(False, "mirror training images at random")
    conditional: bool = option(False, "learn the classes too, for guidance in sampling")
    network: str = option("unet", "kind of network", choices=choices.NETWORKS, section="network")
    base_channels: int = option(32, "width of the first level", at_least=1)
    channel_multipliers: tuple[int, ...] = option((1, 2), "width of each level", at_least=1)
    num_res_blocks: int = option(1, "residual blocks a level", at_least=1)
    attention_resolutions: tuple[int, ...] = option((4,), "sides that get attention", at_least=1,
                                                     distinct=True, optional=True)
    dropout: float = option(0.0, "dropout rate", at_least=0, below=1)
    groups: int = option(0, "groups of each normalisation; 0: a quarter of its channels, 32 at "
                         "most", at_least=0)
    recompute: bool = option(False, "keep less for the gradients and compute it again: less "
                             "memory, more time")
    schedule: str = option("linear", "noise schedule, or linear:zero_terminal_snr=true",
                           named=choices.SCHEDULES, elsewhere={"timesteps": "--timesteps"},
                           section="diffusion")
    timesteps: int = option(1000, "diffusion timesteps T", at_least=2)
    prediction: str = option("epsilon", "what is predicted", choices=choices.PREDICTIONS)
    weighting: str = option("simple", "loss weight by timestep", choices=choices.WEIGHTINGS)
    ema: tuple[float, ...] = option((0.99, 0.999), "decays; the last is 'ema'", at_least=0, below=1,
                                    distinct=True, section="averages")
    ema_schedule: tuple[str, ...] = option(("warmup",), "how decays begin; step has none",
                                           choices=choices.EMA_SCHEDULES, distinct=True)
    ema_rules: tuple[str, ...] = option((), "averages by any rule instead, such as "
                                        + " ".join(rules.EXAMPLES.values()))
    steps: int = option(2000, "optimizer steps in all", at_least=1, section="optimisation")
    batch_size: int = option(64, "images a step", at_least=1)
    accumulate: int = option(1, "micro-batches a step is split into, to save memory", at_least=1)
    optimizer: str = option("adam", "of Keras; epsilon is 1e-8 where it has one",
                            choices=choices.OPTIMIZERS, refused=choices.OPTIMIZERS_REFUSED)
    learning_rate: float = option(1e-3, "learning rate after warm-up", above=0)
    warmup_steps: int = option(100, "steps in which the learning rate rises from 0", at_least=0)
    lr_schedule: str = option("constant", "the learning rate after that; all others end at 0",
                              choices=choices.LR_SCHEDULES)
    lr_decay_share: float = option(0.2, "share of the steps in which wsd lets it fall", above=0,
                                   below=1)
    lr_decay: str = option("linear", "the curve in which wsd lets it fall; sqrt: 1 - sqrt(s)",
                           choices=choices.LR_DECAYS)
    clip_norm: float = option(1.0, "global norm the gradient is clipped to; 0: none", at_least=0)
    precision: str = option("auto", "of the computation; weights and averages stay float32",
                            choices=choices.PRECISIONS)
    strategy: str = option("none", "devices", choices=choices.STRATEGIES)
    seed: int = option(0, "of weights, data order and noise", at_least=0, below=SEEDS)
    run_dir: str = option("", "where to write (default: runs/DATASET, numbered)", path=True,
                          section="the run directory")
    resume: bool = option(False, "continue the run in --run-dir (default: the newest in runs/)")
    logger: tuple[str, ...] = option(("tensorboard",), "where each epoch's numbers go besides "
                                     "history.csv (csv: nowhere else)", choices=choices.LOGGERS,
                                     distinct=True)
    log_every_steps: int = option(20, "steps a row of history.csv", at_least=1,
                                  formerly="log_every")
    epoch_steps: int = option(250, "steps between pictures, validations, checkpoints", at_least=1)
    validation_images: int = option(128, "held-out images for each epoch's loss", at_least=1)
    keep: int = option(2, "checkpoints kept", at_least=1)
    snapshots: int = option(16, "snapshots for averages after the fact; 0: none", at_least=0)
    quality_every_epochs: int = option(4, "epochs between measures of quality; 0: never",
                                       at_least=0, formerly="quality_every")
    quality_images: int = option(250, "images drawn for each of them", at_least=4)
    evaluate: bool = option(True, "evaluate every weight set at the end and write the report",
                            section="the end")
    num_images: int = option(1437, "images to generate for each weight set", at_least=2)
    sampler: str = option("ddim", "sampler of the evaluation, with arguments as in ddim:eta=0.5; "
                          "pictures and quality in training take 20 steps of ddim, for speed",
                          named=choices.SAMPLERS, elsewhere={"steps": "--sampling-steps"})
    sampling_steps: int = option(50, "its steps", at_least=1)

    @property
    def decay_steps(self):
        """The last steps of the run, in which the learning rate falls."""
        if self.lr_schedule == "wsd":
            return max(1, round(self.lr_decay_share * self.steps))
        return 0 if self.lr_schedule == "constant" else self.steps - self.warmup_steps


@dataclass(frozen=True)
class SampleOptions:
    """What `sample.py` can be told."""

    source: str = option("", "a run directory or a .keras file", positional=True, path=True)
    from_diffusers: str = option("", "a diffusers folder (config.json and weights) instead",
                                 path=True)
    pretrained: str = option("", "a model that comes with the package instead",
                             choices=pretrained.names())
    weights: str = option("ema", "weight set: raw, ema, ema_0.999 ... (of diffusers: raw or ema)",
                          section="what to draw")
    sigma_rel: float = option(0.0, "width of an average to synthesise instead", above=0,
                              below=WIDEST)
    decay: float = option(0.0, "decay of an average to synthesise instead", above=0, below=1)
    step: int = option(0, "stored step to draw from (default: the last)", at_least=1,
                       refused=_UNTRAINED)
    num: int = option(64, "images to draw", at_least=1)
    out: str = option("samples.png", "a .png grid, an .npz of uint8 NHWC, or a new folder of PNGs",
                      path=True)
    export: str = option("", "draw nothing: write the sampler as a SavedModel, with seeds as input "
                         "(a new folder), or the network (a name ending in .keras)", path=True)
    format: str = option("", "of --export (default: keras or saved_model, by the name)",
                         choices=choices.FORMATS)
    sampler: str = option("ddim", "sampler, with arguments as in ddim:eta=0.5:spacing=leading",
                          named=choices.SAMPLERS, elsewhere={"steps": "--steps"},
                          section="how to draw it")
    steps: int = option(0, "its steps (default: 50, or the timesteps if fewer)", at_least=1)
    labels: tuple[int, ...] = option((), "classes to draw, in turn (conditional model)", at_least=0)
    guidance: float = option(1.0, "strength of guidance; 1 is none", at_least=0)
    guide: str = option("", "weight set to guide by (default: the network without label)")
    guidance_rescale: float = option(0.0, "share in which guided images keep their contrast",
                                     at_least=0, at_most=1)
    guidance_interval: tuple[int, ...] = option((), "timesteps LOW HIGH to guide in (default: all)",
                                                at_least=0)
    batch_size: int = option(64, "images at a time; does not change them", at_least=1)
    precision: str = option("", "of the computation (default: the model's)",
                            choices=choices.PRECISIONS)
    strategy: str = option("none", "devices; images are the same on any",
                           choices=choices.STRATEGIES)
    seed: int = option(0, "of the noise", at_least=0, below=SEEDS)
    progress: bool = option(False, "show how they come out of noise: --out a .png, .webp or .gif",
                            section="something else than images from noise")
    interpolate: tuple[str, ...] = option((), "two seeds, or two image files, to go between",
                                          path=True, distinct=True)
    encode: bool = option(False, "go between two files by the noise that DDIM draws them from")
    from_image: str = option("", "an image file to draw others like it", path=True)
    strength: float = option(0.6, "steps made of --from-image or of files to go between: 0 to 1",
                             at_least=0, at_most=1)
    inpaint: str = option("", "an image file to paint a part of anew", path=True)
    mask: str = option("", "an image file, white where --inpaint paints", path=True)

    @property
    def interpolates_seeds(self):
        """Whether what --interpolate names are seeds, not files."""
        return all(map(str.isdecimal, self.interpolate))

    @property
    def weight_set(self):
        """The full name of the weight set to draw with."""
        name = self.weights
        if self.sigma_rel:
            name = names.of_width(self.sigma_rel)
        elif self.decay:
            name = names.of_decay(names.number(self.decay))
        return names.at_step(name, self.step or None)


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate.py` can be told."""

    runs: tuple[str, ...] = option((), "run directories", positional=True, path=True)
    images: str = option("", "a folder of images to judge, instead of runs", path=True,
                         section="two folders instead of runs")
    against: str = option("", "the folder of real images to judge them by", path=True)
    extractor: str = option("auto", f"features: auto, {', '.join(choices.EXTRACTORS)}, or "
                            "the file of the FID network's weights", path=True,
                            section="the measure")
    reference: str = option("train", f"real images: {', '.join(choices.REFERENCES)}, or an .npz of "
                            "mu and sigma", path=True)
    weights: tuple[str, ...] = option((), "weight sets (default: all)", distinct=True,
                                      section="weight sets")
    sigma_rel: tuple[float, ...] = option((), "widths of averages to synthesise", above=0,
                                          below=WIDEST, distinct=True)
    decay: tuple[float, ...] = option((), "decays of averages to synthesise", at_least=0, below=1,
                                      distinct=True)
    step: int = option(0, "stored step to evaluate (default: the last)", at_least=1,
                       refused=_UNTRAINED)
    tune_ema: bool = option(False, "search the best width (sigma_rel), on images of another seed")
    tune_metric: str = option("frechet", "the number that it is to be best by: frechet, kid ...")
    bits_per_dim: bool = option(False, "also bound the likelihood of held-out images (slow)")
    num_images: int = option(0, "images a weight set (default: the run's)", at_least=2,
                             section="drawing")
    sampler: str = option("", "sampler, with arguments as in dpm:order=3 (default: the run's)",
                          named=choices.SAMPLERS, elsewhere={"steps": "--steps"})
    steps: int = option(0, "its steps (default: the run's)", at_least=1)
    guidance: tuple[float, ...] = option((1.0,), "strength of guidance; 1 is none; several to tune",
                                         at_least=0, distinct=True)
    guide: str = option("", "weight set to guide by (default: the network without label)")
    guidance_rescale: float = option(0.0, "share in which guided images keep their contrast",
                                     at_least=0, at_most=1)
    guidance_interval: tuple[int, ...] = option((), "timesteps LOW HIGH to guide in (default: all)",
                                                at_least=0)
    batch_size: int = option(256, "images at a time; does not change them", at_least=1)
    data_cache: str = option("", "where decoded images are kept (default: the run's)", path=True)
    precision: str = option("", "of the computation (default: the run's)",
                            choices=choices.PRECISIONS)
    strategy: str = option("none", "devices; images are the same on any",
                           choices=choices.STRATEGIES)
    seed: int = option(0, "of the noise, the same for every weight set", at_least=0, below=SEEDS)

    @property
    def synthesised(self):
        """The names of the averages to synthesise."""
        decays = map(names.number, self.decay)
        return (*map(names.of_width, self.sigma_rel), *map(names.of_decay, decays))


@dataclass(frozen=True)
class ReportOptions:
    """What `ddpm-keras report` can be told."""

    runs: tuple[str, ...] = option((), "run directories", positional=True, path=True)


# fmt: on


def train_options(argv):
    """Options of `train.py`: defaults, over them the preset, the file, the command line.

    Args:
        argv: the arguments, without the program's name.

    Returns:
        `(TrainOptions, given)`: the options, and the dict of those that were named by the command
        line or the file (but not by a run's config.json, which names all).

    Raises:
        UsageError: an argument is wrong; the message names it and the cure.
    """
    given = parse(TrainOptions, argv, "train", "Train DDPM and its averages; see README.md.")
    file, names_all = _file_of(given)
    if names_all and "preset" in given:
        raise UsageError(
            "--preset means nothing beside --config of a run, which names every option; leave it "
            "out."
        )
    chosen = file | given
    if "ema_rules" in chosen:
        chosen["ema_rules"] = rules.split(chosen["ema_rules"])
    if chosen.get("data_cache"):  # which a run finds again from any working directory
        chosen["data_cache"] = os.path.abspath(os.path.expanduser(chosen["data_cache"]))
    given = {name: chosen[name] for name in (given if names_all else chosen)}
    dataset = chosen.get("dataset", "digits")
    preset = chosen.get("preset") or preset_of(dataset, chosen.get("image_size", 0))
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: choose from {', '.join(PRESETS)}.")
    own_dataset = {} if preset == "images" else {"dataset": preset}
    values = own_dataset | PRESETS[preset] | chosen | {"preset": preset}
    if "ema_rules" in chosen:  # which are all averages
        values |= {"ema": chosen.get("ema", ()), "ema_schedule": chosen.get("ema_schedule", ())}
    if "sampling_steps" not in chosen:
        values["sampling_steps"] = _usual_steps(values)
    options = TrainOptions(**values)
    if not options.resume:
        consistency.check_training(options, given)
    return options, given


# Averages are named in one of two ways.
_AVERAGES = {"ema", "ema_schedule"}, {"ema_rules"}


def _file_of(given):
    """The options of the file that `--config` names, and whether it names all, as of a run.

    What names averages is left out of it where the command line names others.
    """
    if "config" not in given:
        return {}, False
    if given.get("resume"):
        raise UsageError(
            "--config means nothing for --resume, which keeps the run's; leave it out."
        )
    file, names_all = config_file.read(given["config"], TrainOptions, stored_options)
    replaced = {
        name
        for way, other in (_AVERAGES, _AVERAGES[::-1])
        for name in other
        if way & given.keys() or not file.get(name)
    }
    return {name: value for name, value in file.items() if name not in replaced}, names_all


def _usual_steps(values):
    """Sampling steps where none were asked for: the default, or as many as the schedule has."""
    names = ("sampling_steps", "timesteps")
    return min(values.get(name, getattr(TrainOptions, name)) for name in names)


def sample_options(argv):
    """`SampleOptions` from the arguments of `sample.py`.

    Raises:
        UsageError: an argument is wrong, or there is not one source.
    """
    given = parse(SampleOptions, argv, "sample", "Draw images from a model.")
    options = SampleOptions(**consistency.usual_of_mode(given) | given)
    exported.check(options, given)
    consistency.check_one_weight_set(given)
    consistency.check_mode(options, given)
    sources = (options.source, options.from_diffusers, options.pretrained)
    if len(list(filter(None, sources))) != 1:
        raise UsageError(
            "name one source: a run directory or .keras file, --from-diffusers with a folder, or "
            f"--pretrained {' or '.join(pretrained.names())}."
        )
    if len(options.labels) > options.num:
        raise UsageError(
            f"--labels names {len(options.labels)} classes for {options.num} images; draw more "
            "with --num, or name fewer."
        )
    return options


def evaluate_options(argv):
    """`EvaluateOptions` from the arguments of `evaluate.py`.

    Raises:
        UsageError: an argument is wrong, or there is nothing to evaluate.
    """
    given = parse(EvaluateOptions, argv, "evaluate", "Measure every weight set of runs.")
    options = EvaluateOptions(**given)
    consistency.check_pair(options)
    if bool(options.runs) == bool(options.images):
        raise UsageError(
            "name run directories to evaluate, such as runs/digits, or --images with --against; "
            "after an option that takes several values, write -- before them."
        )
    consistency.check_tuning(options, given)
    consistency.check_guided(options, given)
    consistency.check_folders(options, given)
    return options


def report_options(argv):
    """`ReportOptions` from the arguments of `ddpm-keras report`."""
    words = "Write the reports of runs again."
    options = ReportOptions(**parse(ReportOptions, argv, "report", words))
    if not options.runs:
        raise UsageError("name run directories to report on, such as runs/digits.")
    return options


def run_name(dataset):
    """Name of a run's directory: that of the data set, or of the folder of images."""
    name = os.path.basename(os.path.realpath(dataset))
    return re.sub(r"[^\w.-]+", "-", name)[:100] or "run"


_BEFORE = {"groups": 32}


def stored_options(values):
    """`TrainOptions` from those of a config.json, which are checked as a command line is.

    Args:
        values: a dict. An option that it lacks is newer than the run, and has the value that stands
            for what was done before there was one: its default, unless `_BEFORE` names another.

    Raises:
        UsageError: it holds an unknown option, or a value that the option does not take.
    """
    return TrainOptions(**_BEFORE | read_stored(TrainOptions, values))
