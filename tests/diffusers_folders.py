"""Folders as diffusers and its training scripts write them, of a very narrow network."""

import json
import shutil

import numpy as np
import safetensors.numpy

from ddpm_keras import UNet, interop

WEIGHTS = "diffusion_pytorch_model"
FILE = f"{WEIGHTS}.safetensors"
# google/ddpm-cifar10-32's settings, narrowed.
CONFIG = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.1.2",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [8, 16],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 8,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
AVERAGE = {  # what EMAModel.save_pretrained adds to it
    "decay": 0.9999,
    "min_decay": 0.0,
    "optimization_step": 500,
    "update_after_step": 0,
    "use_ema_warmup": True,
    "inv_gamma": 1.0,
    "power": 0.75,
}


def randomize(network, seed=0):
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0, 0.1, w.shape) for w in network.get_weights()])
    return network


def narrow_unet(seed=0):
    """A `UNet` of `CONFIG` with random weights."""
    return randomize(UNet(**interop.unet_arguments(CONFIG)), seed)


def save_each(unets, folder):
    """Saves networks by their names in `folder`."""
    for name, unet in unets.items():
        interop.save_diffusers(unet, folder / name)
    return folder


def read_state(folder):
    return safetensors.numpy.load_file(folder / FILE)


def add_file(folder, name, state):
    safetensors.numpy.save_file(state, folder / name)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def set_config(folder, **settings):
    """Changes config.json; a setting of ... is left out."""
    config = json.loads((folder / "config.json").read_text()) | settings
    write_json(folder / "config.json", {k: v for k, v in config.items() if v is not ...})


def write_shards(folder, count=3, suffix=".safetensors", variant=None, write=None):
    """Replaces the file of the weights by several and their index; returns the index's path."""
    state = read_state(folder)
    (folder / f"{WEIGHTS}.safetensors").unlink()
    part = "" if variant is None else f".{variant}"
    places = {}
    for index in range(count):
        name = f"{WEIGHTS}{part}-{index + 1:05}-of-{count:05}{suffix}"
        shard = {key: state[key] for key in list(state)[index::count]}
        (write or safetensors.numpy.save_file)(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    path = folder / f"{WEIGHTS}{suffix}.index{part}.json"
    write_json(path, {"metadata": {"total_size": 1}, "weight_map": places})
    return path


def write_pipeline(folder, unet, scheduler=None, **parts):
    """A pipeline's folder around the folder of a network; `parts` go to model_index.json."""
    shutil.copytree(unet, folder / "unet")
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler or {})
    index = {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    write_json(folder / "model_index.json", index | parts)
    return folder


def write_checkpoint(folder, raw, averages):
    """checkpoint-N of a training that keeps averages."""
    for name, source in (("unet", raw), ("unet_ema", averages)):
        if source is not None:
            shutil.copytree(source, folder / name)
    if averages is not None:
        set_config(folder / "unet_ema", **AVERAGE)
    (folder / "scheduler.bin").write_bytes(b"the learning rate's, not the noise's")
    return folder


def assert_same_weights(found, expected):
    assert found.get_config() | {"name": ""} == expected.get_config() | {"name": ""}
    for a, b in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)
