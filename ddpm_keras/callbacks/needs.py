"""What a callback needs of the model that it is fitted with, said before training begins."""

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
