"""Settings of diffusers' networks and schedulers: honoured, or refused by name before all else."""

import json

import numpy as np
import pytest
from diffusers_folders import AVERAGE, CONFIG, narrow_unet, read_state
from refusals import assert_refused

from ddpm_keras import UNet, interop, noise
from ddpm_keras.interop import unet_weights

NAN, INFINITY = float("nan"), float("inf")

WRONG_NETWORKS = [
    # sizes
    *[("layers_per_block", value) for value in (0, -1, 10**6, 10**30, 1.0, "2", True, None, [2])],
    *[("in_channels", value) for value in (0, -3, 10**9, 3.0, "3", False, None, {})],
    *[("out_channels", value) for value in (0, 10**9, 2.5, None)],
    *[("norm_num_groups", value) for value in (0, 3, 16, 10**9, 4.0, True, None)],
    *[("num_class_embeds", value) for value in (0, 1, -2, 10**12, 3.0, "10", True)],
    *[
        ("sample_size", value)
        for value in (0, 7, -8, 2**40, 8.0, "8", True, [8], [8, 8, 8], [8, 9])
    ],
    *[("sample_size", value) for value in (None, [], [8, "8"], [[8, 8]], {"height": 8})],
    *[("block_out_channels", value) for value in (8, [], [8, 0], [8, -16], [8, 16.0], "816", None)],
    *[("block_out_channels", value) for value in ([8, 10**7], [8, [16]], [8] * 13, [8, NAN])],
    *[("dropout", value) for value in (1, 1.0, -0.1, NAN, INFINITY, "0", True, None)],
    *[("norm_eps", value) for value in (0, -1e-6, 1, NAN, INFINITY, "1e-6", True, None)],
    # kinds
    *[("down_block_types", value) for value in (5, None, [], [3, 4], "DownBlock2D", [[], []])],
    *[
        ("down_block_types", value)
        for value in (["DownBlock2D"], ["DownBlock2D", "SkipDownBlock2D"])
    ],
    *[("down_block_types", value) for value in (["DownBlock2D", "CrossAttnDownBlock2D"],)],
    *[
        ("up_block_types", value)
        for value in (["UpBlock2D", "ResnetUpsampleBlock2D"], 7, [None] * 2)
    ],
    *[("up_block_types", value) for value in (["UpBlock2D", "AttnUpBlock2D"],)],
    *[("attention_head_dim", value) for value in (8, 0, -1, 16.5, "16", True, [16])],
    *[("attn_norm_num_groups", value) for value in (8, 0, "4")],
    *[("time_embedding_dim", value) for value in (64, 0, "32")],
    *[("freq_shift", value) for value in (0, 2, "1", True, NAN, None)],
    *[("flip_sin_to_cos", value) for value in (True, 0, "false", None)],
    *[("downsample_padding", value) for value in (1, False, "0", None)],
    *[("center_input_sample", value) for value in (True, 1, "yes")],
    *[("time_embedding_type", value) for value in ("fourier", "learned", None)],
    *[("act_fn", value) for value in ("gelu", "mish", "relu", None)],
    *[("mid_block_scale_factor", value) for value in (2, 1.4142, 0, True, None)],
    *[("mid_block_type", value) for value in (None, "UNetMidBlock2DCrossAttn")],
    *[("add_attention", value) for value in (False, 1, None)],
    *[("resnet_time_scale_shift", value) for value in ("scale_shift", None)],
    *[("downsample_type", value) for value in ("resnet", None)],
    *[("upsample_type", value) for value in ("resnet", None)],
    *[("class_embed_type", value) for value in ("timestep", "identity", 0)],
    # what is no setting of this network
    *[("cross_attention_dim", 768), ("skip_time_act", True), ("", 1), ("a\nname", 1), (5, 1)],
    *[("_class_name", value) for value in ("UNet2DConditionModel", "DiTTransformer2DModel", None)],
    *[("_class_name", value) for value in (["UNet2DModel"], "x" * 500)],
]


@pytest.mark.parametrize(("setting", "value"), WRONG_NETWORKS)
def test_settings_of_a_network_are_refused_by_name(setting, value):
    words = {"_class_name": "diffusers", "": "''", "a\nname": "a\\nname"}
    word = words.get(setting, str(setting))
    with pytest.raises(ValueError, match=".") as caught:
        interop.unet_arguments(CONFIG | {setting: value})
    text = str(caught.value)
    assert word in text and len(text.splitlines()) == 1 and len(text) < 300, text


