"""What a run was made with, by which its numbers may round: packages, machine, processors."""

import os
import platform

import keras
import tensorflow as tf

from ..version import __version__

_PACKAGES = {
    "ddpm-keras": __version__,
    "keras": keras.__version__,
    "tensorflow": tf.__version__,
}


def packages():
    """For the record of what was measured, such as "keras 3.15.1, tensorflow 2.21.0"."""
    return ", ".join(map(" ".join, _PACKAGES.items()))


def made_with():
    """For the config.json of a run, a dict."""
    return _PACKAGES | {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
    }


def changed_since(run):
    """What is another than when the run was begun, by which numbers may round: a list of lines."""
    begun = run.config.get("versions", {})
    changed = [
        f"{name} was {begun[name]} and is {value}"
        for name, value in made_with().items()
        if name in begun and begun[name] != value
    ]
    return [f"{', '.join(changed)}: what follows may round otherwise."] if changed else []
