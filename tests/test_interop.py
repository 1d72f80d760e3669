"""Weights and configurations in diffusers' form, without it; tests/conformance has the rest."""

import json

import numpy as np
import pytest
import safetensors.numpy
from diffusers_folders import CONFIG, assert_same_weights, narrow_unet, randomize, read_state
from refusals import assert_refused

from ddpm_keras import interop, noise
from ddpm_keras.networks import UNet


@pytest.fixture(scope="module")
def unet():
    return narrow_unet()


@pytest.fixture
def folder(unet, tmp_path):
    interop.save_diffusers(unet, tmp_path / "model")
    return tmp_path / "model"


def test_the_published_configuration_is_the_default_unet():
    config = CONFIG | {
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 32,
    }
    assert interop.unet_arguments(config) == {
        "image_shape": (32, 32, 3),
        "base_channels": 128,
        "channel_multipliers": (1, 2, 2, 2),
        "num_res_blocks": 2,
        "attention_resolutions": (16,),
        "dropout": 0.0,
        "num_classes": None,
        "groups": 32,
        "norm_epsilon": 1e-6,
        "out_channels": None,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_shape": (8, 8, 1), "base_channels": 8, "channel_multipliers": (1, 2)},
        {"image_shape": (8, 12, 4), "base_channels": 8, "channel_multipliers": (1, 1.5, 3)},
        {"image_shape": (4, 4, 2), "base_channels": 4, "channel_multipliers": (1,)},
    ],
)
@pytest.mark.parametrize("extra", [{}, {"num_classes": 3, "out_channels": 6}])
def test_every_unet_goes_and_comes_back(tmp_path, arguments, extra):
    side = max(arguments["image_shape"][:2])
    options = {"num_res_blocks": 1, "groups": 4, "dropout": 0.25, "norm_epsilon": 1e-4}
    unet = randomize(UNet(**arguments, **options, **extra, attention_resolutions=(side,)))
    interop.save_diffusers(unet, tmp_path)
    assert_same_weights(interop.load_diffusers(tmp_path), unet)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


def test_groups_by_width_are_written_as_the_number_they_stand_for():
    unet = randomize(UNet((2, 2, 1), 128, (1,), 1, (), dropout=0.0))
    config = interop.diffusers_config(unet)
    assert config["norm_num_groups"] == 32
    same = UNet(**interop.unet_arguments(config))
    same.set_weights(unet.get_weights())
    inputs = [np.random.default_rng(0).normal(size=(1, 2, 2, 1)), np.array([3])]
    np.testing.assert_array_equal(same(inputs), unet(inputs))


@pytest.mark.parametrize(
    ("width", "multipliers", "numbers", "cure"),
    [
        (32, (1, 2), "8, 16, 24, 32", 8),
        (4, (1,), "1, 2", 1),
        (20, (1, 0.6), "3, 5, 6, 8, 10", 2),
    ],
)
def test_groups_that_differ_are_refused_with_a_number_that_fits(width, multipliers, numbers, cure):
    options = {"num_res_blocks": 1, "attention_resolutions": ()}
    unet = UNet((2, 2, 1), width, multipliers, **options)
    words = (f"have {numbers} groups", f"groups={cure}.")
    assert_refused(lambda: interop.diffusers_config(unet), words)
    fits = UNet((2, 2, 1), width, multipliers, groups=cure, **options)
    assert interop.diffusers_config(fits)["norm_num_groups"] == cure


def test_arrays_lie_as_in_pytorch(unet, folder):
    state = read_state(folder)
    layer = unet.get_layer("conv_in")
    assert state["conv_in.weight"].shape == (8, 3, 3, 3)
    np.testing.assert_array_equal(state["conv_in.weight"][5, 1, 2, 0], layer.kernel[2, 0, 1, 5])
    dense = unet.get_layer("time_dense1")
    np.testing.assert_array_equal(state["time_embedding.linear_1.weight"].T, dense.kernel)


def test_a_state_dict_and_a_file_need_the_configuration(unet, folder):
    state = read_state(folder)
    assert_same_weights(interop.load_diffusers(state, CONFIG), unet)
    file = folder / "diffusion_pytorch_model.safetensors"
    assert_same_weights(interop.load_diffusers(file, folder / "config.json"), unet)
    for source in (state, file):
        with pytest.raises(ValueError, match="config="):
            interop.load_diffusers(source)


def test_a_pipelines_folder(unet, folder, tmp_path):
    (tmp_path / "pipeline").mkdir()
    folder.rename(tmp_path / "pipeline" / "unet")
    assert_same_weights(interop.load_diffusers(str(tmp_path / "pipeline")), unet)


def test_old_attention_names(unet, folder):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, array in read_state(folder).items():
        for new, previous in old.items():
            name = name.replace(f".{new}.", f".{previous}.")
        state[name] = array
    assert "mid_block.attentions.0.query.weight" in state
    assert_same_weights(interop.load_diffusers(state, CONFIG), unet)