RIGHT_NETWORKS = {
    "what EMAModel writes": (AVERAGE, {}),
    "what old EMAModels wrote": ({"collected_params": None, "decay": NAN}, {}),
    "private fields": ({"_name_or_path": "x", "_commit_hash": 5, "_anything": []}, {}),
    "the scheduler's number": ({"num_train_timesteps": 10**12}, {}),
    "swish": ({"act_fn": "swish"}, {}),
    "a whole number as a float": ({"freq_shift": 1.0, "mid_block_scale_factor": 1.0}, {}),
    "one head": ({"attention_head_dim": 16}, {}),
    "groups said twice": ({"attn_norm_num_groups": 4}, {}),
    "the embedding's width": ({"time_embedding_dim": 32}, {}),
    "no dropout, as a whole number": ({"dropout": 0}, {"dropout": 0.0}),
    "another dropout": ({"dropout": 0.25}, {"dropout": 0.25}),
    "another epsilon": ({"norm_eps": 1e-5}, {"norm_epsilon": 1e-5}),
    "tuples and NumPy": (
        {"block_out_channels": (np.int64(8), 16), "norm_num_groups": np.int32(4)},
        {},
    ),
    "a wide image": ({"sample_size": [8, 12]}, {"image_shape": (8, 12, 3)}),
    "classes": ({"num_class_embeds": 11}, {"num_classes": 10}),
    "variances too": ({"out_channels": 6}, {"out_channels": 6}),
    "one level": (
        {
            "block_out_channels": [8],
            "down_block_types": ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"],
        },
        {"channel_multipliers": (1,), "attention_resolutions": ()},
    ),
}


@pytest.mark.parametrize(("settings", "arguments"), RIGHT_NETWORKS.values(), ids=RIGHT_NETWORKS)
def test_settings_of_a_network_that_are_honoured(settings, arguments):
    usual = interop.unet_arguments(CONFIG)
    if "sample_size" in settings:
        arguments = arguments | {"attention_resolutions": (6,)}
    assert interop.unet_arguments(CONFIG | settings) == usual | arguments


def test_the_largest_network_of_the_bounds_is_told_from_its_weights_at_once():
    """Nothing is built, nor a file read, before the shapes agree."""
    config = CONFIG | {
        "sample_size": 2048,
        "layers_per_block": 64,
        "norm_num_groups": 32,
        "block_out_channels": [8192] * 12,
        "down_block_types": ["AttnDownBlock2D"] * 12,
        "up_block_types": ["AttnUpBlock2D"] * 12,
    }
    assert len(unet_weights.shapes(interop.unet_arguments(config))) > 10_000
    assert_refused(lambda: interop.load_diffusers({}, config), ("lack conv_in.weight",))


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("extra", [{}, {"num_classes": 3, "out_channels": 6}])
def test_shapes_are_known_before_a_network_is_built(side, extra):
    arguments = {
        "image_shape": (8, 8, 3),
        "base_channels": 8,
        "channel_multipliers": (1, 1.5),
        "num_res_blocks": 2,
        "attention_resolutions": (side,),
        "groups": 4,
    }
    unet = UNet(**arguments, **extra)
    found = unet_weights.shapes(unet.get_config())
    variables = list(unet_weights.variables(unet))
    assert list(found) == [name for name, _, _ in variables]
    assert {id(variable) for _, variable, _ in variables} == {id(each) for each in unet.weights}
    for name, variable, axes in variables:
        assert tuple(found[name][axis] for axis in axes) == tuple(variable.shape), name


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    interop.save_diffusers(narrow_unet(), folder)
    return read_state(folder)


BIAS = "conv_in.bias"
WRONG_STATES = {
    "a name that is a number": ({5: np.zeros(3)}, ("5", "strings")),
    "a state dict within": ({"state_dict": {}, "epoch": 3}, ("'state_dict'", "dict", "itself")),
    "a list": ({BIAS: [0.0] * 8}, (BIAS, "list", "not a tensor")),
    "nothing": ({BIAS: None}, (BIAS, "NoneType")),
    "integers": ({BIAS: np.zeros(8, np.int64)}, (BIAS, "int64", "floats")),
    "booleans": ({BIAS: np.zeros(8, bool)}, (BIAS, "bool", "floats")),
    "complex numbers": ({BIAS: np.zeros(8, complex)}, (BIAS, "complex128")),
    "objects": ({BIAS: np.full(8, None)}, (BIAS, "object")),
    "text": ({BIAS: np.full(8, "0")}, (BIAS, "str")),
    "NaN": ({BIAS: np.full(8, NAN)}, (BIAS, "NaN", "diverged")),
    "infinity in half precision": ({BIAS: np.full(8, np.inf, np.float16)}, (BIAS, "infinity")),
    "beyond float32": ({BIAS: np.full(8, 1e39)}, (BIAS, "infinity")),
    "a scalar": ({BIAS: np.float32(0)}, (BIAS, "()", "(8,)")),
    "both names of one tensor": (
        {"mid_block.attentions.0.query.weight": np.zeros((16, 16))},
        ("mid_block.attentions.0.to_q.weight", "twice"),
    ),
    "a name of two lines": ({"a\nb": np.zeros(3)}, ("a\\nb", "unknown")),
}


