"""The noise schedule and the prediction that a diffusers scheduler_config.json tells.

A network is trained with a table of betas and to predict something; the rest of a scheduler's
configuration says how its own way of sampling goes. Here the sampler is chosen by whoever samples,
and images lie in [-1, 1]: settings of the sampling alone are left to that choice, and those that
would make a difference beyond it are refused by name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from .. import noise
from ..aliases import PathLike
from . import checks
from .checks import shown
from .folders import find_scheduler, read_json

if TYPE_CHECKING:  # names in annotations alone
    from ..noise import NoiseSchedule

_PREDICTIONS = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}


@dataclasses.dataclass(frozen=True)
class _Defaults:
    """Of a class of schedulers, where its configuration leaves them out."""

    beta_start: float = 0.0001
    beta_end: float = 0.02


# The schedulers over a table of betas. Others have none (flow matching, EDM, VE, Karras, ...), or
# belong to networks that are trained to something else (consistency, Wuerstchen, CogVideoX).
_SCHEDULERS = {
    f"{name}Scheduler": defaults
    for defaults, names in (
        (_Defaults(), ("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "RePaint")),
        (_Defaults(), ("DPMSolverMultistep", "DPMSolverMultistepInverse", "DPMSolverSinglestep")),
        (_Defaults(), ("DEISMultistep", "UniPCMultistep", "SASolver", "PNDM", "LMSDiscrete")),
        (_Defaults(), ("EulerDiscrete", "EulerAncestralDiscrete")),
        (_Defaults(0.00085, 0.012), ("HeunDiscrete", "DPMSolverSDE")),
        (_Defaults(0.00085, 0.012), ("KDPM2Discrete", "KDPM2AncestralDiscrete")),
    )
    for name in names
}
_READ = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
_READ += ("prediction_type", "predict_epsilon", "rescale_betas_zero_snr")
# Settings that would change what is sampled: (the values that can be had here, why no other).
_FIXED = {
    "thresholding": ((False, None), "images are clipped to [-1, 1], not rescaled"),
    "clip_sample_range": ((1, None), "images are clipped to [-1, 1]"),
    "use_flow_sigmas": ((False, None), "its network was trained by flow matching"),
    "timestep_type": (("discrete", None), "a UNet here is asked at whole timesteps"),
    "variance_type": (
        ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", None),
        "a network's own variances are not used",
    ),
}
# How a scheduler samples, which is the sampler's business here; and what has no effect any more.
_SAMPLING = frozenset(
    "clip_sample dynamic_thresholding_ratio sample_max_value timestep_spacing steps_offset "
    "set_alpha_to_one eta skip_prk_steps interpolation_type final_sigmas_type lambda_min_clipped "
    "solver_order solver_type solver_p algorithm_type lower_order_final euler_at_final "
    "predictor_order corrector_order disable_corrector predict_x0 tau_func noise_sampler_seed "
    "use_karras_sigmas use_exponential_sigmas use_beta_sigmas use_lu_lambdas sigma_min sigma_max "
    "flow_shift use_dynamic_shifting time_shift_type shift_terminal "
    "tensor_format timestep_values".split()
)


def load_diffusers_schedule(path: PathLike) -> tuple[NoiseSchedule, str]:
    """The noise schedule of a diffusers model, and what its network predicts.

    Args:
        path: A folder with scheduler_config.json, or a pipeline's with it under scheduler/, or the
            unet, unet_ema or checkpoint-N of a training with it beside. Without one, the model is
            taken to be as published: linear, 1000 timesteps, epsilon.

    Returns:
        (`NoiseSchedule`, prediction), the latter "epsilon", "sample" or "v".

    Settings that say only how diffusers would sample (its grid of timesteps, `clip_sample`, which
    of the fixed variances, the order of a solver) are left to the sampler that is chosen here.

    Raises:
        ValueError: A schedule or a prediction that is not known here, or a setting that would
            change what is sampled, such as `thresholding`; says which.
    """
    file = find_scheduler(path)
    if file is None:
        return noise.linear(1000), "epsilon"
    config = read_json(file)
    with checks.within(file):
        _check(config)
        prediction = _prediction(config)
        betas, name = _betas(config)
        if _ends_in_noise(config, prediction):
            betas = noise.rescaled_to_zero_terminal_snr(betas)
        return noise.NoiseSchedule(betas, name), prediction


def _check(config):
    """Refuses another kind of scheduler, and settings that cannot be had here."""
    name = config.get("_class_name", "DDPMScheduler")
    if not isinstance(name, str) or name not in _SCHEDULERS:
        raise ValueError(
            f"{shown(name)} is not a schedule of betas for an epsilon, sample or v prediction, as "
            "of DDPM, DDIM or DPM-Solver; a network trained for it cannot be sampled here."
        )
    for name, (accepted, why) in _FIXED.items():
        if not checks.same(config.get(name), accepted):
            raise ValueError(
                f"{name}={shown(config[name])} cannot be had here, since {why}; use a model "
                f"with {name}={accepted[0]!r}."
            )
    known = {*_READ, *_FIXED, *_SAMPLING}
    unknown = sorted(name for name in config if name not in known and name[:1] != "_")
    if unknown:
        raise ValueError(
            f"{', '.join(map(shown, unknown[:3]))} is unknown for a scheduler; give a "
            "scheduler_config.json as diffusers writes it."
        )


def _betas(config):
    """The table, and its name where it is one of this library's."""
    if config.get("trained_betas") is not None:
        return _trained_betas(config), "custom"
    timesteps = config.get("num_train_timesteps", 1000)
    timesteps = checks.whole("num_train_timesteps", timesteps, 1, noise.MOST_TIMESTEPS)
    defaults = _SCHEDULERS[config.get("_class_name", "DDPMScheduler")]
    start = checks.real("beta_start", config.get("beta_start", defaults.beta_start), 0, 1)
    end = checks.real("beta_end", config.get("beta_end", defaults.beta_end), 0, 1)
    kind = config.get("beta_schedule", "linear")
    if not isinstance(kind, str) or kind not in _TABLES:
        raise ValueError(
            f"beta_schedule is {shown(kind)}; only {', '.join(_TABLES)} are known: give the betas "
            "as trained_betas."
        )
    return _TABLES[kind](timesteps, start, end)


