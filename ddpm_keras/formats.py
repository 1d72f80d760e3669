"""What a model can be exported as; a format is one entry of `choices.FORMATS`.

Nothing here loads TensorFlow before something is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files


@dataclass(frozen=True)
class Format:
    """How a model is written for others to run.

    Attributes:
        write: function of a `DDPM`, a path and a weight set; of one that draws, too, of `sampler`,
            `guidance_scale`, `guide`, `guidance_rescale` and `guidance_interval`, as of
            `DDPM.sample`.
        draws: whether images can be drawn with it: the sampler is part of it.
        check: function of a path that refuses, with ValueError, what cannot be written to.
    """

    write: Callable[..., Any]
    draws: bool = False
    check: Callable[[str], None] = files.check_new_folder

    @property
    def what(self) -> str:
        """What it is of: "sampler" or "network"."""
        return "sampler" if self.draws else "network"


def of_path(path: str) -> str:
    """The name of the format that a path calls for where none is named."""
    return "keras" if path.endswith(".keras") else "saved_model"


def _check_keras_file(path):
    name = Path(path).name
    if name == ".keras":
        raise ValueError(f"{path} is a suffix without a name: give a name such as network.keras.")
    if not name.endswith(".keras") or Path(path).is_dir():
        raise ValueError(f"A network is saved as a .keras file; got {path!r}.")
    files.check_writable(Path(path).parent)


def _check_folder(path):
    if Path(path).suffix:
        raise ValueError(f"{path}: give a new folder, a name ending in .keras, or --format.")
    files.check_new_folder(path)


def _write_diffusers(model, path, weights):
    from . import interop

    interop.save_diffusers(model.export_network(weights), path)


KERAS = Format(
    lambda model, path, weights: model.export_network(weights, path), check=_check_keras_file
)
SAVED_MODEL = Format(
    lambda model, path, weights, **drawing: model.export_sampler(path, weights, **drawing),
    check=_check_folder,
    draws=True,
)
DIFFUSERS = Format(_write_diffusers)
