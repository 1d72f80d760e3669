"""Settings to start from, by name: what each changes of the defaults in `options`."""

import os

# What the published configurations share (Ho et al. 2020, appendix B).
_PUBLISHED = {
    "batch_size": 128,
    "base_channels": 128,
    "num_res_blocks": 2,
    "attention_resolutions": (16,),
    "dropout": 0.1,
    "flip": True,
    "ema": (0.9999,),
    "ema_schedule": ("constant",),
    "learning_rate": 2e-4,
    "warmup_steps": 5000,
    "log_every_steps": 100,
    "epoch_steps": 5000,
    "validation_images": 5000,
    "num_images": 50_000,
}

# Each preset: what it changes, and what to expect of it (command, hardware, time, score).
PRESETS = {
    "digits": {"quality_every_epochs": 1, "quality_images": 64},  # a curve of eight points
    "images": {
        "batch_size": 128,
        "base_channels": 64,
        "channel_multipliers": (1, 2, 2),
        "num_res_blocks": 2,
        "attention_resolutions": (),
        "dropout": 0.1,
        "flip": True,
        "schedule": "cosine",
        "prediction": "v",  # brightness and colours are right early: see docs/presets.md
        "ema": (0.999, 0.9999),
        "steps": 50_000,
        "learning_rate": 2e-4,
        "warmup_steps": 1000,
        "log_every_steps": 50,
        "epoch_steps": 1000,
        "validation_images": 1000,
        "num_images": 5000,
    },
    "mnist": {
        "batch_size": 128,
        "channel_multipliers": (1, 2, 2),
        "attention_resolutions": (7,),
        "dropout": 0.1,
        "schedule": "cosine",
        "prediction": "v",
        "ema": (0.99, 0.999, 0.9999),
        "steps": 10_000,
        "learning_rate": 5e-4,
        "epoch_steps": 500,
        "validation_images": 500,
        "num_images": 4000,
    },
    "cifar10": _PUBLISHED
    | {
        "channel_multipliers": (1, 2, 2, 2),
        "steps": 800_000,
        "sampler": "ddpm",
        "sampling_steps": 1000,
    },
    "celeba64": _PUBLISHED
    | {
        "dataset": "celeb_a",
        "image_size": 64,
        "channel_multipliers": (1, 2, 2, 2, 4),
        "steps": 500_000,
        "sampling_steps": 100,
    },
}
_PRESET_OF_DATASET = {"mnist5k": "mnist", "celeb_a": "celeba64"}


def preset_of(dataset, image_size=0):
    """Name of the preset that a data set selects, where none is given.

    IDX files of 28x28 are MNIST or of its kind, whose images must not be mirrored.
    """
    if dataset in PRESETS:
        return dataset
    if image_size in (0, 28) and os.path.isdir(os.path.expanduser(dataset)):
        from ..data import idx  # and with it NumPy, which --help can do without

        if idx.image_size(dataset) == (28, 28):
            return "mnist"
    return _PRESET_OF_DATASET.get(dataset, "images")
