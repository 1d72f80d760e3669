"""Weights exchanged with diffusers: its `UNet2DModel` becomes a `UNet` and back.

Covered are the models of Ho et al.'s family, such as google/ddpm-cifar10-32: positional timestep
embedding [sin | cos], swish, single-head attention, strided-convolution downsampling padded below
and right. Any other setting is refused by name, since the result would differ silently. Nothing of
PyTorch or diffusers is needed, and nothing in a file is run.
"""

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from .. import files, noise
from ..networks import UNet
from .torch_file import load_state_dict

WEIGHTS = "diffusion_pytorch_model"  # .safetensors or .bin

# diffusers' defaults where a config.json leaves a setting out, for the settings read here.
_DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", *["AttnDownBlock2D"] * 3),
    "up_block_types": (*["AttnUpBlock2D"] * 3, "UpBlock2D"),
    "layers_per_block": 2,
    "dropout": 0.0,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "attention_head_dim": 8,
    "num_class_embeds": None,
    "time_embedding_dim": None,
}
# What a UNet here always does: (diffusers' default, the values that mean that).
_FIXED = {
    "center_input_sample": (False, (False,)),
    "time_embedding_type": ("positional", ("positional",)),
    "freq_shift": (0, (1,)),
    "flip_sin_to_cos": (True, (False,)),
    "mid_block_type": ("UNetMidBlock2D", ("UNetMidBlock2D",)),
    "mid_block_scale_factor": (1, (1,)),
    "downsample_padding": (1, (0,)),
    "downsample_type": ("conv", ("conv",)),
    "upsample_type": ("conv", ("conv",)),
    "act_fn": ("silu", ("silu", "swish")),
    "resnet_time_scale_shift": ("default", ("default",)),
    "add_attention": (True, (True,)),
    "class_embed_type": (None, (None,)),
}
_IGNORED = {"num_train_timesteps"}  # the scheduler's business, unless timesteps are "learned"
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_diffusers(path_or_state, config=None):
    """A `UNet` with the configuration and the weights of a diffusers `UNet2DModel`.

    Args:
        path_or_state: A folder with config.json and diffusion_pytorch_model.safetensors or .bin
            (or a pipeline's folder with those under unet/), a .safetensors or .bin file, or a
            state dict: a mapping of names to arrays or tensors.
        config: The contents of config.json, or its path; required where no folder is given.

    Returns:
        `UNet`, float32. Class embeddings are kept as they are: the last one stands for "no label",
        so `num_classes` is one less than diffusers' `num_class_embeds`.

    Raises:
        ValueError: A setting that `UNet` cannot represent, or weights that are missing, left over
            or of another shape; says which.
        FileNotFoundError: No configuration or no weights at the path.

    Example:

    >>> network = load_diffusers("ddpm-cifar10-32")
    >>> network.count_params()
    35746307
    """
    path = Path(path_or_state) if isinstance(path_or_state, (str, Path)) else None
    if path is not None and path.is_dir():
        path = _component(path, "unet", "config.json")
        config = path / "config.json" if config is None else config
        path = _weights_in(path)
    if config is None:
        raise ValueError(
            "load_diffusers needs the model's configuration: pass the folder that holds "
            "config.json, or config=."
        )
    if not isinstance(config, dict):
        config = _read_json(config)
    state = path_or_state if path is None else _read_weights(path)
    network = UNet(**unet_arguments(config))
    _assign(network, {_new_name(name): _to_numpy(tensor) for name, tensor in state.items()})
    return network


def save_diffusers(unet, path):
    """Writes a `UNet` as a folder that diffusers' `UNet2DModel.from_pretrained` reads.

    Args:
        unet: The `UNet`, for example `model.export_network("ema")`.
        path: The folder, made if need be; gets config.json and the weights as safetensors.
    """
    path = Path(path)
    state = {}
    for name, variable, permutation in _variables(unet):
        array = np.asarray(variable, np.float32)
        inverse = np.argsort(permutation)
        state[name] = np.ascontiguousarray(np.transpose(array, inverse))
    with files.atomic_path(path / f"{WEIGHTS}.safetensors") as temporary:
        safetensors.numpy.save_file(state, temporary, metadata={"format": "pt"})
    files.write_json(path / "config.json", diffusers_config(unet))


