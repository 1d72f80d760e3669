"""What an editor sees of the package: names, signatures and docstrings, without running it."""

from pathlib import Path

import jedi
import pytest

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
