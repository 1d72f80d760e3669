"""What an editor sees of the package: names, signatures and docstrings, without running it."""

import dataclasses
import importlib
import inspect
from pathlib import Path

import jedi
import pytest

import ddpm_keras

PARTS = ("callbacks", "data", "drawing", "ema", "interop", "quality", "samplers")
ROOT = Path(__file__).parents[1]

# What is written | what the editor shows of the call: some of its parameters.
SIGNATURES = {
    "from ddpm_keras import DDPM\nDDPM(": ["network", "schedule", "ema", "image_range"],
    "import ddpm_keras\nddpm_keras.DDPM(": ["network", "prediction"],
    "from ddpm_keras import EMA\nEMA(": ["decays"],
    "from ddpm_keras import EMAModel\nEMAModel(": ["network", "ema"],
    "from ddpm_keras import UNet\nUNet(": ["image_shape", "base_channels"],
    "from ddpm_keras import samplers\nsamplers.DDIM(": ["steps", "eta", "spacing"],
    "from ddpm_keras import noise\nnoise.linear(": ["timesteps"],
    "from ddpm_keras import callbacks\ncallbacks.SampleGrid(": ["directory"],
    "from ddpm_keras import quality\nquality.FIDInceptionFeatures(": ["path"],
    "from ddpm_keras import quality\nquality.frechet_distance(": ["real", "generated"],
    "from ddpm_keras import posthoc\nposthoc.synthesize(": ["sigma_rel", "decay"],
    "from ddpm_keras import interop\ninterop.load_diffusers(": ["path_or_state"],
    "from ddpm_keras import data\ndata.load(": ["name", "held_out"],
    "from ddpm_keras import DDPM\nDDPM(None).sample(": ["weights", "sampler", "seed"],
}
NAMES = {
    "from ddpm_keras import ": {"DDPM", "EMA", "EMAModel", "UNet", "callbacks", "samplers"},
    "from ddpm_keras import quality\nquality.": {"InceptionFeatures", "kernel_distance"},
    "from ddpm_keras import interop\ninterop.": {"save_diffusers", "find_unet"},
    "from ddpm_keras.ema import ": {"WarmupDecay", "PowerFunctionDecay"},
}


@pytest.fixture(scope="module")
def project():
    return jedi.Project(ROOT)


@pytest.mark.parametrize("code", SIGNATURES)
def test_signatures_are_shown_with_what_they_say(code, project):
    (signature,) = jedi.Script(code, project=project).get_signatures()
    shown = [parameter.name for parameter in signature.params]
    assert set(SIGNATURES[code]) <= set(shown), shown
    assert signature.docstring(raw=True)


@pytest.mark.parametrize("code", NAMES)
def test_names_are_completed(code, project):
    completed = {each.name for each in jedi.Script(code, project=project).complete()}
    assert NAMES[code] <= completed


def own_functions(thing):
    """The functions of a public class, or the function itself, that are of this package."""
    found = vars(thing).items() if inspect.isclass(thing) else [("", thing)]
    for name, each in found:
        each = getattr(each, "__func__", getattr(each, "fget", each))
        public = not name.startswith("_") or name in ("__init__", "__call__")
        if public and inspect.isfunction(each) and each.__module__.startswith("ddpm_keras"):
            yield each


def public_things():
    parts = [importlib.import_module(f"ddpm_keras.{name}") for name in PARTS]
    for part in (ddpm_keras, *parts):
        for name in part.__all__:
            thing = getattr(part, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{part.__name__}.{name}")


@pytest.mark.parametrize("thing", list(public_things()))
def test_public_names_are_annotated(thing):
    missing = []
    for function in own_functions(thing):
        if dataclasses.is_dataclass(thing) and function.__name__ == "__init__":
            continue
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
        missing += [f"{function.__qualname__}({x.name})" for x in own if x.annotation is x.empty]
        if signature.return_annotation is signature.empty and function.__name__ != "__init__":
            missing.append(f"{function.__qualname__} ->")
    assert not missing
