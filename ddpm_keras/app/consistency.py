"""Options that do not go together, or not with the run they are for.

All of it is said before TensorFlow is loaded, from the options and the run's config.json alone.
"""

import itertools
import os
from pathlib import Path

from .. import choices, files
from ..errors import UsageError
from . import rules, stored_names
from .parser import flag

SEEDS = 2**32  # NumPy's generators take seeds below it


def check_training(options, given):
    """Refuses options of a new training that contradict each other or mean nothing together.

    Args:
        options: a `TrainOptions`.
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the options.
    """
    if options.accumulate > options.batch_size:
        raise UsageError(
            f"--accumulate {options.accumulate} is more micro-batches than the "
            f"{options.batch_size} images of a --batch-size; use at most {options.batch_size}."
        )
    _check_averages(options, given)
    _check_learning_rate(options, given)
    if "snapshots" in given and options.snapshots > options.steps:
        raise UsageError(
            f"--snapshots {options.snapshots} is more than one for each of {options.steps} steps; "
            f"use at most {options.steps}."
        )
    if "quality_images" in given and not options.quality_every_epochs:
        raise UsageError(
            "--quality-images means nothing with --quality-every-epochs 0; leave one out."
        )
    check_steps("sampling_steps", options.sampling_steps, options.timesteps)
    _check_data_options(options, given)


def _check_averages(options, given):
    """Refuses averages that are named in two ways, or not as rules are written."""
    if "ema" in given and options.ema_schedule == ("step",):
        raise UsageError(
            "--ema means nothing for --ema-schedule step, which has no decay; leave --ema out, or "
            "add a schedule, such as --ema-schedule step warmup."
        )
    rules.check(options.ema_rules)
    for name in ("ema", "ema_schedule"):
        if options.ema_rules and name in given:
            raise UsageError(
                f"{flag(name)} means nothing beside --ema-rules, which names every average; write "
                "it as a rule, such as warmup:0.999."
            )


def _check_learning_rate(options, given):
    """Refuses a decay of the learning rate that there is no room for, or that is none."""
    for name in ("lr_decay_share", "lr_decay"):
        if name in given and options.lr_schedule != "wsd":
            raise UsageError(
                f"{flag(name)} is for --lr-schedule wsd, not {options.lr_schedule}; leave it out."
            )
    if options.lr_schedule != "constant":
        falling = max(options.decay_steps, 1)
        if options.warmup_steps + falling > options.steps:
            raise UsageError(
                f"--lr-schedule {options.lr_schedule} falls for {falling:,} steps after "
                f"{options.warmup_steps:,} of warm-up, which {options.steps:,} steps have no room "
                "for; give a smaller --warmup-steps."
            )


def _check_data_options(options, given):
    """Refuses options for another kind of data set than the one that is named."""
    if "data_dir" in given and _is_local(options.dataset):
        raise UsageError(
            f"--data-dir is for data sets of TensorFlow Datasets, not for {options.dataset}; "
            "leave it out."
        )
    if "unreadable" in given and not os.path.isdir(_path(options.dataset)):
        raise UsageError(
            f"--unreadable is for a folder of images, not for {options.dataset}; leave it out."
        )


def check_apart(options, run):
    """Refuses a place in the folder of the images, where what is written would join them.

    Args:
        options: a `TrainOptions` of a new run.
        run: its directory.

    Raises:
        UsageError: in one line that names the option.
    """
    images = _path(options.dataset)
    if not os.path.isdir(images):
        return
    for name, place in (("run_dir", run), ("data_cache", options.data_cache)):
        if place and _lies_in(place, images):
            raise UsageError(
                f"{flag(name)} {place} lies in --dataset {options.dataset}, whose images it would "
                "be among; name another place."
            )


