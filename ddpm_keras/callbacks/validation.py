"""The validation loss of every weight set, on fixed noise and timesteps."""

from typing import Any

from numpy.typing import ArrayLike

from .. import names
from ..scalars import count
from .clock import is_due
from .needs import OfModel


class ValidationLoss(OfModel):
    """Adds `val_loss_raw`, `val_loss_ema_0.999` ... to the logs of each epoch.

    Every weight set and every epoch gets the same images, noise and evenly spread timesteps, so
    that the numbers differ by the weights alone.

    Args:
        images: held-out images, uint8 or float in the model's `image_range`, an array
            (N, height, width, channels). They are checked before training begins.
        labels: their classes, integers (N,), for a conditional model.
        repeats: how often each image is used, with other noise and another timestep, at least 1.
        batch_size: images at a time.
        every_epochs: epochs between validations, at least 1.
    """

    needs = "validation_loss"

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        repeats: int = 1,
        batch_size: int = 256,
        every_epochs: int = 1,
    ):
        super().__init__()
        self.images = images
        self.labels = labels
        self.repeats = count(repeats, "repeats")
        self.batch_size = count(batch_size, "batch_size")
        self.every_epochs = count(every_epochs, "every_epochs")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.model.evaluation_arrays(self.images, self.labels)  # refused now, not after an epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not is_due(epoch, epoch + 1, self.every_epochs):
            return
        for name in self.model.weight_sets:
            logs[names.column("val_loss", name)] = self.model.validation_loss(
                self.images,
                labels=self.labels,
                weights=name,
                repeats=self.repeats,
                batch_size=self.batch_size,
            )
