"""Pictures of every weight set, each epoch, from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, images, names, samplers
from ..aliases import PathLike
from ..scalars import count, whole
from . import events
from .clock import is_due
from .needs import OfModel

if TYPE_CHECKING:  # names in annotations alone
    from ..samplers.base import Sampler


class SampleGrid(OfModel):
    """Draws the same noise with the raw weights and with each average.

    Writes `epoch-0001.png`, all weight sets side by side, and one plain grid for each, such as
    `epoch-0001-raw.png`. Sampling does not touch the weights in training.

    Args:
        directory: where the pictures go.
        num_images: images a weight set, at least 1.
        sampler: a sampler or its name; DDIM with 50 steps by default.
        every_epochs: epochs between pictures, at least 1.
        seed: of the noise, the same at every epoch.
        log_dir: where TensorBoard finds the pictures as well, or None. Those of later steps than
            the one that training starts from are replaced.
    """

    needs = "sample"

    def __init__(
        self,
        directory: PathLike,
        num_images: int = 64,
        sampler: Sampler | str | None = None,
        every_epochs: int = 1,
        seed: int = 0,
        log_dir: PathLike | None = None,
    ):
        super().__init__()
        self.directory = files.a_path(directory, "directory")
        self.num_images = count(num_images, "num_images")
        samplers.get(sampler)  # refuses an unknown one now, not after an epoch
        self.sampler = sampler
        self.every_epochs = count(every_epochs, "every_epochs")
        self.seed = whole(seed, "seed")
        self.log_dir = None if log_dir is None else files.a_path(log_dir, "log_dir")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        for name in self.model.weight_sets if self.log_dir else ():
            events.cut(self.log_dir / name, self.model.steps_made)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not is_due(epoch, epoch + 1, self.every_epochs):
            return
        self.draw(epoch + 1)

    def draw(self, epoch: int) -> Path:
        """Draws the pictures of `epoch` and returns the path of the one side by side."""
        grids = {}
        for name in self.model.weight_sets:
            values = self.model.sample(
                self.num_images, weights=name, sampler=self.sampler, seed=self.seed
            )
            grids[name] = images.grid(values)
            images.save(grids[name], self.directory / names.picture(epoch, name))
        path = self.directory / names.picture(epoch)
        images.save(images.side_by_side(grids), path)
        if self.log_dir:
            self._to_tensorboard(grids)
        return path

    def _to_tensorboard(self, grids):
        for name, picture in grids.items():
            summaries = [events.image("samples", picture)]
            events.append(self.log_dir / name, self.model.steps_made, summaries)
