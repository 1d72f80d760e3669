"""Small trained models that come with the package, so that images are drawn in seconds.

Each is a folder here: `model.json`, how the `DDPM` is built and the checksum of its weights;
`weights.safetensors`, those in float16; and README.md, its model card. A folder without one of the
first two is no model, and is not offered.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import files

if TYPE_CHECKING:  # names in annotations alone
    from ..ddpm import DDPM

__all__ = ["load", "names", "save"]

_HERE = Path(__file__).parent
_MODEL, _WEIGHTS = "model.json", "weights.safetensors"


def names(folder: str | Path = _HERE) -> tuple[str, ...]:
    """The models there are, by name."""
    found = (path.parent for path in Path(folder).glob(f"*/{_MODEL}"))
    return tuple(sorted(path.name for path in found if (path / _WEIGHTS).is_file()))


def load(name: str, folder: str | Path = _HERE) -> DDPM:
    """A model by its name, one of `names()`; it has raw weights only, which are an average.

    Args:
        name: of the model.
        folder: where the models are.

    Raises:
        ValueError: there is no such model, or a file of it is damaged.

    Example:

    ```python
    from ddpm_keras import pretrained

    pretrained.load("digits").sample(4, sampler="ddim", seed=0)   # uint8, (4, 8, 8, 1)
    ```
    """
    import safetensors.numpy

    from ..ddpm import DDPM

    if name not in names(folder):
        known = ", ".join(names(folder))
        raise ValueError(f"There is no pretrained model {name!r}; use one of {known}.")
    path = Path(folder) / name
    record = files.read_record(path / _MODEL)
    if files.sha256(path / _WEIGHTS) != record["sha256"]:
        raise ValueError(f"{path / _WEIGHTS} is damaged: install the package again.")
    model = DDPM.from_config(record["config"])
    weights = safetensors.numpy.load_file(path / _WEIGHTS)
    model.network.set_weights([weights[f"{i}"].astype("float32") for i in range(len(weights))])
    return model


def save(model: DDPM, name: str, weights: str = "ema", folder: str | Path = _HERE) -> Path:
    """Writes a model as `load` reads it, its weights rounded to float16.

    Args:
        model: a `DDPM`.
        name: what it is to be called.
        weights: the weight set that is kept.
        folder: where its folder goes.

    Returns:
        The folder.

    Raises:
        ValueError: a weight is too large for float16.
    """
    import numpy as np
    import safetensors.numpy

    from ..ddpm import DDPM

    arrays = [np.asarray(each, "float16") for each in model.weight_values(weights)]
    if not all(np.isfinite(each).all() for each in arrays):
        raise ValueError("A weight is too large for float16; train with a smaller learning rate.")
    alone = DDPM(
        model.export_network(weights),
        schedule=model.schedule,
        prediction=model.prediction,
        image_range=model.image_range,
        ema=None,
    )
    path = Path(folder) / name
    with files.atomic_path(path / _WEIGHTS) as temporary:
        safetensors.numpy.save_file({f"{i}": each for i, each in enumerate(arrays)}, temporary)
    record = {"config": alone.get_config(), "sha256": files.sha256(path / _WEIGHTS)}
    files.write_record(path / _MODEL, record)
    return path