def unet_arguments(config):
    """The arguments of the `UNet` that a diffusers `UNet2DModel` configuration describes.

    Args:
        config: dict, the contents of config.json.

    Raises:
        ValueError: A setting that `UNet` cannot represent.
    """
    unknown = {name for name in config if not name.startswith("_")}
    unknown -= {*_DEFAULTS, *_FIXED, *_IGNORED}
    if unknown:
        raise ValueError(
            f"The configuration sets {', '.join(sorted(unknown))}, unknown for a UNet2DModel; give "
            "the config.json of a UNet2DModel."
        )
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"A diffusers {config['_class_name']} was given; only UNet2DModel fits.")
    for name, (default, accepted) in _FIXED.items():
        value = config.get(name, default)
        if value not in accepted:
            raise ValueError(
                f"UNet cannot represent {name}={value!r} of this UNet2DModel; it needs "
                f"{name}={accepted[0]!r}."
            )
    c = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    widths = list(c["block_out_channels"])
    height, width = _image_size(c["sample_size"])
    _check_heads(c, widths)
    if c["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise ValueError(
            f"UNet cannot represent time_embedding_dim={c['time_embedding_dim']}; it needs "
            f"{4 * widths[0]}, four times the first width."
        )
    if c["attn_norm_num_groups"] not in (None, c["norm_num_groups"]):
        raise ValueError(
            f"UNet cannot represent attn_norm_num_groups={c['attn_norm_num_groups']}; it needs "
            f"{c['norm_num_groups']}, as norm_num_groups."
        )
    return {
        "image_shape": (height, width, c["in_channels"]),
        "base_channels": widths[0],
        "channel_multipliers": tuple(_ratio(level, widths[0]) for level in widths),
        "num_res_blocks": c["layers_per_block"],
        "attention_resolutions": tuple(
            max(height, width) // 2**level for level in _attention_levels(c)
        ),
        "dropout": c["dropout"],
        "num_classes": c["num_class_embeds"] and c["num_class_embeds"] - 1,
        "groups": c["norm_num_groups"],
        "norm_epsilon": c["norm_eps"],
        "out_channels": None if c["out_channels"] == c["in_channels"] else c["out_channels"],
    }


def diffusers_config(unet):
    """The diffusers `UNet2DModel` configuration, dict, of a `UNet`."""
    c = unet.get_config()
    height, width, channels = c["image_shape"]
    widths = [round(c["base_channels"] * multiplier) for multiplier in c["channel_multipliers"]]
    attention = [
        max(height, width) // 2**level in c["attention_resolutions"] for level in range(len(widths))
    ]
    num_classes = c["num_classes"]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": c["out_channels"] or channels,
        "block_out_channels": widths,
        "down_block_types": [f"{'Attn' * has}DownBlock2D" for has in attention],
        "up_block_types": [f"{'Attn' * has}UpBlock2D" for has in reversed(attention)],
        "layers_per_block": c["num_res_blocks"],
        "dropout": c["dropout"],
        "norm_eps": c["norm_epsilon"],
        "norm_num_groups": c["groups"],
        "attention_head_dim": None,
        "num_class_embeds": None if num_classes is None else num_classes + 1,
        **{name: accepted[0] for name, (_, accepted) in _FIXED.items()},
    }


