"""The samplers and noise schedules that options name, with their arguments."""

from .. import choices, noise, samplers
from . import calls


def sampler(text, schedule, **usual):
    """The sampler that `--sampler` names.

    Args:
        text: such as "ddim:eta=0.5".
        schedule: the `NoiseSchedule` that it is for.
        **usual: its arguments, unless the text gives them.

    Raises:
        UsageError: it does not take an argument, or not of this value.
    """
    call = calls.parse("--sampler", text, choices.SAMPLERS)
    with call.errors():
        return samplers.get(call.kind, schedule, **usual | call.named)


def schedule(options):
    """The `NoiseSchedule` of a `TrainOptions`; what it does not take is refused as above."""
    call = calls.parse("--schedule", options.schedule, choices.SCHEDULES)
    with call.errors():
        return noise.get(call.kind, options.timesteps, **call.named)
