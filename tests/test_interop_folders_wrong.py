"""diffusers folders that cannot be read or written: each is refused in one line."""

import json
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
    narrow_unet,
    read_state,
    save_each,
    set_config,
    write_checkpoint,
    write_json,
    write_pipeline,
    write_shards,
)
from refusals import assert_refused, assert_refused_in_one_line, call_command

from ddpm_keras import DDPM, interop


@pytest.fixture(scope="module")
def unets():
    return {"raw": narrow_unet(0), "ema": narrow_unet(1)}


@pytest.fixture(scope="module")
def saved(unets, tmp_path_factory):
    """The folders of both networks, not to be changed."""
    return save_each(unets, tmp_path_factory.mktemp("saved"))


@pytest.fixture
def bare(saved, tmp_path):
    return shutil.copytree(saved / "raw", tmp_path / "model")


# Wrong: name -> (what is done to the folder of a network; it may return the arguments of
# load_diffusers, which are the folder otherwise), and words of the refusal.
def write(name, content):
    return lambda folder: (folder / name).write_bytes(content) and None


def give(*arguments, **options):
    return lambda folder: ([folder if each is ... else each for each in arguments], options)


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def shards_changed(change):
    """A folder of shards whose index `change(index, folder)` has changed in place."""

    def make(folder):
        path = write_shards(folder)
        index = json.loads(path.read_text())
        change(index, folder)
        write_json(path, index)

    return make


def first_shard(index):
    return min(index["weight_map"].values())


def place_first(place):
    def change(index, folder):
        index["weight_map"][min(index["weight_map"])] = place

    return shards_changed(change)


def to_half_variants(folder):
    state = read_state(folder)
    (folder / FILE).unlink()
    for name in ("fp16", "bf16"):
        add_file(folder, f"{WEIGHTS}.{name}.safetensors", state)


def as_checkpoint(raw=True, ema=True, **options):
    def make(folder):
        parent = folder.parent / "checkpoint-500"
        write_checkpoint(parent, folder if raw else None, folder if ema else None)
        return [parent], options

    return make


def averages_without_weights(folder):
    (parent,), _ = as_checkpoint()(folder)
    (parent / "unet_ema" / FILE).unlink()
    return [parent], {}


def averages_without_configuration(folder):
    (parent,), _ = as_checkpoint()(folder)
    (parent / "unet_ema" / "config.json").unlink()
    return [parent], {}


def above_checkpoints(folder):
    for step in (500, 1500):
        write_checkpoint(folder.parent / "run" / f"checkpoint-{step}", folder, folder)
    return [folder.parent / "run"], {}


def latent_pipeline(folder):
    parts = {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}
    return [write_pipeline(folder.parent / "p", folder, **parts)], {}


def pipeline_whose_index_is_no_json(folder):
    path = write_pipeline(folder.parent / "p", folder)
    write_json(path / "model_index.json", "[")
    return [path], {}


def not_readable(folder):
    (folder / FILE).unlink()
    (folder / FILE).mkdir()


def damaged_tensor(name, change):
    """The file of the weights with one tensor replaced."""

    def make(folder):
        state = read_state(folder)
        state[name] = change(state[name].copy())
        add_file(folder, FILE, state)

    return make


def poke(value):
    def change(array):
        array.flat[-1] = value
        return array

    return change


def wide(folder):
    """A file far larger than its configuration has room for, sparse on disk."""
    with (folder / FILE).open("r+b") as file:
        file.truncate(2**34)


