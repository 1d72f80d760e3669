"""What `sample.py --export` writes, and which options mean nothing for it."""

from .. import choices, formats
from ..errors import UsageError
from .parser import flag

# What means nothing for a sampler that is exported, and for a network alone.
_NOT_OF_A_SAMPLER = {"num", "out", "labels", "batch_size", "seed", "strategy", "progress"}
_NOT_OF_A_SAMPLER |= {"interpolate", "encode", "from_image", "strength", "inpaint", "mask"}
_NOT_OF_A_NETWORK = _NOT_OF_A_SAMPLER | {"sampler", "steps", "guidance", "guide", "precision"}
_NOT_OF_A_NETWORK |= {"guidance_rescale", "guidance_interval"}


def format_of(options):
    """The `formats.Format` that `--export` is of."""
    return choices.FORMATS.find(options.format or formats.of_path(options.export))


def check(options, given):
    """Refuses what is not exported, and what means nothing for it.

    Args:
        options: a `SampleOptions`.
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the option.
    """
    if not options.export:
        if options.format:
            raise UsageError("--format is of --export; leave it out, or name what to --export.")
        return
    chosen = format_of(options)
    for name in given:
        if name in (_NOT_OF_A_SAMPLER if chosen.draws else _NOT_OF_A_NETWORK):
            raise UsageError(
                f"{flag(name)} means nothing for a {chosen.what} that is exported; leave it out."
            )
