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
        write: function of a `DDPM`, a path and a weight set; of one that draws, too, of the sampler
            and of the scale of its guidance.
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
    if not path.endswith(".keras"):
        raise ValueError(f"A network is saved as a .keras file; got {path!r}.")
    files.check_writable(Path(path).parent)


def _write_diffusers(model, path, weights):
    from . import interop

    interop.save_diffusers(model.export_network(weights), path)


KERAS = Format(
    lambda model, path, weights: model.export_network(weights, path), check=_check_keras_file
)
SAVED_MODEL = Format(
    lambda model, path, weights, sampler, guidance: model.export_sampler(
        path, weights, sampler, guidance
    ),
    draws=True,
)
DIFFUSERS = Format(_write_diffusers)