def _trained_betas(config):
    betas = checks.entries("trained_betas", config["trained_betas"], noise.MOST_TIMESTEPS)
    timesteps = config.get("num_train_timesteps", len(betas))
    if timesteps != len(betas):
        raise ValueError(
            f"trained_betas has {len(betas)} entries for num_train_timesteps={shown(timesteps)}; "
            "give one a timestep."
        )
    return [checks.real(f"trained_betas[{t}]", beta, 0, 1) for t, beta in enumerate(betas)]


def _ends_in_noise(config, prediction):
    """Whether the betas are rescaled to leave no signal (Lin et al. 2024)."""
    rescaled = config.get("rescale_betas_zero_snr")
    if not checks.same(rescaled, (None, True, False)):
        raise ValueError(f"rescale_betas_zero_snr is {shown(rescaled)}; it must be true or false.")
    if rescaled and prediction == "epsilon":
        raise ValueError(
            "rescale_betas_zero_snr=True leaves nothing of the image at the last timestep, where a "
            "network of prediction_type='epsilon' cannot begin; use a model of v_prediction."
        )
    return bool(rescaled)


def _linear(timesteps, start, end):
    betas, usual = np.linspace(start, end, timesteps), noise.linear(timesteps)
    return betas, "linear" if np.array_equal(betas, usual.betas) else "custom"


def _scaled_linear(timesteps, start, end):
    """Evenly spaced square roots (Rombach et al. 2022, latent diffusion)."""
    return np.linspace(start**0.5, end**0.5, timesteps) ** 2, "custom"


def _cosine(timesteps, start, end):
    """Whatever the ends are (Nichol & Dhariwal 2021)."""
    return noise.cosine(timesteps).betas, "cosine"


def _sigmoid(timesteps, start, end):
    """A sigmoid over -6..6 from one end to the other (Xu et al. 2022, GeoDiff)."""
    curve = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, timesteps)))
    return start + (end - start) * curve, "custom"


_TABLES = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _cosine,
    "sigmoid": _sigmoid,
}


def _prediction(config):
    """What the network gives; the first configurations said it by `predict_epsilon`."""
    by_old_name = config.get("predict_epsilon")
    if not checks.same(by_old_name, (None, True, False)):
        raise ValueError(f"predict_epsilon is {shown(by_old_name)}; it must be true or false.")
    usual = "sample" if by_old_name is False else "epsilon"
    prediction = config.get("prediction_type", usual)
    if not isinstance(prediction, str) or prediction not in _PREDICTIONS:
        raise ValueError(
            f"prediction_type is {shown(prediction)}; it must be {', '.join(_PREDICTIONS)}."
        )
    if by_old_name is not None and prediction != usual:
        raise ValueError(
            f"predict_epsilon={by_old_name} and prediction_type={prediction!r} contradict each "
            "other; remove the one that is wrong."
        )
    return _PREDICTIONS[prediction]
