"""The options of a run that goes on: its own, and those that may change."""

from dataclasses import replace

from ..errors import UsageError
from .options import TrainOptions, stored_options
from .parser import flag

# What may differ when a run is continued: nothing that the weights depend on.
_FREE_ON_RESUME = {"resume", "run_dir", "steps", "log_every_steps", "keep", "evaluate", "data_dir"}
_FREE_ON_RESUME |= {"validation_images", "data_cache", "logger"}


def resumed_options(stored, given):
    """Options of a run that is continued: its own, and those that may change.

    Args:
        stored: "options" of the run's config.json, a dict or `TrainOptions`.
        given: options that the command line named.

    Raises:
        UsageError: the command line changes what the weights depend on.
    """
    stored = stored if isinstance(stored, TrainOptions) else stored_options(stored)
    for name in given.keys() - _FREE_ON_RESUME:
        if given[name] != getattr(stored, name):
            raise UsageError(
                f"{flag(name)} was {getattr(stored, name)} in this run and cannot change on "
                "--resume; leave it out, or begin a new run."
            )
    if stored.lr_schedule != "constant" and given.get("steps", stored.steps) != stored.steps:
        raise UsageError(
            f"--steps was {stored.steps} in this run, at whose end its learning rate comes to 0 "
            f"(--lr-schedule {stored.lr_schedule}); leave it out, or begin a new run."
        )
    if given.get("validation_images", stored.validation_images) != stored.validation_images:
        print(
            f"Note: validation losses are of {given['validation_images']} images from here on, and "
            f"were of {stored.validation_images}: the two are no one curve."
        )
    free = {name: value for name, value in given.items() if name in _FREE_ON_RESUME}
    return replace(stored, **free | {"run_dir": stored.run_dir, "resume": True})
