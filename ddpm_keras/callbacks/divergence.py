"""Stopping before a diverged state replaces a good one."""

import math
from typing import Any

from .needs import OfModel


class Diverged(ArithmeticError):
    """The numbers of a training are not finite any more."""


class StopOnDivergence(OfModel):
    """Raises `Diverged` before a state that is not finite is saved, sampled from or measured.

    That is when the loss is NaN or infinite, when a step was not made because its gradients were
    (unless a loss scale is being lowered for that, which is normal), and, after the last step of an
    epoch, when a step has made the weights themselves so. Put it before the callbacks that save.
    """

    needs = "first_lost_step"

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise Diverged(f"the loss is {float(logs['loss'])} after {self.model.steps_made} steps")
        if self.model.first_lost_step:
            raise Diverged(f"the gradients of step {self.model.first_lost_step} were not finite")
        if batch + 1 == (self.params or {}).get(
            "steps"
        ):  # which may be saved before the epoch is over
            self._check_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._check_weights()

    def _check_weights(self):
        try:
            self.model.check_finite()
        except ValueError as error:
            raise Diverged(f"after {self.model.steps_made} steps: {error}") from error
