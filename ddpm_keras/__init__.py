"""Denoising diffusion (DDPM) with exponential moving averages of weights, for Keras 3.

Importing the package registers its classes with Keras, so `keras.saving.load_model` needs no
`custom_objects`. Only the package's own commands import each module where they use it, so that
`--help` answers before TensorFlow is loaded.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING

from . import backend as _backend
from .version import __version__

__all__ = [
    "DDPM",
    "EMA",
    "EMAModel",
    "EMAOptimizer",
    "UNet",
    "__version__",
    "callbacks",
    "choices",
    "data",
    "drawing",
    "ema",
    "formats",
    "interop",
    "learning_rate",
    "likelihood",
    "noise",
    "posthoc",
    "pretrained",
    "quality",
    "samplers",
]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not errors


def _in_a_command():
    """Whether this process is `train.py` or another script of ours, `ddpm-keras` or `python -m`."""
    if os.environ.pop("DDPM_KERAS_LAZY", ""):
        return True
    called = os.path.basename((getattr(sys, "argv", None) or [""])[0])
    if called == "-m":  # so it is while Python looks for the module that it will run
        return ("-m", "ddpm_keras") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return called == "ddpm-keras"


_is_command = _in_a_command()
if _is_command:
    # Until the command takes over Ctrl-C, it ends the process at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if TYPE_CHECKING or not _is_command:
    _backend.choose()
    from . import (
        callbacks,
        choices,
        data,
        drawing,
        ema,
        formats,
        interop,
        learning_rate,
        likelihood,
        noise,
        pretrained,
        quality,
        samplers,
    )
    from .ddpm import DDPM
    from .ema import EMA, EMAModel, EMAOptimizer, posthoc
    from .networks import UNet
else:
    from . import lazy as _lazy

    _homes = {"DDPM": ".ddpm", "EMA": ".ema", "EMAModel": ".ema", "EMAOptimizer": ".ema"}
    __getattr__ = _lazy.attributes(__name__, _homes | {"UNet": ".networks", "posthoc": ".ema"})
