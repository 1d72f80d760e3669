"""Random `UNet2DModel`s of diffusers give the same output here, and come back the same."""

import contextlib
import json
import warnings

import numpy as np
import pytest

from ddpm_keras import interop

COMMON = {  # the settings of the google/ddpm-* models
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
    "act_fn": "silu",
}


def model(size, channels, widths, attention, layers=1, groups=8, **extra):
    down = [
        "AttnDownBlock2D" if level in attention else "DownBlock2D" for level in range(len(widths))
    ]
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    return COMMON | {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        **extra,
    }


MODELS = {
    "published shape, narrow": model(32, 3, (32, 64, 64, 64), [1], layers=2, groups=32),
    "grey, no attention": model(8, 1, (16, 32), []),
    "grey, attention everywhere": model(8, 1, (16, 16, 24), [0, 1, 2]),
    "four channels": model(16, 4, (16, 32), [1]),
    "wide image": model((8, 16), 3, (16, 24, 40), [1]),
    "tall image, attention at the top": model((12, 4), 1, (24, 8), [0], layers=3),
    "one level": model(6, 2, (16,), [0]),
    "narrowing": model(16, 3, (40, 24, 8), [1, 2], groups=4),
    "more channels out, as with learned variances": model(8, 3, (16, 32), [1], out_channels=6),
    "classes": model(8, 1, (16, 32), [1], num_class_embeds=11),
    "epsilon of diffusers, swish by its other name": model(
        8, 3, (16, 32), [0], norm_eps=1e-5, act_fn="swish", dropout=0.1
    ),
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def diffusers(torch):
    return pytest.importorskip("diffusers", reason="diffusers is not installed (conformance extra)")


def random_model(torch, diffusers, config, seed=0):
    torch.manual_seed(seed)
    network = diffusers.UNet2DModel(**config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:  # initialised to 1 and 0, which would hide a swap
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def outputs(torch, theirs, ours, config):
    """Both networks' results on the same images, timesteps and labels, NHWC."""
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, height, width, config["in_channels"])).astype(np.float32)
    t = np.array([0, 371, 999], np.int32)
    inputs, options = [x, t], {}
    if "num_class_embeds" in config:
        labels = np.array([0, 4, 10], np.int32)
        inputs, options = [x, t, labels], {"class_labels": torch.from_numpy(labels)}
    with torch.no_grad():
        channels_first = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        expected = theirs(channels_first, torch.from_numpy(t), **options).sample.numpy()
    return np.asarray(ours(inputs, training=False)), expected.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_same_output_and_the_same_state_dict_back(torch, diffusers, tmp_path, config):
    theirs = random_model(torch, diffusers, config)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = interop.load_diffusers(tmp_path / "theirs")
    found, expected = outputs(torch, theirs, ours, config)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)

    interop.save_diffusers(ours, tmp_path / "ours")
    back = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours", low_cpu_mem_usage=False)
    state, original = back.state_dict(), theirs.state_dict()
    assert state.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(state[name], tensor), name
    for name, value in theirs.config.items():
        if not name.startswith("_") and name != "act_fn":  # which has two names
            found = back.config[name]
            assert (tuple(found) if isinstance(value, tuple) else found) == value, name


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_weights_with_old_attention_names(torch, diffusers, tmp_path, legacy):
    """google/ddpm-* was published as .bin with the names of the time."""
    config = MODELS["four channels"]
    theirs = random_model(torch, diffusers, config)
    theirs.save_config(tmp_path)
    state = {}
    for name, tensor in theirs.state_dict().items():
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.")
        state[name] = tensor
    assert "mid_block.attentions.0.proj_attn.bias" in state
    torch.save(
        state,
        tmp_path / "diffusion_pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    ours = interop.load_diffusers(tmp_path)
    found, expected = outputs(torch, theirs, ours, config)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_state_dict_of_tensors(torch, diffusers):
    config = MODELS["grey, no attention"]
    theirs = random_model(torch, diffusers, config)
    ours = interop.load_diffusers(theirs.state_dict(), dict(theirs.config))
    found, expected = outputs(torch, theirs, ours, config)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_half_precision_safetensors(torch, diffusers, tmp_path):
    config = MODELS["four channels"]
    for dtype in (torch.float16, torch.bfloat16):
        theirs = random_model(torch, diffusers, config).to(dtype)
        theirs.save_pretrained(tmp_path / str(dtype))
        ours = interop.load_diffusers(tmp_path / str(dtype))
        found, expected = outputs(torch, theirs.float(), ours, config)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_pipeline_with_its_scheduler(torch, diffusers, tmp_path):
    config = MODELS["grey, no attention"]
    theirs = random_model(torch, diffusers, config)
    scheduler = diffusers.DDPMScheduler(100, beta_schedule="squaredcos_cap_v2")
    diffusers.DDPMPipeline(theirs, scheduler).save_pretrained(tmp_path)
    ours = interop.load_diffusers(tmp_path)
    found, expected = outputs(torch, theirs, ours, config)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    schedule, prediction = interop.load_diffusers_schedule(tmp_path)
    assert prediction == "epsilon"
    np.testing.assert_allclose(schedule.betas, scheduler.betas, rtol=1e-5)


def test_the_defaults_of_diffusers_are_refused(torch, diffusers):
    """Their own default model: multi-head attention, other padding, other frequencies."""
    theirs = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    config = dict(theirs.config)
    for name, value in (
        ("freq_shift", 1),
        ("flip_sin_to_cos", False),
        ("downsample_padding", 0),
        ("attention_head_dim", None),
    ):
        with pytest.raises(ValueError, match="UNet cannot represent"):
            interop.load_diffusers(theirs.state_dict(), config)
        config[name] = value
    interop.load_diffusers(theirs.state_dict(), config)


def assert_same_output(torch, theirs, ours, config):
    found, expected = outputs(torch, theirs, ours, config)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_averages_of_a_training_beside_its_raw_weights(torch, diffusers, tmp_path):
    """checkpoint-N as the examples' save hook writes it, by `EMAModel` itself."""
    training_utils = pytest.importorskip("diffusers.training_utils")
    config = MODELS["four channels"]
    raw, averaged = (random_model(torch, diffusers, config, seed) for seed in (0, 1))
    ema = training_utils.EMAModel(
        averaged.parameters(),
        decay=0.9999,
        use_ema_warmup=True,
        power=3 / 4,
        model_cls=diffusers.UNet2DModel,
        model_config=averaged.config,
    )
    ema.step(averaged.parameters())
    checkpoint = tmp_path / "checkpoint-500"
    ema.save_pretrained(checkpoint / "unet_ema")
    raw.save_pretrained(checkpoint / "unet")
    assert "optimization_step" in (checkpoint / "unet_ema" / "config.json").read_text()

    assert_same_output(torch, averaged, interop.load_diffusers(checkpoint), config)
    assert_same_output(torch, averaged, interop.load_diffusers(checkpoint / "unet_ema"), config)
    assert_same_output(torch, raw, interop.load_diffusers(checkpoint, weights="raw"), config)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards(torch, diffusers, tmp_path, safe, variant):
    config = MODELS["four channels"]
    theirs = random_model(torch, diffusers, config)
    theirs.save_pretrained(
        tmp_path, max_shard_size="100KB", safe_serialization=safe, variant=variant
    )
    assert len(list(tmp_path.glob("*-of-*"))) > 2
    for chosen in {variant, None}:
        assert_same_output(torch, theirs, interop.load_diffusers(tmp_path, variant=chosen), config)


def test_the_variant_of_half_precision_beside_the_whole_one(torch, diffusers, tmp_path):
    config = MODELS["four channels"]
    whole, half = (random_model(torch, diffusers, config, seed) for seed in (0, 1))
    whole.save_pretrained(tmp_path)
    half.half().save_pretrained(tmp_path, variant="fp16")
    half = half.float()
    assert_same_output(torch, whole, interop.load_diffusers(tmp_path), config)
    assert_same_output(torch, half, interop.load_diffusers(tmp_path, variant="fp16"), config)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    assert_same_output(torch, half, interop.load_diffusers(tmp_path), config)


def test_what_is_written_over_shards_is_not_hidden_by_them(torch, diffusers, tmp_path):
    """`from_pretrained` would read the index that is left there."""
    theirs = random_model(torch, diffusers, MODELS["four channels"])
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    ours = interop.load_diffusers(tmp_path)
    with pytest.raises(ValueError, match="index.json"):
        interop.save_diffusers(ours, tmp_path)


def schedulers(diffusers):
    """name -> scheduler, of all that are there and can be made without arguments."""
    found, cannot = {}, (TypeError, ImportError, AttributeError)
    for name in dir(diffusers.schedulers):
        with warnings.catch_warnings(), contextlib.suppress(*cannot):
            warnings.simplefilter("ignore")
            made = getattr(diffusers.schedulers, name)() if name.endswith("Scheduler") else None
            if isinstance(made, diffusers.ConfigMixin):
                found[name] = made
    return found


def test_every_scheduler_is_taken_with_its_betas_or_refused_by_name(torch, diffusers, tmp_path):
    taken, refused = [], []
    for name, scheduler in schedulers(diffusers).items():
        folder = tmp_path / name
        scheduler.save_config(folder)
        try:
            schedule, prediction = interop.load_diffusers_schedule(folder)
        except ValueError as error:
            assert name in str(error) and len(str(error).splitlines()) == 1
            refused.append(name)
            continue
        assert prediction == "epsilon"
        np.testing.assert_allclose(schedule.betas, scheduler.betas, rtol=2e-5)
        taken.append(name)
    for part in ("DDPM", "DDIM", "PNDM", "UniPCMultistep", "EulerDiscrete", "HeunDiscrete"):
        assert f"{part}Scheduler" in taken
    assert not [name for name in taken if "Flow" in name or "EDM" in name or "SdeV" in name]
    assert len(taken) >= 15 and len(refused) >= 10, (taken, refused)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_schedule": "linear", "num_train_timesteps": 300, "beta_end": 0.05},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 77},
        {"beta_schedule": "sigmoid", "beta_start": 1e-7, "beta_end": 2e-3},
        {"trained_betas": [0.01, 0.02, 0.4], "num_train_timesteps": 3},
    ],
)
def test_betas(torch, diffusers, tmp_path, settings):
    scheduler = diffusers.DDPMScheduler(**settings, prediction_type="v_prediction")
    scheduler.save_pretrained(tmp_path)
    schedule, prediction = interop.load_diffusers_schedule(tmp_path)
    assert prediction == "v"
    # float32 of diffusers: 6e-8 of alpha_bar, of which a small beta is a difference
    np.testing.assert_allclose(schedule.betas, scheduler.betas, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(schedule.alphas_cumprod, scheduler.alphas_cumprod, rtol=1e-4)


def test_betas_rescaled_to_zero_terminal_snr(torch, diffusers, tmp_path):
    settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    scheduler = diffusers.DDPMScheduler(**settings)
    scheduler.save_pretrained(tmp_path)
    schedule, prediction = interop.load_diffusers_schedule(tmp_path)
    assert prediction == "v" and schedule.zero_terminal_snr
    # In float32, small levels and betas are differences of numbers near 1, rounded to 6e-8 each.
    np.testing.assert_allclose(schedule.alphas_cumprod, scheduler.alphas_cumprod, atol=1e-6)
    np.testing.assert_allclose(schedule.betas, scheduler.betas, rtol=1e-5, atol=5e-7)


@pytest.mark.parametrize("setting", ["rescale_betas_zero_snr", "thresholding"])
def test_a_scheduler_turned_into_another_keeps_what_is_refused(torch, diffusers, tmp_path, setting):
    """`from_config` carries settings of the first one along."""
    first = diffusers.DDIMScheduler(**{setting: True})
    diffusers.PNDMScheduler.from_config(first.config).save_pretrained(tmp_path)
    assert json.loads(interop.find_scheduler(tmp_path).read_text())[setting]
    with pytest.raises(ValueError, match=setting):
        interop.load_diffusers_schedule(tmp_path)