def _lies_in(path, folder):
    """Whether a path is a folder or leads into it; a link in a circle is where it is."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_local(dataset):
    """Whether a data set is built in, a file or a folder."""
    return not _path(dataset) or os.path.exists(_path(dataset))


def _path(dataset):
    """The path that the name of a data set may be, or "" of one that is built in."""
    from ..data import BUILT_IN

    return "" if dataset in BUILT_IN else os.path.expanduser(dataset)


def check_steps(name, steps, timesteps):
    """Refuses more sampling steps than the schedule has timesteps."""
    if steps > timesteps:
        raise UsageError(
            f"{flag(name)} {steps} is too much for {timesteps} timesteps; use at most {timesteps}."
        )


def check_one_weight_set(given):
    """Refuses several weight sets for one drawing.

    Args:
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the options.
    """
    named = [flag(name) for name in ("weights", "sigma_rel", "decay") if name in given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} each name what to draw with; give one of them.")


def check_without_run(options):
    """Refuses what only a run has stored, for another source.

    Args:
        options: a `SampleOptions`.

    Raises:
        UsageError: in one line that names the option.
    """
    for name in ("sigma_rel", "decay", "step", *([] if options.source else ["guide"])):
        if getattr(options, name):
            raise UsageError(f"{flag(name)} is for a run directory, which stores it; leave it out.")


# What sample.py draws besides images from noise, and how many of it.
_MODES = {"progress": 16, "interpolate": 9, "from_image": 16, "inpaint": 16}
ANIMATIONS = (".webp", ".gif")
# What options mean nothing without.
_NEEDS = {
    "strength": ("from_image", "interpolate"),
    "encode": ("interpolate",),
    "mask": ("inpaint",),
    "inpaint": ("mask",),
}


def usual_of_mode(given):
    """Defaults of `SampleOptions` that a mode has of its own, a dict."""
    return next(({"num": _MODES[name]} for name in _MODES if given.get(name)), {})


def check_mode(options, given):
    """Refuses options of sample.py that exclude each other, or mean nothing together.

    Args:
        options: a `SampleOptions`.
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the options.
    """
    modes = [name for name in _MODES if getattr(options, name)]
    if len(modes) > 1:
        raise UsageError(f"{flag(modes[0])} and {flag(modes[1])} exclude each other; give one.")
    for name, needed in _NEEDS.items():
        if name in given and not any(each in given for each in needed):
            raise UsageError(f"{flag(name)} needs {' or '.join(map(flag, needed))}; give it, too.")
    check_guided(options, given)
    if options.inpaint and options.sampler.partition(":")[0] not in INPAINTERS:
        raise UsageError(f"--inpaint goes back and forth: use --sampler {' or '.join(INPAINTERS)}.")
    if options.interpolate:
        _check_ends(options, given)


def check_guided(options, given):
    """Refuses how to guide where nothing is guided, and what is no interval; arguments as above."""
    for name in ("guidance_rescale", "guidance_interval"):
        if name in given and _is_unguided(options):
            raise UsageError(
                f"{flag(name)} needs a strength of guidance, such as --guidance 2; 1 is none."
            )
    if options.guidance_interval and not _is_interval(options.guidance_interval):
        raise UsageError(
            "--guidance-interval takes two timesteps, LOW below HIGH, such as 200 800."
        )


def _check_interval(options, timesteps):
    """Refuses an interval to guide in that begins where there is nothing any more."""
    if options.guidance_interval and options.guidance_interval[0] >= timesteps:
        raise UsageError(
            f"--guidance-interval begins at {options.guidance_interval[0]}, and there are the "
            f"timesteps 0 to {timesteps - 1}; give a smaller LOW."
        )


def _is_unguided(options):
    several = isinstance(options.guidance, tuple)
    return all(each == 1 for each in (options.guidance if several else (options.guidance,)))


def targets(options):
    """What `images.check_target` accepts as the --out of a `SampleOptions`, a dict."""
    if options.progress:
        return {"suffixes": (".png", *ANIMATIONS), "folder": False}
    return {"suffixes": (".png", ".npz", *ANIMATIONS)} if options.interpolate else {}


INPAINTERS = ("ddim", "ddpm")  # whose steps do not depend on the step before


def _is_interval(ends):
    return len(ends) == 2 and ends[0] < ends[1]


def _check_ends(options, given):
    """Refuses what one cannot go between."""
    ends = options.interpolate
    if len(ends) != 2 or options.num < 2:
        raise UsageError("--interpolate takes two seeds or two image files, and --num at least 2.")
    if options.interpolates_seeds and any(len(end) > 10 or int(end) >= SEEDS for end in ends):
        raise UsageError(f"--interpolate takes seeds below {SEEDS}, not {' and '.join(ends)}.")
    if len(set(map(int if options.interpolates_seeds else os.path.realpath, ends))) < 2:
        raise UsageError(
            f"--interpolate {' '.join(ends)} names one end twice, with nothing between; name two."
        )
    if options.interpolates_seeds and "strength" in given:
        raise UsageError("--strength means nothing for --interpolate of seeds; leave it out.")
    if options.encode:
        _check_encoded(options, given)


def _check_encoded(options, given):
    """Refuses what cannot be encoded, and what means nothing then."""
    if options.interpolates_seeds:
        raise UsageError("--encode is for two image files to go between, not for seeds; name two.")
    if options.sampler.partition(":")[0] != "ddim":
        raise UsageError(
            f"--encode goes back the way of --sampler ddim, not of {options.sampler}; use that."
        )
    for name in ("strength", "seed"):
        if name in given:
            raise UsageError(f"{flag(name)} means nothing with --encode, which draws no noise.")


def check_files(options):
    """Refuses image files of a `SampleOptions` that are not there."""
    paths = {name: [getattr(options, name)] for name in ("from_image", "inpaint", "mask")}
    paths["interpolate"] = [] if options.interpolates_seeds else options.interpolate
    for name, each in paths.items():
        for path in filter(None, each):
            if not os.path.isfile(path):
                raise UsageError(f"{flag(name)}: there is no file {path}; give an image file.")


def check_drawing(options, run):
    """Refuses what images of a run cannot be drawn with.

    Args:
        options: a `SampleOptions` or `EvaluateOptions`.
        run: a `Run`.

    Raises:
        UsageError: in one line that names the option and what the run has.
    """
    trained = run.options
    if options.guide:
        stored_names.check_guide(options, run)
    classes = run.data.get("num_classes") or 0
    check_source(options, run.path, trained.timesteps, classes if trained.conditional else None)


def check_source(options, source, timesteps, classes):
    """Refuses what images of a model cannot be drawn with.

    Args:
        options: a `SampleOptions` or `EvaluateOptions`.
        source: what the model is called.
        timesteps: of its schedule.
        classes: how many it knows; None of a model without.

    Raises:
        UsageError: in one line that names the option.
    """
    check_steps("steps", options.steps, timesteps)
    _check_interval(options, timesteps)
    _check_guidance(options, source, classes)
    labels = getattr(options, "labels", ())
    if labels and classes is None:
        raise UsageError(_without_classes("--labels", source))
    if labels and max(labels) > classes:
        raise UsageError(
            f"--labels names {max(labels)}, but {source} knows the classes 0 to {classes - 1} "
            f"({classes} means none)."
        )
    if classes is not None and not (options.guide or _is_unguided(options)):
        _check_guided_to(options, labels, classes)


# What is drawn without a class, unless --labels says so.
_UNLABELLED = ("interpolate", "from_image", "inpaint")


def _check_guided_to(options, labels, classes):
    """Refuses guidance to classes where no image has one."""
    modes = [flag(name) for name in _UNLABELLED if getattr(options, name, None)]
    if set(labels) == {classes}:
        modes = [f"--labels {classes}"]
    if modes and set(labels) <= {classes}:
        raise UsageError(
            f"--guidance needs classes to guide to, and {modes[0]} means none; name some by "
            "--labels, or leave it out."
        )


def _check_guidance(options, source, classes):
    """Refuses strengths of guidance without anything to guide by, and a guide without strength."""
    unguided = _is_unguided(options)
    if options.guide and unguided:
        raise UsageError("--guide needs a strength of guidance, such as --guidance 2; 1 is none.")
    if not (unguided or options.guide) and classes is None:
        raise UsageError(
            _without_classes("--guidance", source, "leave it out, or name the --guide of a run")
        )


def _without_classes(name, source, cure="leave it out"):
    return f"{name} needs classes, and {source} was trained without --conditional; {cure}."


def check_tuning(options, given):
    """Refuses what only a search takes, and numbers that none can be made by.

    Args:
        options: an `EvaluateOptions`.
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the options.
    """
    if not options.tune_ema:
        if "tune_metric" in given:
            raise UsageError("--tune-metric is for --tune-ema; leave it out, or add that.")
        if len(options.guidance) > 1:
            raise UsageError("--guidance takes several values with --tune-ema alone; give one.")
        return
    from ..quality.metrics import every_number

    known = every_number()
    shown = [name for name, number in known.items() if number.lower_is_better is not None]
    if options.tune_metric not in shown:
        raise UsageError(f"--tune-metric {options.tune_metric}: give {', '.join(shown)}.")


def check_distinct(runs):
    """Refuses a training that is named twice among several, which an interval would take for two.

    Raises:
        UsageError: a run is named twice, or another is a copy of it, or the same training again.
    """
    for first, other in itertools.combinations(runs, 2):
        if first.path.resolve() == other.path.resolve():
            raise UsageError(f"{other.path} is named twice; name each run once.")
        if _identity(first) == _identity(other) is not None:
            raise UsageError(f"{other.path} is a copy of {first.path}; name one of them.")
        if _training(first) == _training(other):
            raise UsageError(
                f"{other.path} is the training of {first.path} again, of the same options, seed "
                "and images; name one of them, or train another --seed."
            )


def _identity(run):
    return run.config.get("run")


def _training(run):
    """What the numbers of a training follow from."""
    from ..report.analysis import settings

    return settings(run.config), run.config.get("data", {}).get("fingerprint")


def check_evaluation(options, runs):
    """Refuses what runs cannot be evaluated by.

    Args:
        options: an `EvaluateOptions`.
        runs: list of `Run`.

    Raises:
        UsageError: in one line that names the option or the run.
    """
    for name, value, words in (
        ("extractor", options.extractor, ("auto", *choices.EXTRACTORS)),
        ("reference", options.reference, choices.REFERENCES),
    ):
        if value not in words and not Path(value).is_file():
            raise UsageError(
                f"{flag(name)} {value}: give {', '.join(words)}, or a file that exists."
            )
    check_distinct(runs)
    for run in runs:
        run.check_finished()
        check_drawing(options, run)
        stored_names.check_evaluated(options, run)
        files.check_writable(run.path)


# What `evaluate.py --images` takes besides --against.
_FOR_FOLDERS = {"images", "against", "extractor"}


def check_pair(options):
    """Refuses one folder without the other, and one in the other, of an `EvaluateOptions`."""
    if bool(options.images) != bool(options.against):
        raise UsageError("--images and --against go together: the images to judge, the real ones.")
    if not options.images:
        return
    judged, real = options.images, options.against
    if _lies_in(judged, real) or _lies_in(real, judged):
        raise UsageError(
            "--images and --against are one folder or one in the other, whose images are at no "
            "distance from themselves; name two apart."
        )


def check_folders(options, given):
    """Refuses what means nothing for two folders; arguments as of `check_tuning`."""
    for name in given.keys() - _FOR_FOLDERS if options.images else ():
        raise UsageError(
            f"{flag(name)} means nothing for --images, which are measured as they are; leave it "
            "out."
        )
