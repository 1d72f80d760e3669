"""diffusers folders as they are published and as trainings leave them: what is taken."""

import os
import shutil

import numpy as np
import pytest
from diffusers_folders import (
    AVERAGE,
    CONFIG,
    FILE,
    WEIGHTS,
    add_file,
    assert_same_weights,
    narrow_unet,
    read_state,
    save_each,
    set_config,
    write_checkpoint,
    write_json,
    write_pipeline,
    write_shards,
)
from refusals import call_command

from ddpm_keras import DDPM, interop, samplers


@pytest.fixture(scope="module")
def unets():
    return {"raw": narrow_unet(0), "ema": narrow_unet(1)}


@pytest.fixture(scope="module")
def saved(unets, tmp_path_factory):
    """The folders of both networks, not to be changed."""
    return save_each(unets, tmp_path_factory.mktemp("saved"))


def half(state, kind=np.float16):
    return {name: array.astype(kind) for name, array in state.items()}


# Right: name -> what makes a folder of `saved` (a folder with raw/ and ema/) in `path`, and returns
# what is given to load_diffusers, and which weights that gives.
def pipeline(path, saved):
    return (write_pipeline(path / "p", saved / "raw"),), "raw"


def pipeline_of_the_first_days(path, saved):
    folder = shutil.copytree(saved / "raw", path / "p")
    write_json(folder / "scheduler_config.json", {})
    write_json(folder / "model_index.json", {"_class_name": "DDPMPipeline", "unet": ["a", "b"]})
    return (folder,), "raw"


def pipeline_with_an_empty_part(path, saved):
    return (write_pipeline(path / "p", saved / "raw", vqvae=[None, None]),), "raw"


def unet_alone_of_a_latent_pipeline(path, saved):
    folder = write_pipeline(path / "p", saved / "raw", vqvae=["diffusers", "VQModel"])
    return (folder / "unet",), "raw"


def average_alone(path, saved):
    folder = shutil.copytree(saved / "ema", path / "unet_ema")
    set_config(folder, **AVERAGE)
    return (folder,), "ema"


def checkpoint(path, saved):
    return (write_checkpoint(path / "checkpoint-500", saved / "raw", saved / "ema"),), "ema"


def checkpoint_raw(path, saved):
    (folder,), _ = checkpoint(path, saved)
    return (folder, None, "raw"), "raw"


def checkpoint_without_averages(path, saved):
    return (write_checkpoint(path / "checkpoint-500", saved / "raw", None), None, "ema"), "raw"


def checkpoint_of_averages_alone(path, saved):
    return (write_checkpoint(path / "checkpoint-500", None, saved / "ema"),), "ema"


def its_unet_by_name(path, saved):
    (folder,), _ = checkpoint(path, saved)
    return (str(folder / "unet"),), "raw"


def shards(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    write_shards(folder)
    return (folder,), "raw"


def one_shard(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    write_shards(folder, count=1)
    return (folder,), "raw"


def shards_of_a_variant(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    write_shards(folder, variant="fp16")
    return (folder, None, "ema", "fp16"), "raw"


def index_of_shards(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    return (write_shards(folder), folder / "config.json"), "raw"


def the_only_variant(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    (folder / FILE).rename(folder / f"{WEIGHTS}.fp32.safetensors")
    return (folder,), "raw"


def a_variant_by_name(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    add_file(folder, f"{WEIGHTS}.non_ema.safetensors", read_state(saved / "ema"))
    return (folder, None, "ema", "non_ema"), "ema"


def no_variant_before_variants(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    for name in ("fp16", "bf16"):
        add_file(folder, f"{WEIGHTS}.{name}.safetensors", half(read_state(saved / "ema")))
    return (folder,), "raw"


def safetensors_before_bin(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    (folder / f"{WEIGHTS}.bin").write_bytes(b"not looked at")
    return (folder,), "raw"


def another_configuration(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    set_config(folder, sample_size=None)
    return (folder, CONFIG), "raw"


def a_configuration_with_a_byte_order_mark(path, saved):
    folder = shutil.copytree(saved / "raw", path / "m")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text, encoding="utf-8-sig")
    return (folder,), "raw"


def links(path, saved):
    """As a cache of downloads keeps them."""
    folder = path / "m"
    folder.mkdir()
    for name in (FILE, "config.json"):
        os.symlink(saved / "raw" / name, folder / name)
    return (folder,), "raw"


RIGHT = [
    *(pipeline, pipeline_of_the_first_days, pipeline_with_an_empty_part),
    *(unet_alone_of_a_latent_pipeline, average_alone, checkpoint, checkpoint_raw),
    *(checkpoint_without_averages, checkpoint_of_averages_alone, its_unet_by_name, shards),
    *(one_shard, shards_of_a_variant, index_of_shards, the_only_variant, a_variant_by_name),
    *(no_variant_before_variants, safetensors_before_bin, another_configuration),
    *(a_configuration_with_a_byte_order_mark, links),
]


@pytest.mark.parametrize("make", RIGHT)
def test_folders_that_are_read(make, unets, saved, tmp_path):
    arguments, expected = make(tmp_path, saved)
    assert_same_weights(interop.load_diffusers(*arguments), unets[expected])


def test_saving_twice_replaces_the_first(unets, tmp_path):
    interop.save_diffusers(unets["raw"], tmp_path)
    interop.save_diffusers(unets["ema"], tmp_path)
    assert_same_weights(interop.load_diffusers(tmp_path), unets["ema"])


def test_the_folder_that_is_taken_is_told_without_reading_it(saved, tmp_path):
    both = write_checkpoint(tmp_path / "checkpoint-500", saved / "raw", saved / "ema")
    assert interop.find_unet(both) == both / "unet_ema"
    assert interop.find_unet(both, "raw") == both / "unet"
    assert interop.find_unet(both / "unet", "ema") == both / "unet"


@pytest.mark.parametrize(("weights", "of"), [((), "ema"), (("--weights", "raw"), "raw")])
def test_sample_draws_from_what_it_says(weights, of, unets, saved, tmp_path, monkeypatch, capfd):
    """Steps of a training: the noise schedule lies beside its checkpoints."""
    folder = write_pipeline(tmp_path / "run", saved / "raw", {"num_train_timesteps": 10})
    write_checkpoint(folder / "checkpoint-500", saved / "raw", saved / "ema")
    arguments = ("--num", 1, "--steps", 1, "--out", "drawn.npz")
    outcome = call_command(
        *("sample.py", "--from-diffusers", folder / "checkpoint-500", *weights, *arguments),
        folder=tmp_path,
        monkeypatch=monkeypatch,
        capfd=capfd,
    )
    assert outcome.status == 0, outcome
    name = {"ema": "unet_ema", "raw": "unet"}[of]
    said = outcome.out.splitlines()[0]
    assert f"checkpoint-500/{name};" in said and "run/scheduler/" in said and "10 timesteps" in said
    schedule, prediction = interop.load_diffusers_schedule(folder)
    model = DDPM(unets[of], schedule=schedule, prediction=prediction, ema=None)
    expected = model.sample(1, sampler=samplers.DDIM(1), seed=0)
    np.testing.assert_array_equal(np.load(tmp_path / "drawn.npz")["images"], expected)
