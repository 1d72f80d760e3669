"""What a callback needs of the model that it is fitted with, said before training begins."""

from collections.abc import Mapping
from typing import Any

import keras


class OfModel(keras.callbacks.Callback):
    """A callback that asks a model for more than Keras' own models know.

    Attributes:
        needs: the attribute by which such a model is known.
    """

    needs = "weight_sets"

    def set_model(self, model: Any) -> None:
        if not hasattr(model, self.needs):
            kind = "DDPM" if self.needs in ("sample", "validation_loss") else "DDPM or an EMAModel"
            raise ValueError(
                f"{type(self).__name__} is for the fit of a {kind}, not of a "
                f"{type(model).__name__}: leave it out, or fit such a model."
            )
        super().set_model(model)


def told(config):
    """The dict of what a run was told, empty for None; refused if it is something else."""
    if not isinstance(config or {}, Mapping):
        raise ValueError(f"config must be a dict of what the run was told; got {config!r:.80}.")
    return dict(config or {})