def load_diffusers_schedule(path):
    """The noise schedule of a diffusers model, and what its network predicts.

    Args:
        path: A folder with scheduler_config.json, or a pipeline's with it under scheduler/. Without
            one, the model is taken to be as published: linear, 1000 timesteps, epsilon.

    Returns:
        (`NoiseSchedule`, prediction), the latter "epsilon", "sample" or "v".

    Raises:
        ValueError: A schedule or a prediction that is not known here.
    """
    try:
        folder = _component(Path(path), "scheduler", "scheduler_config.json")
    except FileNotFoundError:
        return noise.linear(1000), "epsilon"
    config = _read_json(folder / "scheduler_config.json")
    timesteps = config.get("num_train_timesteps", 1000)
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        schedule = noise.NoiseSchedule(config["trained_betas"])
    elif kind == "linear":
        betas = np.linspace(config.get("beta_start", 1e-4), config.get("beta_end", 0.02), timesteps)
        usual = noise.linear(timesteps)
        schedule = usual if np.allclose(betas, usual.betas) else noise.NoiseSchedule(betas)
    elif kind == "squaredcos_cap_v2":
        schedule = noise.cosine(timesteps)
    else:
        raise ValueError(
            f"The scheduler's beta_schedule is {kind!r}; only 'linear' and 'squaredcos_cap_v2' are "
            "known: give the betas as trained_betas."
        )
    prediction = config.get("prediction_type", "epsilon").replace("v_prediction", "v")
    noise.check_prediction(prediction)
    return schedule, prediction


def _component(path, name, file):
    """The folder that holds a file: the path itself, or a pipeline's subfolder."""
    for folder in (path, path / name):
        if (folder / file).is_file():
            return folder
    raise FileNotFoundError(
        f"{path} holds no {file}, nor does {path / name}; give the model folder."
    )


def _weights_in(folder):
    for suffix in (".safetensors", ".bin"):
        if (folder / (WEIGHTS + suffix)).is_file():
            return folder / (WEIGHTS + suffix)
    raise FileNotFoundError(
        f"{folder} holds neither {WEIGHTS}.safetensors nor {WEIGHTS}.bin; download one of them."
    )


def _read_json(path):
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a JSON {type(config).__name__}; a configuration is a dict.")
    return config


