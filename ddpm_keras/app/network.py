"""The network that `--network` names, made with those of the options that it takes."""

import inspect

from .. import choices
from ..errors import UsageError
from .options import NETWORK_SETTINGS
from .parser import flag


def build(options, images):
    """A network for images.

    Args:
        options: a `TrainOptions`.
        images: a `data.ImageData`.

    Returns:
        What the entry of `choices.NETWORKS` makes of `image_shape`, of `num_classes` for a
        conditional model, and of the settings among `NETWORK_SETTINGS` that it takes by name.
    """
    make = choices.NETWORKS.find(options.network)
    known = {name: getattr(options, name) for name in NETWORK_SETTINGS}
    known["groups"] = options.groups or None
    settings = {name: value for name, value in known.items() if name in taken(make)}
    if options.conditional:
        settings["num_classes"] = images.num_classes
    return make(images.image_shape, **settings)


def check(options, given):
    """Refuses settings that the network does not take.

    Args:
        options: a `TrainOptions`.
        given: names of the options that the command line named.

    Raises:
        UsageError: in one line that names the option and the network.
    """
    takes = taken(choices.NETWORKS.find(options.network))
    needed = {"num_classes": "conditional"} if options.conditional else {}
    needed |= {name: name for name in NETWORK_SETTINGS if name in given}
    for name, option in needed.items():
        if name not in takes:
            raise UsageError(
                f"{flag(option)} means nothing for --network {options.network}; leave it out."
            )


def taken(make):
    """Names of the arguments of a class or a function."""
    return inspect.signature(make).parameters