def as_bfloat16(state):
    """A safetensors file of the upper halves of float32 arrays: header length, header, data."""
    header, data = {}, b""
    for name, array in state.items():
        words = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(words)]
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": offsets}
        data += words
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_half_precision_files_are_widened(unet, folder):
    file = folder / "diffusion_pytorch_model.safetensors"
    state = read_state(folder)
    safetensors.numpy.save_file({k: v.astype(np.float16) for k, v in state.items()}, file)
    found = interop.load_diffusers(folder).weights
    for a, b in zip(found, unet.weights, strict=True):
        np.testing.assert_array_equal(a, np.float32(np.float16(b)))
    file.write_bytes(as_bfloat16(state))
    for a, b in zip(interop.load_diffusers(folder).weights, unet.weights, strict=True):
        truncated = (np.asarray(b).view(np.uint32) & 0xFFFF0000).view(np.float32)
        np.testing.assert_array_equal(a, truncated)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("freq_shift", 0),
        ("flip_sin_to_cos", True),
        ("downsample_padding", 1),
        ("time_embedding_type", "fourier"),
        ("act_fn", "gelu"),
        ("center_input_sample", True),
        ("mid_block_scale_factor", 2),
        ("mid_block_type", None),
        ("add_attention", False),
        ("resnet_time_scale_shift", "scale_shift"),
        ("downsample_type", "resnet"),
        ("upsample_type", "resnet"),
        ("class_embed_type", "timestep"),
        ("time_embedding_dim", 64),
        ("attn_norm_num_groups", 8),
        ("attention_head_dim", 8),
        ("sample_size", None),
        ("down_block_types", ["DownBlock2D", "SkipDownBlock2D"]),
        ("down_block_types", ["AttnDownBlock2D", "AttnDownBlock2D"]),
        ("up_block_types", ["AttnUpBlock2D"]),
        ("cross_attention_dim", 768),
        ("_class_name", "UNet2DConditionModel"),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(setting, value):
    expected = "UNet2DConditionModel" if setting == "_class_name" else setting
    with pytest.raises(ValueError, match=expected) as caught:
        interop.unet_arguments(CONFIG | {setting: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left_out", ["freq_shift", "downsample_padding", "attention_head_dim"])
def test_defaults_of_diffusers_stand_for_what_is_left_out(left_out):
    config = {name: value for name, value in CONFIG.items() if name != left_out}
    with pytest.raises(ValueError, match=left_out):
        interop.unet_arguments(config)


def test_a_head_as_wide_as_every_attention_is_a_single_head():
    config = CONFIG | {"attention_head_dim": 16}
    assert interop.unet_arguments(config) == interop.unet_arguments(CONFIG)


def test_weights_that_do_not_fit_are_refused_by_name(folder):
    state = read_state(folder)
    cases = [
        ({k: v for k, v in state.items() if k != "conv_out.bias"}, "lack conv_out.bias"),
        (state | {"extra.weight": np.zeros(3)}, "unknown extra.weight"),
        (state | {"conv_in.weight": np.zeros((8, 1, 3, 3))}, r"conv_in.weight .*\(8, 3, 3, 3\)"),
        (state | {"conv_in.weight": np.zeros(8)}, "conv_in.weight has shape"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            interop.load_diffusers(wrong, CONFIG)
        assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_damaged(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        interop.load_diffusers(tmp_path)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="not a safetensors file"):
        interop.load_diffusers(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"diffusion_pytorch_model\.bin"):
        interop.load_diffusers(folder)
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match="not a PyTorch file"):
        interop.load_diffusers(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        interop.load_diffusers(folder)
    safetensors.numpy.save_file({"conv_in.weight": np.zeros(3, np.int32)}, weights)
    with pytest.raises(ValueError, match="I32"):
        interop.load_diffusers(weights, CONFIG)


@pytest.mark.parametrize(
    ("config", "schedule", "prediction"),
    [
        ({}, noise.linear(1000), "epsilon"),
        ({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50}, noise.cosine(50), None),
        (
            {"beta_end": 0.01, "num_train_timesteps": 3, "prediction_type": "v_prediction"},
            None,
            "v",
        ),
        ({"trained_betas": [0.1, 0.2]}, noise.NoiseSchedule([0.1, 0.2]), "epsilon"),
        ({"prediction_type": "sample"}, None, "sample"),
    ],
)
def test_schedules(tmp_path, config, schedule, prediction):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    found, found_prediction = interop.load_diffusers_schedule(tmp_path)
    if "beta_end" in config:
        schedule = noise.NoiseSchedule([1e-4, 0.00505, 0.01])
    if schedule is not None:
        assert found.name == schedule.name
        np.testing.assert_allclose(found.betas, schedule.betas)
    assert found_prediction == (prediction or "epsilon")


def test_without_a_scheduler_the_published_one_is_meant(tmp_path):
    schedule, prediction = interop.load_diffusers_schedule(tmp_path)
    np.testing.assert_array_equal(schedule.betas, noise.linear(1000).betas)
    assert prediction == "epsilon"


def test_unknown_schedules_are_refused(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"beta_schedule": "laplace"}')
    with pytest.raises(ValueError, match="laplace"):
        interop.load_diffusers_schedule(tmp_path)
