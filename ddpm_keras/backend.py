"""Which backend Keras computes on: this package is written for TensorFlow's."""

import os
import sys

from .errors import UsageError


def choose():
    """Chooses Keras' TensorFlow backend, if Keras is not imported yet and none is chosen.

    Raises:
        UsageError: another backend has been chosen, or Keras runs on it already.
    """
    chosen = os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if "keras" in sys.modules:
        running = sys.modules["keras"].backend.backend()
        if running != "tensorflow":
            raise UsageError(
                f"Keras was imported with its {running} backend, but ddpm_keras needs "
                "TensorFlow's: import ddpm_keras first, or set KERAS_BACKEND=tensorflow."
            )
    elif chosen != "tensorflow":
        raise UsageError(
            f"ddpm_keras needs Keras' TensorFlow backend, not KERAS_BACKEND={chosen}: set "
            "KERAS_BACKEND=tensorflow, or leave it unset."
        )
