"""What can be chosen by name, written once: for the library, for the commands and their messages.

Nothing here imports TensorFlow. Where a name stands for a class, a function or a module, its entry
says where that is, as "module:attribute" or "module", and it is imported when it is first asked
for. To add one, write a line here, or from anywhere assign the thing itself:

    choices.SAMPLERS["euler"] = Euler
"""

import importlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

PREDICTIONS = ("epsilon", "sample", "v")
WEIGHTINGS = ("simple", "min_snr")
# Which timesteps a sampler visits.
SPACINGS = ("trailing", "linspace", "leading", "leading_unchecked")
VARIANCES = ("fixed_large", "fixed_small")  # of the reverse process
REFERENCES = ("train", "held-out")  # or a file of statistics
LR_SCHEDULES = ("constant", "cosine", "linear", "wsd")  # the learning rate after its warm-up
LR_DECAYS = ("linear", "cosine", "sqrt")  # the curve in which it falls: sqrt is 1 - sqrt(s)
UNREADABLE = ("refuse", "skip")  # what to do with an image file that cannot be read
# --precision: the Keras dtype policy; "auto" depends on the device, or is measured.
PRECISIONS = {
    "auto": "",
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
# --optimizer: its class in keras.optimizers.
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "lion": "Lion",
    "muon": "Muon",
    "lamb": "Lamb",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "adafactor": "Adafactor",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "ftrl": "Ftrl",
}
OPTIMIZERS_REFUSED = {
    "schedulefreeadamw": "it trains weights that only its own average makes good, and Keras keeps "
    "that one to itself; use adamw with --lr-schedule wsd, or a moving average of it."
}
# --logger: the package that it needs besides this one's own.
LOGGERS = {"csv": "", "tensorboard": "", "wandb": "wandb", "mlflow": "mlflow"}
# --strategy: what makes it, in tf.distribute.
STRATEGIES = {
    "none": "get_strategy",
    "mirrored": "MirroredStrategy",
    "multiworker": "MultiWorkerMirroredStrategy",
}


def check(what: str, name: str, names: Iterable[str]) -> None:
    """Refuses a name that is not among `names`.

    Raises:
        ValueError: in one line with all that can be chosen.
    """
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"Unknown {what} {name!r}; use one of {', '.join(names)}.")


class Choices(dict):
    """Dict name -> thing, or where the thing is ("module:attribute" or "module" of this package).

    Args:
        what: what they are called in messages, such as "sampler".
        places: dict name -> place of those that the package brings.
        otherwise: what else can be given, for messages, such as "or a NoiseSchedule(betas)".
    """

    def __init__(self, what: str, places: Mapping[str, Any], otherwise: str = ""):
        super().__init__(places)
        self.what = what
        self.otherwise = otherwise
        self.built_in = frozenset(places)

    def find(self, name: str) -> Any:
        """The thing of this name.

        Raises:
            ValueError: there is none.
        """
        if not isinstance(name, str) or name not in self:
            known = ", ".join([*self, *filter(None, [self.otherwise])])
            raise ValueError(f"Unknown {self.what} {name!r}; use one of {known}.")
        thing = self[name]
        if isinstance(thing, str):
            place, _, attribute = thing.partition(":")
            module = importlib.import_module(f".{place}", __package__)
            thing = getattr(module, attribute) if attribute else module
        return thing


class Without(Collection):
    """The names of `Choices` but a few, and those that are added to them later.

    Args:
        choices: a `Choices`.
        left_out: the names that are none of them.
    """

    def __init__(self, choices, left_out):
        self.choices = choices
        self.left_out = frozenset(left_out)

    def __iter__(self):
        return (name for name in self.choices if name not in self.left_out)

    def __len__(self):
        return sum(1 for _ in self)

    def __contains__(self, name):
        return name in self.choices and name not in self.left_out


SAMPLERS = Choices(
    "sampler",
    {
        "ddpm": "samplers.ddpm:DDPM",
        "ddim": "samplers.ddim:DDIM",
        "dpm": "samplers.dpm_solver:DPMSolver",
        "dpm_3m": "samplers.dpm_solver:third_order",
        "dpm_sde": "samplers.dpm_solver:stochastic",
        "unipc": "samplers.unipc:UniPC",
        "heun": "samplers.heun:Heun",
    },
    "or a sampler such as samplers.DDIM(steps=50)",
)
SCHEDULES = Choices(
    "noise schedule",
    {"linear": "noise:linear", "cosine": "noise:cosine", "sigmoid": "noise:sigmoid"},
    "or a NoiseSchedule(betas)",
)
EMA_RULES = Choices(
    "rule of an average",
    {
        "constant": "ema.decays:ConstantDecay",
        "warmup": "ema.decays:WarmupDecay",
        "power_warmup": "ema.decays:PowerWarmupDecay",
        "step": "ema.decays:StepDecay",
        "ramp": "ema.decays:LinearRampDecay",
        "power": "ema.power_function:PowerFunctionDecay",
        "halflife": "ema.half_life:HalfLife",
        "swa": "ema.windows:SWA",
        "lawa": "ema.windows:LAWA",
        "wsm": "ema.windows:WSM",
    },
)
# --ema-schedule: rules that a decay alone makes, or nothing at all.
EMA_SCHEDULES = Without(EMA_RULES, ("power", "halflife", "swa", "lawa", "wsm"))
NETWORKS = Choices("network", {"unet": "networks.unet:UNet"})
# What reads images: the first that says it can. See `data.load`.
SOURCES = Choices(
    "source of images",
    {
        "builtin": "data.builtin",
        "tfds": "data.tfds",
        "idx": "data.idx",
        "arrays": "data.arrays",
        "folder": "data.folder",
    },
)
FORMATS = Choices(
    "export format",
    {
        "keras": "formats:KERAS",
        "saved_model": "formats:SAVED_MODEL",
        "diffusers": "formats:DIFFUSERS",
    },
)
METRICS = Choices(
    "metric",
    {
        "frechet": "quality.frechet:METRIC",
        "kid": "quality.kernel:METRIC",
        "precision_recall": "quality.neighbours:METRIC",
        "copying": "quality.memorisation:METRIC",
        "copying_pixels": "quality.memorisation:PIXELS",
    },
)
EXTRACTORS = Choices(
    "extractor",
    {
        "classifier": "quality.extractors.classifier:ClassifierFeatures",
        "random": "quality.extractors.random_network:RandomFeatures",
        "pixels-pca": "quality.extractors.pixels:PixelFeatures",
        "inception": "quality.extractors.inception:InceptionFeatures",
        "inception75": "quality.extractors.inception:at_75_pixels",
    },
    "or the file of the FID network's weights",
)