@pytest.mark.parametrize(("changes", "words"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_state_dicts_are_refused_by_name(changes, words, state):
    assert_refused(lambda: interop.load_diffusers(state | changes, CONFIG), words)


def test_float64_and_bfloat16_arrays_are_read(state):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    changes = {BIAS: np.arange(8.0), "conv_out.bias": np.ones(3, bfloat16)}
    unet = interop.load_diffusers(state | changes, CONFIG)
    np.testing.assert_array_equal(unet.get_layer("conv_in").bias, np.arange(8.0))
    np.testing.assert_array_equal(unet.get_layer("conv_out").bias, np.ones(3))


def schedule_of(folder, config):
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "scheduler_config.json").write_text(text)
    return interop.load_diffusers_schedule(folder)


WRONG_SCHEDULERS = [
    *[
        ({"_class_name": f"{name}Scheduler"}, name)
        for name in (
            *("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM", "EDMEuler"),
            *("EDMDPMSolverMultistep", "CosineDPMSolverMultistep", "ScoreSdeVe", "ScoreSdeVp"),
            *("KarrasVe", "CMStochasticIterative", "ConsistencyDecoder", "LCM", "TCD", "SCM"),
            *("DDPMWuerstchen", "VQDiffusion", "Amused", "IPNDM", "UnCLIP", "CogVideoXDDIM"),
            *("CogVideoXDPM", "FlaxDDPM", "Something"),
        )
    ],
    *[({"_class_name": value}, str(value)) for value in (None, 5, ["DDPMScheduler"], "DDPM")],
    *[({"num_train_timesteps": value}, "num_train_timesteps") for value in (0, -1, 10**9, 1e3)],
    *[
        ({"num_train_timesteps": value}, "num_train_timesteps")
        for value in ("1000", True, None, [])
    ],
    *[({"beta_start": value}, "beta_start") for value in (0, 1, -0.1, NAN, "1e-4", None, True)],
    *[({"beta_end": value}, "beta_end") for value in (0, 1.0, 2, INFINITY, "0.02", [0.02])],
    *[({"beta_schedule": value}, "beta_schedule") for value in ("laplace", "exp", "", None, 1, [])],
    *[
        ({"trained_betas": value}, "trained_betas")
        for value in ([], 0.1, "0.1", {"0": 0.1}, [[0.1]])
    ],
    *[({"trained_betas": value}, "trained_betas") for value in ([0.1, 1], [0.0], [NAN], ["0.1"])],
    ({"trained_betas": [0.1, 0.2], "num_train_timesteps": 1000}, "num_train_timesteps=1000"),
    *[({"prediction_type": value}, "prediction_type") for value in ("flow_prediction", "v", "", 1)],
    *[({"prediction_type": value}, "prediction_type") for value in (None, ["epsilon"])],
    *[({"predict_epsilon": value}, "predict_epsilon") for value in (1, "yes", [])],
    ({"predict_epsilon": False, "prediction_type": "epsilon"}, "contradict"),
    *[({"rescale_betas_zero_snr": value}, "rescale_betas_zero_snr") for value in (1, "no", True)],
    *[({"thresholding": value}, "thresholding") for value in (True, 1, "false")],
    *[({"clip_sample_range": value}, "clip_sample_range") for value in (2.0, 0.5, NAN, "1", True)],
    *[({"variance_type": value}, "variance_type") for value in ("learned", "learned_range", 3)],
    ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas"),
    ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
    *[({name: 1}, name) for name in ("sigma_data", "snr_shift_scale", "beta_min", "Beta_start")],
    *[(text, "not JSON") for text in ("", "{", "[" * 100_000, '{"beta_start": 1e-4,}')],
    ("[]", "list"),
]


@pytest.mark.parametrize(("config", "word"), WRONG_SCHEDULERS)
def test_schedulers_are_refused_by_name(config, word, tmp_path):
    words = (word, "scheduler_config.json")
    assert_refused(lambda: schedule_of(tmp_path, config), words)


CUSTOM = ("custom", "epsilon")
RIGHT_SCHEDULERS = [
    ({}, "linear", "epsilon"),
    ({"num_train_timesteps": 4000, "beta_schedule": "squaredcos_cap_v2"}, "cosine", "epsilon"),
    ({"beta_schedule": "scaled_linear"}, *CUSTOM),
    ({"beta_schedule": "sigmoid"}, *CUSTOM),
    ({"num_train_timesteps": 100}, *CUSTOM),
    ({"trained_betas": [0.1, 0.2, 0.3]}, *CUSTOM),
    ({"trained_betas": [0.1, 0.2], "num_train_timesteps": 2, "beta_start": 5}, *CUSTOM),
    ({"trained_betas": None}, "linear", "epsilon"),
    ({"prediction_type": "sample"}, "linear", "sample"),
    ({"prediction_type": "v_prediction"}, "linear", "v"),
    ({"predict_epsilon": True}, "linear", "epsilon"),
    ({"predict_epsilon": False}, "linear", "sample"),
    ({"predict_epsilon": False, "prediction_type": "sample"}, "linear", "sample"),
    ({"_class_name": "PNDMScheduler", "skip_prk_steps": True}, "linear", "epsilon"),
    ({"_class_name": "HeunDiscreteScheduler"}, *CUSTOM),
    ({"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2"}, "linear", "epsilon"),
    ({"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, "linear", "epsilon"),
    ({"timestep_spacing": "trailing", "variance_type": "fixed_large"}, "linear", "epsilon"),
    ({"thresholding": False, "dynamic_thresholding_ratio": 0.9}, "linear", "epsilon"),
    ({"clip_sample_range": 1, "rescale_betas_zero_snr": False}, "linear", "epsilon"),
    (
        {"tensor_format": "pt", "timestep_values": None, "_diffusers_version": 1},
        "linear",
        "epsilon",
    ),
]


@pytest.mark.parametrize(("config", "name", "prediction"), RIGHT_SCHEDULERS)
def test_schedulers_that_are_taken(config, name, prediction, tmp_path):
    schedule, found = schedule_of(tmp_path, config)
    assert (schedule.name, found) == (name, prediction)
    if name != "custom":
        usual = noise.get(name, config.get("num_train_timesteps", 1000))
        np.testing.assert_array_equal(schedule.betas, usual.betas)


@pytest.mark.parametrize("kind", ["linear", "squaredcos_cap_v2"])
def test_betas_rescaled_to_zero_terminal_snr(kind, tmp_path):
    config = {"beta_schedule": kind, "rescale_betas_zero_snr": True}
    for prediction in ("v_prediction", "sample"):
        schedule, _ = schedule_of(tmp_path, config | {"prediction_type": prediction})
        assert schedule.zero_terminal_snr and schedule.timesteps == 1000
    name = {"linear": "linear", "squaredcos_cap_v2": "cosine"}[kind]
    usual = noise.rescaled_to_zero_terminal_snr(noise.get(name).betas)
    np.testing.assert_array_equal(schedule.betas, usual)


# Of diffusers 0.42, its float32 tables at 5 timesteps.
GOLDEN = {
    "linear": [9.99999975e-05, 0.00507499976, 0.0100499997, 0.0150249992, 0.0199999996],
    "scaled_linear": [9.99999975e-05, 0.00183657988, 0.00573210791, 0.011786581, 0.0200000014],
    "sigmoid": [0.000149205196, 0.00104377489, 0.0100499997, 0.0190562252, 0.0199507959],
    "squaredcos_cap_v2": [0.101294078, 0.279543847, 0.473635346, 0.72405237, 0.999000013],
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_betas(kind, tmp_path):
    config = {"num_train_timesteps": 5, "beta_schedule": kind}
    schedule, _ = schedule_of(tmp_path, config)
    np.testing.assert_allclose(schedule.betas, GOLDEN[kind], rtol=1e-6)


@pytest.mark.parametrize("given", ["nowhere", "", 5, None, "google/ddpm-cifar10-32"])
def test_a_schedule_of_no_folder_is_not_made_up(given):
    assert_refused(lambda: interop.load_diffusers_schedule(given), ("folder",))


def test_the_schedule_lies_beside_what_a_training_saves(tmp_path):
    (tmp_path / "scheduler").mkdir()
    schedule_of(tmp_path / "scheduler", {"num_train_timesteps": 7})
    for name in ("unet", "checkpoint-500", "checkpoint-500/unet_ema"):
        (tmp_path / name).mkdir()
        assert interop.load_diffusers_schedule(tmp_path / name)[0].timesteps == 7, name
    (tmp_path / "other").mkdir()
    assert interop.find_scheduler(tmp_path / "other") is None
