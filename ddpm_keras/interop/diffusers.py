"""Weights exchanged with diffusers: its `UNet2DModel` becomes a `UNet` and back.

Covered are the models of Ho et al.'s family, such as google/ddpm-cifar10-32: positional timestep
embedding [sin | cos], swish, single-head attention, strided-convolution downsampling padded below
and right. Any other setting is refused by name, since the result would differ silently. Nothing of
PyTorch or diffusers is needed, and nothing in a file is run.
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from .. import files
from ..aliases import PathLike
from ..networks import UNet
from . import unet_weights, weight_files
from .checks import shown, within
from .folders import CONFIG, WEIGHTS, check_weights, find_unet, find_weights, read_json
from .unet_config import diffusers_config, unet_arguments


def load_diffusers(
    path_or_state: PathLike | Mapping[str, Any],
    config: Any = None,
    weights: str | None = "ema",
    variant: str | None = None,
) -> UNet:
    """A `UNet` with the configuration and the weights of a diffusers `UNet2DModel`.

    Args:
        path_or_state: A folder with config.json and diffusion_pytorch_model.safetensors or .bin,
            in one file or several with their index; a pipeline's folder, with those under unet/; a
            training's checkpoint-N, with those under unet/ and unet_ema/; a .safetensors or .bin
            file; or a state dict: a mapping of names to arrays or tensors.
        config: The contents of config.json, or its path; required where no folder is given.
        weights: Of a folder, "ema" for the averages in unet_ema/, or the raw weights where there
            are none (`interop.find_unet` tells which); "raw" for the raw weights.
        variant: Which files of a folder: "fp16" for diffusion_pytorch_model.fp16.safetensors, and
            so on; by default those without a variant, or the only ones there are.

    Returns:
        `UNet`, float32. Class embeddings are kept as they are: the last one stands for "no label",
        so `num_classes` is one less than diffusers' `num_class_embeds`.

    Raises:
        ValueError: A setting that `UNet` cannot represent, or weights that are missing, left over,
            of another shape or not finite; says which.
        FileNotFoundError: No configuration or no weights at the path.

    Example:

    >>> network = load_diffusers("ddpm-cifar10-32")
    >>> network.count_params()
    35746307
    """
    check_weights(weights)
    if isinstance(path_or_state, Mapping):
        _check_folder_only(weights, variant, "a state dict")
        arguments, wanted = _arguments(config)
        state, source = path_or_state, contextlib.nullcontext()
    else:
        file, config = _file(path_or_state, config, weights, variant)
        arguments, wanted = _arguments(config)
        state, source = weight_files.read(file, _most_bytes(wanted)), within(file)
    with source:
        state = unet_weights.with_new_names(state)
        unet_weights.check_shapes(state, wanted)
        state = {name: unet_weights.to_float32(name, state[name]) for name in wanted}
    network = UNet(**arguments)
    for name, variable, axes in unet_weights.variables(network):
        variable.assign(np.transpose(state[name], axes))
    return network


def save_diffusers(unet: UNet, path: PathLike) -> None:
    """Writes a `UNet` as a folder that diffusers' `UNet2DModel.from_pretrained` reads.

    Args:
        unet: The `UNet`, for example `model.export_network("ema")`.
        path: The folder, made if need be; gets config.json and the weights as safetensors.

    Raises:
        ValueError: No `UNet`, one with weights that are not finite or a setting that a
            `UNet2DModel` does not have, or a path that cannot be such a folder.
    """
    if not isinstance(unet, UNet):
        raise ValueError(
            f"save_diffusers writes a UNet, not a {type(unet).__name__}; give "
            "model.export_network() of a DDPM."
        )
    path = _new_folder(path)
    config = diffusers_config(unet)
    state = {}
    for name, variable, axes in unet_weights.variables(unet):
        array = unet_weights.to_float32(name, np.asarray(variable, np.float32))
        state[name] = np.ascontiguousarray(np.transpose(array, np.argsort(axes)))
    try:
        with files.atomic_path(path / f"{WEIGHTS}.safetensors") as temporary:
            safetensors.numpy.save_file(state, temporary, metadata={"format": "pt"})
        files.write_json(path / CONFIG, config)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); give another folder."
        ) from None


def _file(path, config, weights, variant):
    """The file of the weights, and the configuration or where it is."""
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"load_diffusers takes a folder, a file or a state dict, not {shown(path)}."
        )
    if os.path.isfile(path):
        _check_folder_only(weights, variant, "a file")
        return Path(path), config
    folder = find_unet(path, weights)
    return find_weights(folder, variant), folder / CONFIG if config is None else config


def _check_folder_only(weights, variant, source):
    """Only among the files of a folder there is something to choose."""
    if variant is not None:
        raise ValueError(f"variant={shown(variant)} chooses a file of a folder; {source} is one.")
    if weights != "ema":
        raise ValueError(
            f"weights={shown(weights)} chooses among the weights of a folder; {source} holds what "
            "it holds: leave it out."
        )


def _arguments(config):
    """The arguments of the `UNet` in a configuration or its file, and the shapes of its tensors."""
    if config is None:
        raise ValueError(
            "load_diffusers needs the model's configuration: pass the folder that holds "
            "config.json, or config=."
        )
    source = contextlib.nullcontext()
    if isinstance(config, (str, os.PathLike)):
        config, source = read_json(config), within(config)
    if not isinstance(config, Mapping):
        raise ValueError(f"config is {shown(config)}; give a dict, or the path of config.json.")
    with source:
        arguments = unet_arguments(config)
    return arguments, unet_weights.shapes(arguments)


def _most_bytes(shapes):
    """The most that a file of these tensors can take: eight bytes a number, and the names."""
    return sum(8 * math.prod(shape) + 4096 for shape in shapes.values()) + 2**20


def _new_folder(path):
    """`path` as a `Path` where a model can be written: what would hide the new one is refused."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(f"The path is {shown(path)}; give the folder to write.")
    path = Path(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{path} is a file; give the folder to write.")
    hidden = sorted(path.glob(f"{WEIGHTS}*.index*.json")) if os.path.isdir(path) else []
    if hidden:
        raise ValueError(
            f"{hidden[0]} would be read instead of what is written; remove it, or give another "
            "folder."
        )
    return path