def _read_weights(path):
    if path.suffix != ".safetensors":
        return load_state_dict(path)
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}).") from None
    state = {}
    for name, entry in entries:
        kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
        if entry["dtype"] not in kinds:
            raise ValueError(f"{path}: {name} is of type {entry['dtype']}; weights are floats.")
        array = np.frombuffer(entry["data"], kinds[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[name] = array
    return state


def _to_numpy(tensor):
    return np.asarray(tensor.detach().cpu().float() if hasattr(tensor, "detach") else tensor)


def _new_name(name):
    """A weight's name as diffusers writes it today (attention was renamed in 0.15)."""
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in _OLD_NAMES:
        parts[-2] = _OLD_NAMES[parts[-2]]
    return ".".join(parts)


def _assign(network, state):
    """Copies every array to its variable, or refuses and says what does not fit."""
    wanted = {name: (variable, axes) for name, variable, axes in _variables(network)}
    for problem, names in (
        ("lack", [name for name in wanted if name not in state]),
        ("hold an unknown", [name for name in state if name not in wanted]),
    ):
        if names:
            rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(
                f"The weights {problem} {names[0]}{rest}; is config.json that of this model?"
            )
    for name, (variable, axes) in wanted.items():
        array = state[name]
        shape = tuple(array.shape[axis] for axis in axes) if array.ndim == len(axes) else None
        if shape != tuple(variable.shape):
            expected = tuple(variable.shape[axis] for axis in np.argsort(axes))
            raise ValueError(
                f"{name} has shape {array.shape}, but the configuration asks for {expected}."
            )
    for name, (variable, axes) in wanted.items():
        variable.assign(np.transpose(state[name], axes).astype(np.float32))


def _variables(unet):
    """(name in diffusers, variable, axes of diffusers' array in the variable's order)."""
    for prefix, layer in _layers(unet):
        if hasattr(layer, "embeddings"):
            yield f"{prefix}.weight", layer.embeddings, (0, 1)
        elif hasattr(layer, "gamma"):
            yield f"{prefix}.weight", layer.gamma, (0,)
            yield f"{prefix}.bias", layer.beta, (0,)
        else:  # PyTorch: (out, in, height, width) and (out, in)
            axes = (2, 3, 1, 0) if len(layer.kernel.shape) == 4 else (1, 0)
            yield f"{prefix}.weight", layer.kernel, axes
            yield f"{prefix}.bias", layer.bias, (0,)


def _layers(unet):
    """(name in diffusers, layer with weights), through the whole network."""
    config = unet.get_config()
    layers = {layer.name: layer for layer in unet.layers}
    levels, blocks = len(config["channel_multipliers"]), config["num_res_blocks"]
    yield "conv_in", layers["conv_in"]
    yield "time_embedding.linear_1", layers["time_dense1"]
    yield "time_embedding.linear_2", layers["time_dense2"]
    if config["num_classes"] is not None:
        yield "class_embedding", layers["class_embedding"]
    for level in range(levels):
        yield from _block_layers(layers, f"down{level}", f"down_blocks.{level}", blocks)
        if level < levels - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", layers[f"down{level}_downsample"]
    yield from _block_layers(layers, "middle", "mid_block", 2)
    yield from _attention_layers(layers["middle_attention"], "mid_block.attentions.0")
    for index, level in enumerate(reversed(range(levels))):
        yield from _block_layers(layers, f"up{level}", f"up_blocks.{index}", blocks + 1)
        if level > 0:
            yield f"up_blocks.{index}.upsamplers.0.conv", layers[f"up{level}_upsample"]
    yield "conv_norm_out", layers["norm_out"]
    yield "conv_out", layers["conv_out"]


def _block_layers(layers, ours, theirs, count):
    """The residual blocks of a level, with the attention after each where there is one."""
    for index in range(count):
        block, prefix = layers[f"{ours}_block{index}"], f"{theirs}.resnets.{index}"
        yield f"{prefix}.norm1", block.norm1
        yield f"{prefix}.conv1", block.conv1
        yield f"{prefix}.time_emb_proj", block.time
        yield f"{prefix}.norm2", block.norm2
        yield f"{prefix}.conv2", block.conv2
        if block.shortcut is not None:
            yield f"{prefix}.conv_shortcut", block.shortcut
        attention = layers.get(f"{ours}_block{index}_attention")
        if attention is not None:
            yield from _attention_layers(attention, f"{theirs}.attentions.{index}")


def _attention_layers(block, prefix):
    yield f"{prefix}.group_norm", block.norm
    yield f"{prefix}.to_q", block.query
    yield f"{prefix}.to_k", block.key
    yield f"{prefix}.to_v", block.value
    yield f"{prefix}.to_out.0", block.project


def _image_size(sample_size):
    if sample_size is None:
        raise ValueError("The configuration leaves sample_size out; set it to the images' size.")
    if isinstance(sample_size, int):
        return sample_size, sample_size
    return tuple(sample_size)


def _attention_levels(c):
    """Levels with attention; the same on the way up as on the way down."""
    kinds = {"DownBlock2D": False, "AttnDownBlock2D": True}
    up_kinds = {"UpBlock2D": False, "AttnUpBlock2D": True}
    for name, known in (("down_block_types", kinds), ("up_block_types", up_kinds)):
        for kind in c[name]:
            if kind not in known:
                raise ValueError(
                    f"UNet cannot represent {kind!r} among {name}; it has {' and '.join(known)}."
                )
        if len(c[name]) != len(c["block_out_channels"]):
            raise ValueError(
                f"{name} has {len(c[name])} entries for {len(c['block_out_channels'])} "
                "block_out_channels; give one a level."
            )
    down = [kinds[kind] for kind in c["down_block_types"]]
    if [up_kinds[kind] for kind in c["up_block_types"]] != down[::-1]:
        raise ValueError(
            f"UNet cannot represent up_block_types={list(c['up_block_types'])} with "
            f"down_block_types={list(c['down_block_types'])}; attention must mirror."
        )
    return [level for level, has in enumerate(down) if has]


def _check_heads(c, widths):
    """Attention here has one head: as wide as its level, at each level that has it."""
    size = c["attention_head_dim"]
    wide = {widths[level] for level in _attention_levels(c)} | {widths[-1]}
    if size is not None and wide != {size}:
        raise ValueError(
            f"UNet cannot represent attention_head_dim={size} at widths {sorted(wide)}: its "
            "attention has a single head; it needs attention_head_dim=None."
        )


def _ratio(width, base):
    return width // base if width % base == 0 else width / base
