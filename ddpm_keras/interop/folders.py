"""Which folder, and which files in it, hold a diffusers model; needs no TensorFlow.

A model comes as one of
- a bare folder: config.json and weights, as `UNet2DModel.save_pretrained` and
  `EMAModel.save_pretrained` write it;
- a pipeline's folder: model_index.json, with unet/ and scheduler/ (or both at the top, as the first
  ones were published);
- a folder of a training, checkpoint-N: unet/ and, where averages were kept, unet_ema/.
"""

import os
import re
from pathlib import Path

from ..aliases import PathLike
from ..reading import json_text
from .checks import shown

CONFIG, SCHEDULER_CONFIG = "config.json", "scheduler_config.json"
PIPELINE = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
_CHOICES = ("raw", "ema")  # of `weights`
# What EMAModel.save_pretrained writes among the settings of the network; none changes the network.
AVERAGE_FIELDS = frozenset(
    ("decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup")
    + ("inv_gamma", "power", "cur_decay_value", "collected_params")
)
_RAW, _AVERAGES = "unet", "unet_ema"
_SINGLE = re.compile(rf"{WEIGHTS}(?:\.(?P<variant>\w+))?(?P<suffix>\.safetensors|\.bin)")
_INDEX = re.compile(
    rf"{WEIGHTS}(?P<suffix>\.safetensors|\.bin)\.index(?:\.(?P<variant>\w+))?\.json"
)


class MissingFile(FileNotFoundError, ValueError):
    """There is no such file or folder: wrong input, as any other. The message names the cure."""


def find_unet(path: PathLike, weights: str | None = "ema") -> Path:
    """The folder of the network that is meant, with its config.json and weights.

    Args:
        path: a bare folder, a pipeline's or a training's checkpoint-N.
        weights: "ema" for the averages in unet_ema, or the raw weights if there are none; "raw" for
            the raw weights.

    Raises:
        ValueError: no such folder, or one without the network or the weights that are asked for.
    """
    check_weights(weights)
    path = existing_folder(path)
    _check_pipeline(path)
    folder = path if (path / CONFIG).is_file() else _component(path, weights)
    if weights == "raw" and AVERAGE_FIELDS & read_json(folder / CONFIG).keys():
        raise ValueError(f"{folder} holds averages; ask for weights ema, or give the folder unet.")
    return folder


def find_scheduler(path: PathLike) -> Path | None:
    """The scheduler_config.json that belongs to a model, or None if there is none.

    It lies in the folder or in scheduler/; for the folders that a training writes, unet, unet_ema
    and checkpoint-N, also beside them.

    Raises:
        ValueError: no such folder, or a pipeline's without its scheduler.
    """
    folder = Path(os.path.abspath(existing_folder(path)))
    while True:
        for place in (folder, folder / "scheduler"):
            if (place / SCHEDULER_CONFIG).is_file():
                return place / SCHEDULER_CONFIG
        if (folder / "scheduler").is_dir() or (folder / PIPELINE).is_file():
            raise MissingFile(
                f"{folder / 'scheduler'} holds no {SCHEDULER_CONFIG}; download it again."
            )
        if not re.fullmatch(rf"{_RAW}|{_AVERAGES}|checkpoint-\d+", folder.name):
            return None
        folder = folder.parent


