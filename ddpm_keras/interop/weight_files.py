"""Tensors in the files that diffusers writes: safetensors or PyTorch's, one file or several."""

from pathlib import Path

import numpy as np
import safetensors

from ..reading import json_text
from .checks import shown, within
from .folders import MissingFile, read_json
from .torch_file import load_state_dict

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_GIT_LFS = b"version https://git-lfs"


def read(path, most):
    """dict of name -> array, of all tensors.

    Args:
        path: a .safetensors file, one of PyTorch, or the index (.index.json) of several.
        most: bytes that are too many for the tensors that are looked for; checked before reading.

    Raises:
        ValueError: not readable or damaged, which file is said.
    """
    if path.name.endswith(".json"):
        return _read_shards(path, most)
    try:
        size = path.stat().st_size
        if size > most:
            raise ValueError(
                f"{path} holds {size} bytes, where its configuration leaves room for {most}; is "
                "config.json that of this model?"
            )
        with path.open("rb") as file:
            if file.read(len(_GIT_LFS)) == _GIT_LFS:
                raise ValueError(f"{path} only points at the weights; fetch them: git lfs pull.")
        return (_read_safetensors if path.suffix == ".safetensors" else load_state_dict)(path)
    except FileNotFoundError:
        raise MissingFile(f"There is no {path}; give the file of the weights.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a file.") from None


def _read_safetensors(path):
    try:
        data = path.read_bytes()
        entries = safetensors.deserialize(data)
        json_text.parse(data[8 : 8 + int.from_bytes(data[:8], "little")].decode())  # no name twice
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}); download it again."
        ) from None
    state = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path}: {name} is of type {entry['dtype']}; weights are floats.")
        array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[name] = array
    return state


def _read_shards(index, most):
    """The tensors of all the files that an index lists, each from where the index says."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index} holds no weight_map; download it again.")
    state = {}
    with within(index):
        shards = sorted({_file_name(place) for place in places.values()})
    for shard in shards:
        file = index.with_name(shard)
        if not file.is_file():
            raise MissingFile(f"{index} names {shard}, which is not beside it; download that too.")
        tensors = read(file, most)
        listed = {name for name, place in places.items() if place == shard}
        for problem, names in (
            ("lacks", listed - tensors.keys()),
            ("holds, beyond what the index lists,", tensors.keys() - listed),
        ):
            if names:
                raise ValueError(
                    f"{file} {problem} {shown(min(names))}; download it and {index.name} again."
                )
        most -= file.stat().st_size
        state |= tensors
    return state


def _file_name(place):
    """A file beside the index: a path that leads elsewhere is refused."""
    if not isinstance(place, str) or not place.endswith((".safetensors", ".bin")):
        raise ValueError(f"it names {shown(place)}, which is no file of weights.")
    if Path(place).name != place or "\\" in place:
        raise ValueError(f"it names {shown(place)}; its files must lie beside it.")
    return place
