"""Stores power-function averages during training, for any average after the fact."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..aliases import PathLike
from ..ema import snapshots
from ..ema.power_function import power_function_gamma
from ..ema.steps import steps_left
from ..files import a_path
from ..scalars import count
from .clock import is_due

logger = logging.getLogger("ddpm_keras")


class PowerFunctionSnapshots(keras.callbacks.Callback):
    """Writes snapshots of power-function averages, from which `posthoc.synthesize` makes any other.

    The averages live in the model's `EMA`, move in the graph with the others and are saved with
    them, so `steps_per_execution` and resuming change nothing. The initial weights are kept as a
    snapshot of their own, of step 0; one more is written when training ends. Training that starts
    again at an earlier step replaces the snapshots after it.

    Args:
        directory: Where the snapshots go, one `.npz` file a time: 4 bytes a weight and width in
            float32.
        sigma_rels: Relative widths of the averages, each above 0 and below 0.2887.
        every_steps: Optimizer steps from one snapshot to the next; by default a sixteenth of the
            `fit`. With `EMA(update_every=k)`, counted at the steps at which the averages move.
        dtype: "float32", or "float16" for half the size and three digits.

    Raises:
        ValueError: If the model keeps no `EMA`, if it has trained before without these averages
            (give it `EMA(..., snapshot_widths=...)` from the start), or if the directory holds the
            snapshots of another run.

    Example:

    ```python
    model.fit(images, epochs=10, callbacks=[PowerFunctionSnapshots("snapshots", every_steps=500)])
    weights = posthoc.synthesize("snapshots", sigma_rel=0.15)
    ```

    Reference:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models".
    """

    def __init__(
        self,
        directory: PathLike,
        sigma_rels: float | Sequence[float] = (0.05, 0.10),
        every_steps: int | None = None,
        dtype: str = "float32",
    ):
        super().__init__()
        self.directory = os.fspath(a_path(directory, "directory"))
        self.sigma_rels = tuple(sigma_rels) if np.ndim(sigma_rels) else (sigma_rels,)
        if not self.sigma_rels:
            raise ValueError(
                "sigma_rels is empty: give the relative widths to keep, as (0.05, 0.1)."
            )
        for width in self.sigma_rels:
            power_function_gamma(width)  # refuses what is no width
        self.every_steps = None if every_steps is None else count(every_steps, "every_steps")
        self.dtype = snapshots.check_dtype(dtype)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if getattr(model, "ema", None) is None:
            raise ValueError(
                "Snapshots hold all weights of a network, of which an optimizer knows those that "
                "it trains: fit an EMAModel or a DDPM with an EMA, such as EMA(())."
            )
        # Keras sets the model before it makes the training function, which must hold the averages.
        if model.ema.add_snapshots(self.sigma_rels):
            model.train_function = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._every = self.every_steps
        self._written = self.model.ema.last_move
        self._forget_later_snapshots()
        if self.model.ema.num_updates == 0:
            self._write()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._every is None:  # the first epoch: that of `initial_epoch`
            self._every = self._sixteenth(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.model.ema.last_move
        if is_due(self._written, steps, self._every):
            self._write()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.model.ema.last_move > self._written:
            self._write()

    def _write(self):
        self._written = snapshots.write_snapshot(self.directory, self.model.ema, self.dtype).step

    def _sixteenth(self, epoch):
        steps = steps_left(self, epoch)
        if steps is None:
            raise ValueError(
                "The length of fit is unknown: give PowerFunctionSnapshots(every_steps=...)."
            )
        return max(1, steps // 16)

    def _forget_later_snapshots(self):
        """Removes what an interrupted run wrote after the step that training goes on from."""
        if not os.path.isdir(self.directory):
            return
        stored = snapshots.list_snapshots(self.directory)
        fresh = self.model.ema.num_updates == 0
        if stored and fresh and not self._is_this_run(stored[0]):
            raise ValueError(
                f"{self.directory} holds the snapshots of another run: give an empty directory."
            )
        for snapshot in stored:
            if snapshot.step > self._written:
                os.remove(snapshot.path)
                logger.info("Removed %s, which training will reach again.", snapshot.path)

    def _is_this_run(self, snapshot):
        """Whether a snapshot holds the weights that training starts from."""
        if snapshot.step > 0:
            return False
        ema = self.model.ema
        values = snapshots.initial_values(snapshot)
        wanted = {i: ema.sources[i].numpy() for i in ema.averaged_positions}
        return values.keys() == wanted.keys() and all(
            np.array_equal(values[i], wanted[i].astype(snapshot.dtype)) for i in wanted
        )
