"""The configuration of a diffusers `UNet2DModel` as arguments of `UNet`, and back.

Every setting is honoured, or refused by name, since the result would differ silently. Sizes are
bounded far beyond any published model, before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..networks.layers import usual_groups
from . import checks, unet_weights
from .checks import shown
from .folders import AVERAGE_FIELDS

if TYPE_CHECKING:  # names in annotations alone
    from ..networks.unet import UNet

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
# The scheduler's business, unless timesteps are "learned"; and what is said of an average.
_IGNORED = {"num_train_timesteps"} | AVERAGE_FIELDS
# The least and the most of every size.
_BOUNDS = {
    "in_channels": (1, 1024),
    "out_channels": (1, 1024),
    "layers_per_block": (1, 64),
    "norm_num_groups": (1, 8192),
    "num_class_embeds": (2, 1_000_000),
}
_MAX_LEVELS, _MAX_WIDTH, _MAX_SIDE = 12, 8192, 8192
_KINDS = {
    "down_block_types": {"DownBlock2D": False, "AttnDownBlock2D": True},
    "up_block_types": {"UpBlock2D": False, "AttnUpBlock2D": True},
}


def unet_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the `UNet` that a diffusers `UNet2DModel` configuration describes.

    Args:
        config: dict, the contents of config.json.

    Raises:
        ValueError: a setting that `UNet` cannot represent, or that is no setting at all.
    """
    _check_names(config)
    _check_fixed(config)
    c = {name: config.get(name, default) for name, default in _DEFAULTS.items()}
    for name, (least, most) in _BOUNDS.items():
        if name != "num_class_embeds" or c[name] is not None:
            c[name] = checks.whole(name, c[name], least, most)
    widths = _widths(c)
    height, width = _image_size(c["sample_size"], len(widths))
    levels = _attention_levels(c, len(widths))
    _check_heads(c["attention_head_dim"], {widths[level] for level in levels} | {widths[-1]})
    _check_equal(c, "time_embedding_dim", 4 * widths[0], "four times the first width")
    _check_equal(c, "attn_norm_num_groups", c["norm_num_groups"], "as norm_num_groups")
    classes = c["num_class_embeds"]
    return {
        "image_shape": (height, width, c["in_channels"]),
        "base_channels": widths[0],
        "channel_multipliers": tuple(_ratio(each, widths[0]) for each in widths),
        "num_res_blocks": c["layers_per_block"],
        "attention_resolutions": tuple(max(height, width) // 2**level for level in levels),
        "dropout": _dropout(c["dropout"]),
        "num_classes": None if classes is None else classes - 1,
        "groups": c["norm_num_groups"],
        "norm_epsilon": checks.real("norm_eps", c["norm_eps"], 0, 1),
        "out_channels": None if c["out_channels"] == c["in_channels"] else c["out_channels"],
    }


def diffusers_config(unet: UNet) -> dict[str, Any]:
    """The diffusers `UNet2DModel` configuration, dict, of a `UNet`.

    Raises:
        ValueError: a `UNet` that no such configuration describes.
    """
    c = unet.get_config()
    height, width, channels = c["image_shape"]
    widths = [round(c["base_channels"] * multiplier) for multiplier in c["channel_multipliers"]]
    attention = [
        max(height, width) // 2**level in c["attention_resolutions"] for level in range(len(widths))
    ]
    num_classes = c["num_classes"]
    config = {
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
        "norm_num_groups": c["groups"] or _same_groups(c),
        "attention_head_dim": None,
        "num_class_embeds": None if num_classes is None else num_classes + 1,
        **{name: accepted[0] for name, (_, accepted) in _FIXED.items()},
    }
    unet_arguments(config)  # what is written is what is read
    return config


def _same_groups(c):
    """The number of groups that all normalisations of a `UNet` have in common.

    Args:
        c: its configuration.

    Raises:
        ValueError: they differ, and diffusers has one number for all.
    """
    weights = [shape for name, shape in unet_weights.shapes(c).items() if name.endswith(".weight")]
    channels = {shape[0] for shape in weights if len(shape) == 1}  # those of normalisations
    numbers = sorted(set(map(usual_groups, channels)))
    if len(numbers) > 1:
        common = math.gcd(*channels)
        cure = next(groups for groups in range(numbers[0], 0, -1) if common % groups == 0)
        raise ValueError(
            f"The normalisations of this UNet have {', '.join(map(str, numbers))} groups, each by "
            f"its width, and a UNet2DModel has one number for all: train with groups={cure}."
        )
    return numbers[0]


def _check_names(config):
    """Refuses what is no configuration of a `UNet2DModel`, and settings that are not known."""
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise ValueError(f"A diffusers {shown(kind)} was given; only UNet2DModel fits.")
    known = {*_DEFAULTS, *_FIXED, *_IGNORED}
    unknown = sorted(str(name) for name in config if name not in known and str(name)[:1] != "_")
    if unknown:
        rest = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(
            f"The configuration sets {', '.join(map(shown, unknown[:3]))}{rest}, unknown for a "
            "UNet2DModel; give the config.json of a UNet2DModel."
        )


def _check_fixed(config):
    for name, (default, accepted) in _FIXED.items():
        value = config.get(name, default)
        if not checks.same(value, accepted):
            raise ValueError(
                f"UNet cannot represent {name}={shown(value)} of this UNet2DModel; it needs "
                f"{name}={accepted[0]!r}."
            )


def _check_equal(c, name, needed, why):
    if not checks.same(c[name], (None, needed)):
        raise ValueError(
            f"UNet cannot represent {name}={shown(c[name])}; it needs {needed}, {why}."
        )


def _widths(c):
    """The width of each level, a multiple of the groups; the first one carries the timestep."""
    widths = checks.entries("block_out_channels", c["block_out_channels"], _MAX_LEVELS)
    for level, width in enumerate(widths):
        checks.whole(f"block_out_channels[{level}]", width, 1, _MAX_WIDTH)
        if width % c["norm_num_groups"]:
            raise ValueError(
                f"block_out_channels[{level}] is {width}, which norm_num_groups="
                f"{c['norm_num_groups']} does not divide; the configuration is damaged."
            )
    if widths[0] < 4 or widths[0] % 2:
        raise ValueError(f"block_out_channels[0] is {widths[0]}; it must be even, and at least 4.")
    return tuple(map(int, widths))


def _image_size(sample_size, levels):
    """(height, width), each halved evenly at every level."""
    if sample_size is None:
        raise ValueError("The configuration leaves sample_size out; set it to the images' size.")
    sides = sample_size if isinstance(sample_size, (list, tuple)) else (sample_size,) * 2
    if len(sides) != 2:
        raise ValueError(f"sample_size is {shown(sample_size)}; give one side, or two.")
    for side in sides:
        if checks.whole("sample_size", side, 1, _MAX_SIDE) % 2 ** (levels - 1):
            raise ValueError(
                f"sample_size is {shown(sample_size)}, which cannot be halved {levels - 1} times, "
                f"once between any two levels; it must be a multiple of {2 ** (levels - 1)}."
            )
    return tuple(map(int, sides))


def _attention_levels(c, levels):
    """Levels with attention; the same on the way up as on the way down."""
    has = {}
    for name, known in _KINDS.items():
        kinds = checks.entries(name, c[name], _MAX_LEVELS)
        for kind in kinds:
            if not isinstance(kind, str) or kind not in known:
                raise ValueError(
                    f"UNet cannot represent {shown(kind)} among {name}; it has "
                    f"{' and '.join(known)}."
                )
        if len(kinds) != levels:
            raise ValueError(
                f"{name} has {len(kinds)} entries for {levels} block_out_channels; give one a "
                "level."
            )
        has[name] = [known[kind] for kind in kinds]
    if has["up_block_types"] != has["down_block_types"][::-1]:
        raise ValueError(
            f"UNet cannot represent up_block_types={list(c['up_block_types'])} with "
            f"down_block_types={list(c['down_block_types'])}; attention must mirror."
        )
    return [level for level, attends in enumerate(has["down_block_types"]) if attends]


def _check_heads(size, widths):
    """Attention here has one head: as wide as its level, at each level that has it."""
    if size is not None and not (checks.same(size, widths) and len(widths) == 1):
        raise ValueError(
            f"UNet cannot represent attention_head_dim={shown(size)} at widths {sorted(widths)}: "
            "its attention has a single head; it needs attention_head_dim=None."
        )


def _dropout(rate):
    """A rate in [0, 1)."""
    return 0.0 if checks.same(rate, (0,)) else checks.real("dropout", rate, 0, 1)


def _ratio(width, base):
    return width // base if width % base == 0 else width / base