def find_weights(folder, variant=None):
    """The file of the weights: .safetensors before .bin, one file or the index of several.

    Args:
        folder: the folder of the network.
        variant: "fp16" for diffusion_pytorch_model.fp16.safetensors, and so on; by default the one
            without a variant, or the only one there is.

    Raises:
        ValueError: no such weights, or more than one that could be meant.
    """
    if variant is not None and not isinstance(variant, str):
        raise ValueError(f"variant is {shown(variant)}; give a name, such as fp16, or None.")
    found = {}
    for file in sorted(folder.iterdir()):
        match = _SINGLE.fullmatch(file.name) or _INDEX.fullmatch(file.name)
        if match:
            found.setdefault((match["variant"], match["suffix"]), []).append(file)
    variants = {each for each, _ in found}
    if variant is None and None not in variants and variants:
        variant = min(variants)
        if len(variants) > 1:
            raise ValueError(
                f"{folder} holds the variants {', '.join(sorted(variants))}; choose one by "
                "variant=, or leave one there."
            )
    files = found.get((variant, ".safetensors")) or found.get((variant, ".bin"))
    if not files:
        name = WEIGHTS if variant is None else f"{WEIGHTS}.{shown(variant)[1:-1]}"
        raise MissingFile(
            f"{folder} holds neither {name}.safetensors nor {name}.bin, nor the index of its "
            "shards; download one of them."
        )
    if len(files) > 1:
        raise ValueError(
            f"{folder} holds both {files[0].name} and {files[1].name}; remove the one that is old."
        )
    return files[0]


def check_weights(weights):
    """Refuses what is no choice of weights."""
    if not isinstance(weights, str) or weights not in _CHOICES:
        raise ValueError(
            f"weights is {shown(weights)}; of a diffusers model they are {' or '.join(_CHOICES)}."
        )


def existing_folder(path):
    """`path` as a `Path`, if it is a folder; what is the name of a model elsewhere is told so."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(f"The path is {shown(path)}; give the folder of a diffusers model.")
    path = Path(path)
    try:
        os.listdir(path)
        return path
    except NotADirectoryError:
        raise ValueError(f"{path} is a file; give the folder of a diffusers model.") from None
    except FileNotFoundError:
        raise MissingFile(f"There is no folder {path}; {_cure(path)}.") from None
    except (OSError, ValueError) as error:  # too long a name, one with a zero byte, no permission
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{shown(str(path))} cannot be read ({reason}); give a folder.") from None


def _cure(path):
    """How to come by a folder that is not there: a path may be the name of a model elsewhere."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path)):
        return (
            "if that is a model on the Hugging Face Hub, nothing is downloaded here: hf download "
            f"{path} --local-dir {path.name}, then give {path.name}"
        )
    return "give the folder of a diffusers model"


def read_json(path):
    """The dict in a JSON file.

    Raises:
        ValueError: not readable, far too long, not JSON, or no dict.
    """
    try:
        value = json_text.read(path, "utf-8-sig")
    except FileNotFoundError:
        raise MissingFile(f"There is no {path}; give the folder that holds {CONFIG}.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a JSON file.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}; a configuration is a dict.")
    return value


def _component(path, weights):
    """unet_ema/ or unet/ of a folder that holds no config.json itself."""
    names = (_AVERAGES, _RAW) if weights == "ema" else (_RAW,)
    folder = next((path / name for name in names if (path / name).is_dir()), path / _RAW)
    if (folder / CONFIG).is_file():
        return folder
    if weights == "raw" and (path / _AVERAGES).is_dir():
        raise MissingFile(f"{path} holds {_AVERAGES} but no {_RAW}; ask for weights ema.")
    checkpoints = [each for each in path.glob("checkpoint-*") if each.is_dir()]
    cure = "give the folder of a diffusers UNet2DModel"
    if checkpoints:
        newest = max(checkpoints, key=lambda each: (len(each.name), each.name))
        cure = f"give one of its {len(checkpoints)} checkpoints, such as {newest}"
    raise MissingFile(f"{path} holds no {CONFIG}, nor does {folder}; {cure}.")


def _check_pipeline(path):
    """A pipeline is a network and a scheduler: another part would make the images."""
    if not (path / PIPELINE).is_file():
        return
    index = read_json(path / PIPELINE)
    parts = {
        name
        for name, value in index.items()
        if not name.startswith("_") and isinstance(value, list) and any(value)
    }
    others = sorted(parts - {"unet", "scheduler"})
    if others:
        raise ValueError(
            f"{path} is a {shown(index.get('_class_name'))} whose images need its "
            f"{', '.join(others)} too; give {path / _RAW} to take its UNet alone."
        )