WRONG = {
    # what is given
    "a name on the hub": (give("google/ddpm-cifar10-32"), ("google/ddpm", "hf download")),
    "a folder that is not there": (give("./no/such/folder"), ("no/such/folder", "give")),
    "an empty path": (give(""), ("path", "''", "folder")),
    "a path through a file": (
        lambda f: ([f / "config.json" / "unet"], {}),
        ("config.json", "is a file"),
    ),
    "a number": (give(5), ("5", "folder")),
    "nothing": (give(None), ("None", "folder")),
    "a list": (give([..., ...]), ("folder, a file or a state dict",)),
    "a path too long": (give("x" * 5000), ("too long", "folder")),
    "a path with a zero byte": (give("a\0b"), ("a\\x00b",)),
    "weights of another name": (give(..., weights="ema_0.999"), ("ema_0.999", "raw or ema")),
    "weights that are no name": (give(..., weights=None), ("weights", "raw or ema")),
    "a variant there is not": (give(..., variant="fp16"), (f"{WEIGHTS}.fp16.safetensors",)),
    "a variant that is a path": (give(..., variant="../x"), ("../x",)),
    "a variant that is a number": (give(..., variant=16), ("16",)),
    "a variant of a state dict": (give({}, CONFIG, variant="fp16"), ("variant", "state dict")),
    "raw weights of a state dict": (give({}, CONFIG, weights="raw"), ("weights", "leave it out")),
    "a configuration that is a number": (give(..., 5), ("config", "5")),
    "a configuration that is a list": (give(..., []), ("config", "[]")),
    "a configuration that is a folder": (give(..., "."), ("cannot be read", "JSON")),
    "a configuration that is not there": (give(..., "no.json"), ("no.json",)),
    # the folder
    "an empty folder": (empty, ("config.json", "give the folder")),
    "no configuration": (lambda f: (f / "config.json").unlink(), ("config.json",)),
    "no weights": (lambda f: (f / FILE).unlink(), (FILE, f"{WEIGHTS}.bin")),
    "shards without their index": (lambda f: write_shards(f).unlink(), (FILE, "index")),
    "averages alone, raw asked for": (as_checkpoint(raw=False, weights="raw"), ("ema", "unet")),
    "averages, raw asked for": (
        lambda f: set_config(f, **AVERAGE) or ([f], {"weights": "raw"}),
        ("averages", "ema"),
    ),
    "averages without weights": (averages_without_weights, ("unet_ema", FILE)),
    "averages without configuration": (averages_without_configuration, ("unet_ema", "config.json")),
    "the folder above checkpoints": (above_checkpoints, ("2 checkpoints", "checkpoint-1500")),
    "a pipeline with another part": (latent_pipeline, ("LDMPipeline", "vqvae", "unet")),
    "a pipeline whose index is damaged": (pipeline_whose_index_is_no_json, ("model_index.json",)),
    "two variants and no other": (to_half_variants, ("bf16, fp16", "variant=")),
    "one file and shards": (
        lambda f: shutil.copy(f / FILE, f / "x") and write_shards(f) and (f / "x").rename(f / FILE),
        (FILE, "index", "remove"),
    ),
    # the configuration
    "not JSON": (write("config.json", b"{"), ("config.json", "not JSON", "again")),
    "not UTF-8": (write("config.json", b'{"a": "\xff"}'), ("config.json", "not JSON")),
    "a list in JSON": (write("config.json", b"[1]"), ("config.json", "list", "dict")),
    "JSON too deep": (write("config.json", b"[" * 100_000), ("config.json", "not JSON")),
    "JSON too long": (write("config.json", b" " * (2**24 + 1)), ("config.json", "bytes")),
    "a setting that does not fit": (
        lambda f: set_config(f, freq_shift=0),
        ("config.json", "freq_shift=0", "freq_shift=1"),
    ),
    "another class": (
        lambda f: set_config(f, _class_name="UNet2DConditionModel"),
        ("config.json", "UNet2DConditionModel", "UNet2DModel"),
    ),
    # the file of the weights
    "no safetensors": (write(FILE, b"\0" * 20), (FILE, "not a safetensors file")),
    "cut short": (lambda f: os.truncate(f / FILE, 5000), (FILE, "not a safetensors file")),
    "of no length": (write(FILE, b""), (FILE, "not a safetensors file")),
    "a pointer of Git": (write(FILE, b"version https://git-lfs.github.com/spec/v1\n"), ("lfs",)),
    "a page of HTML": (write(FILE, b"<!doctype html>" * 20), (FILE, "not a safetensors file")),
    "a folder of that name": (not_readable, (FILE, "cannot be read")),
    "a link to nothing": (
        lambda f: (f / FILE).unlink() or os.symlink("nowhere", f / FILE),
        (FILE, "There is no"),
    ),
    "larger than the configuration": (wide, (FILE, str(2**34), "config.json")),
    "integers": (damaged_tensor("conv_in.bias", lambda a: a.astype("i4")), ("conv_in.bias", "I32")),
    "booleans": (damaged_tensor("conv_in.bias", lambda a: a > 0), ("conv_in.bias", "BOOL")),
    "NaN": (damaged_tensor("conv_in.bias", poke(np.nan)), (FILE, "conv_in.bias", "NaN")),
    "infinity": (damaged_tensor("conv_out.weight", poke(-np.inf)), (FILE, "conv_out.weight")),
    "beyond float32": (
        damaged_tensor("conv_in.bias", lambda a: np.full(a.shape, 1e300)),
        (FILE, "conv_in.bias", "infinity"),
    ),
    "another shape": (
        damaged_tensor("conv_in.weight", lambda a: a[:, :1]),
        (FILE, "conv_in.weight", "(8, 1, 3, 3)", "(8, 3, 3, 3)"),
    ),
    "transposed": (
        damaged_tensor("time_embedding.linear_1.weight", lambda a: a.T),
        (FILE, "time_embedding.linear_1.weight", "(8, 32)", "(32, 8)"),
    ),
    "one tensor more": (
        lambda f: add_file(f, FILE, read_state(f) | {"extra": np.zeros(3, "f4")}),
        (FILE, "unknown extra", "config.json"),
    ),
    "one tensor fewer": (
        lambda f: add_file(f, FILE, {k: v for k, v in read_state(f).items() if "conv_in" not in k}),
        (FILE, "lack conv_in.weight and 1 more"),
    ),
    "no tensor": (lambda f: add_file(f, FILE, {}), (FILE, "lack conv_in.weight")),
    "a deeper configuration": (
        lambda f: set_config(f, layers_per_block=2),
        (FILE, "lack down_blocks.0.resnets.1.norm1.weight"),
    ),
    # shards
    "an index that is no JSON": (
        lambda f: write_json(write_shards(f), "{"),
        (f"{FILE}.index.json", "not JSON"),
    ),
    "an index without a map": (shards_changed(lambda i, f: i.pop("weight_map")), ("weight_map",)),
    "a map that is a list": (shards_changed(lambda i, f: i.update(weight_map=[])), ("weight_map",)),
    "a shard that is missing": (
        shards_changed(lambda i, f: (f / first_shard(i)).unlink()),
        ("index.json", "-00001-of-00003", "download"),
    ),
    "a shard that is damaged": (
        shards_changed(lambda i, f: (f / first_shard(i)).write_bytes(b"x" * 99)),
        ("-00001-of-00003", "not a safetensors file"),
    ),
    "a shard elsewhere": (place_first("../secret.safetensors"), ("index.json", "beside")),
    "a shard at the root": (place_first("/etc/secret.bin"), ("index.json", "beside")),
    "a shard that is no name": (place_first(3), ("index.json", "3", "no file of weights")),
    "a shard that is no weights": (place_first("config.json"), ("config.json", "no file of")),
    "a tensor in another shard": (
        shards_changed(
            lambda i, f: i["weight_map"].update({"conv_in.weight": max(i["weight_map"].values())})
        ),
        ("conv_in.weight", "again"),
    ),
    "a tensor that the index lacks": (
        shards_changed(lambda i, f: i["weight_map"].pop("conv_in.weight")),
        ("conv_in.weight", "again"),
    ),
    "shards of which none is complete": (
        shards_changed(lambda i, f: add_file(f, first_shard(i), {})),
        ("-00001-of-00003", "lacks"),
    ),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_refused(make, words, bare):
    made = make(bare)
    arguments, options = made if isinstance(made, tuple) else ([bare], {})
    assert_refused(lambda: interop.load_diffusers(*arguments, **options), words)


def test_a_missing_file_is_also_a_missing_file(tmp_path):
    """Whichever way a caller looks for it."""
    for path in (tmp_path, tmp_path / "nowhere"):
        assert_refused(lambda path=path: interop.load_diffusers(path), (), FileNotFoundError)


# What save_diffusers refuses: (what is saved, of `unets`; where, in an own folder), words.
def diverged(unets):
    unet = narrow_unet()
    unet.get_layer("conv_out").bias.assign([0.0, np.nan, 0.0])
    return unet


def below_a_file(path):
    (path / "file").write_text("")
    return path / "file"


def through_a_file(path):
    return below_a_file(path) / "model"


def in_a_folder_of_shards(path):
    write_json(path / f"{FILE}.index.json", {})
    return path


WRONG_SAVES = {
    "a DDPM": (lambda unets: DDPM(unets["raw"], ema=None), lambda path: path, ("UNet", "DDPM")),
    "nothing": (lambda unets: None, lambda path: path, ("UNet", "NoneType")),
    "weights that are not finite": (diverged, lambda path: path, ("conv_out.bias", "NaN")),
    "onto a file": (lambda unets: unets["raw"], below_a_file, ("is a file", "folder")),
    "through a file": (lambda unets: unets["raw"], through_a_file, ("cannot be written", "folder")),
    "to a path too long": (lambda u: u["raw"], lambda path: path / ("x" * 300), ("too long",)),
    "into a folder of shards": (lambda unets: unets["raw"], in_a_folder_of_shards, ("index.json",)),
    "to an empty path": (lambda unets: unets["raw"], lambda path: "", ("path", "folder")),
    "to a number": (lambda unets: unets["raw"], lambda path: 5, ("path", "5")),
}


@pytest.mark.parametrize(("what", "where", "words"), WRONG_SAVES.values(), ids=WRONG_SAVES)
def test_what_cannot_be_written_is_refused(what, where, words, unets, tmp_path):
    unet, path = what(unets), where(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(lambda: interop.save_diffusers(unet, path), words)
    assert sorted(tmp_path.rglob("*")) == before


WRONG_COMMANDS = {
    "a name on the hub": (("google/ddpm-cifar10-32",), ("google/ddpm-cifar10-32", "hf download")),
    "nowhere": (("nowhere",), ("nowhere", "folder")),
    "an empty folder": (("empty",), ("empty", "config.json")),
    "an average by its decay": (("model", "--weights", "ema_0.999"), ("ema_0.999", "raw or ema")),
    "raw weights of averages": (("averages", "--weights", "raw"), ("averages", "ema")),
    "a scheduler without its file": (("broken",), ("scheduler_config.json", "again")),
    "flow matching": (("flow",), ("scheduler_config.json", "FlowMatchEulerDiscreteScheduler")),
}


@pytest.fixture(scope="module")
def models(saved, tmp_path_factory):
    """A folder for the command, with a model of each name in `WRONG_COMMANDS`."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("model", "averages"):
        shutil.copytree(saved / "raw", folder / name)
    set_config(folder / "averages", **AVERAGE)
    (folder / "empty").mkdir()
    write_pipeline(folder / "broken", saved / "raw")
    (folder / "broken" / "scheduler" / "scheduler_config.json").unlink()
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0}
    write_pipeline(folder / "flow", saved / "raw", flow)
    return folder


@pytest.mark.parametrize(("arguments", "words"), WRONG_COMMANDS.values(), ids=WRONG_COMMANDS)
def test_sample_refuses_in_one_line(arguments, words, models, monkeypatch, capfd):
    before = [path.relative_to(models).as_posix() for path in models.rglob("*")]
    outcome = call_command(
        *("sample.py", "--from-diffusers", *arguments),
        folder=models,
        monkeypatch=monkeypatch,
        capfd=capfd,
    )
    assert_refused_in_one_line(outcome, "sample.py", words, models, before)
