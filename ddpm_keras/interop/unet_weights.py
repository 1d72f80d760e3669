"""Where each tensor of a diffusers `UNet2DModel` lies in a `UNet`, known before one is built."""

import dataclasses

import numpy as np

from .checks import shown

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer with weights.

    Attributes:
        theirs: its name in diffusers.
        ours: the layer of the `UNet`, and the one inside it where it is a block.
        shape: of its weight as PyTorch has it: (out, in, height, width), (out, in) or (channels,).
    """

    theirs: str
    ours: tuple
    shape: tuple


def shapes(arguments):
    """dict of name in diffusers -> shape in PyTorch's order.

    Args:
        arguments: of a `UNet`: those of `unet_arguments`, or what its `get_config` gives.
    """
    found = {}
    for layer in _layers(arguments):
        found[f"{layer.theirs}.weight"] = layer.shape
        if layer.theirs != "class_embedding":
            found[f"{layer.theirs}.bias"] = layer.shape[:1]
    return found


def variables(unet):
    """(name in diffusers, variable, axes of diffusers' array in the variable's order), for all."""
    for each in _layers(unet.get_config()):
        layer = unet.get_layer(each.ours[0])
        for inner in each.ours[1:]:
            layer = getattr(layer, inner)
        if hasattr(layer, "embeddings"):
            yield f"{each.theirs}.weight", layer.embeddings, (0, 1)
        elif hasattr(layer, "gamma"):
            yield f"{each.theirs}.weight", layer.gamma, (0,)
            yield f"{each.theirs}.bias", layer.beta, (0,)
        else:
            axes = (2, 3, 1, 0) if len(each.shape) == 4 else (1, 0)
            yield f"{each.theirs}.weight", layer.kernel, axes
            yield f"{each.theirs}.bias", layer.bias, (0,)


def with_new_names(state):
    """The state dict under the names diffusers writes today (attention was renamed in 0.15)."""
    renamed = {}
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise ValueError(f"A state dict's names are strings, not {shown(name)}.")
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in _OLD_NAMES:
            parts[-2] = _OLD_NAMES[parts[-2]]
        new = ".".join(parts)
        if new in renamed:
            raise ValueError(f"The weights hold {new} twice, by its old and by its new name.")
        renamed[new] = tensor
    return renamed


def check_shapes(state, wanted):
    """Refuses tensors that are missing, left over, no tensors or of another shape, by name.

    Args:
        state: dict of name -> array or tensor, of the weights.
        wanted: dict of name -> shape, of the configuration.
    """
    for name, tensor in state.items():
        if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
            raise ValueError(
                f"{shown(name)} is a {type(tensor).__name__}, not a tensor; give the state dict "
                "itself."
            )
    for problem, names in (
        ("lack", [name for name in wanted if name not in state]),
        ("hold an unknown", [name for name in state if name not in wanted]),
    ):
        if names:
            rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(
                f"The weights {problem} {shown(names[0])[1:-1]}{rest}; is config.json that of this "
                "model?"
            )
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)}, but the configuration asks for "
                f"{shape}."
            )


def to_float32(name, tensor):
    """A tensor of floats as a float32 array; anything else, and NaN or infinity, is refused."""
    kind = getattr(tensor.dtype, "name", str(tensor.dtype)).removeprefix("torch.")
    if kind not in _FLOATS:
        raise ValueError(f"{name} is of type {shown(kind)[1:-1]}; weights are floats.")
    if hasattr(tensor, "detach"):  # of PyTorch, perhaps bfloat16, which NumPy does not have
        tensor = tensor.detach().cpu().double().numpy()
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, refused below
        array = np.asarray(tensor).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds NaN or infinity: its training had diverged; take weights saved before."
        )
    return array


def _layers(arguments):
    """Every `_Layer` of a `UNet`, in the order of its computation."""
    base, blocks = arguments["base_channels"], arguments["num_res_blocks"]
    widths = [round(base * multiplier) for multiplier in arguments["channel_multipliers"]]
    height, width, channels = arguments["image_shape"]
    attends = [
        max(height, width) // 2**level in arguments["attention_resolutions"]
        for level in range(len(widths))
    ]
    time, last = 4 * base, len(widths) - 1

    def block(ours, theirs, index, inputs, outputs, attention):
        ours, prefix = f"{ours}_block{index}", f"{theirs}.resnets.{index}"
        yield from _block_layers(ours, prefix, inputs, outputs, time)
        if attention:
            yield from _attention_layers(
                f"{ours}_attention", f"{theirs}.attentions.{index}", outputs
            )

    yield _conv("conv_in", "conv_in", channels, base)
    yield _Layer("time_embedding.linear_1", ("time_dense1",), (time, base))
    yield _Layer("time_embedding.linear_2", ("time_dense2",), (time, time))
    if arguments["num_classes"] is not None:
        classes = arguments["num_classes"] + 1
        yield _Layer("class_embedding", ("class_embedding",), (classes, time))

    width, skips = base, [base]
    for level, outputs in enumerate(widths):
        theirs = f"down_blocks.{level}"
        for index in range(blocks):
            yield from block(f"down{level}", theirs, index, width, outputs, attends[level])
            width = outputs
            skips.append(width)
        if level < last:
            yield _conv(f"{theirs}.downsamplers.0.conv", f"down{level}_downsample", width, width)
            skips.append(width)

    yield from block("middle", "mid_block", 0, width, width, attention=False)
    yield from _attention_layers("middle_attention", "mid_block.attentions.0", width)
    yield from block("middle", "mid_block", 1, width, width, attention=False)

    for level in reversed(range(len(widths))):
        theirs = f"up_blocks.{last - level}"
        for index in range(blocks + 1):
            inputs, outputs = width + skips.pop(), widths[level]
            yield from block(f"up{level}", theirs, index, inputs, outputs, attends[level])
            width = outputs
        if level > 0:
            yield _conv(f"{theirs}.upsamplers.0.conv", f"up{level}_upsample", width, width)

    yield _Layer("conv_norm_out", ("norm_out",), (width,))
    yield _conv("conv_out", "conv_out", width, arguments["out_channels"] or channels)


def _conv(theirs, ours, inputs, outputs):
    return _Layer(theirs, (ours,), (outputs, inputs, 3, 3))


def _block_layers(ours, prefix, inputs, outputs, time):
    """The layers of a residual block."""
    yield _Layer(f"{prefix}.norm1", (ours, "norm1"), (inputs,))
    yield _Layer(f"{prefix}.conv1", (ours, "conv1"), (outputs, inputs, 3, 3))
    yield _Layer(f"{prefix}.time_emb_proj", (ours, "time"), (outputs, time))
    yield _Layer(f"{prefix}.norm2", (ours, "norm2"), (outputs,))
    yield _Layer(f"{prefix}.conv2", (ours, "conv2"), (outputs, outputs, 3, 3))
    if inputs != outputs:
        yield _Layer(f"{prefix}.conv_shortcut", (ours, "shortcut"), (outputs, inputs, 1, 1))


def _attention_layers(ours, prefix, channels):
    yield _Layer(f"{prefix}.group_norm", (ours, "norm"), (channels,))
    for theirs, name in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "project"),
    ):
        yield _Layer(f"{prefix}.{theirs}", (ours, name), (channels, channels))
