"""Numbers and flags given as arguments of the library: honoured, or refused by name in one line."""

import functools

import numpy as np
import pytest
from networks import small_network
from refusals import assert_refused

from ddpm_keras import DDPM, UNet, callbacks, likelihood, noise, quality, samplers

NAN, INFINITE = float("nan"), float("inf")
BYTES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)


@functools.cache
def model(num_classes=None):
    if num_classes is None:
        return DDPM(small_network(), timesteps=5, ema=None)
    network = UNet((8, 8, 1), 4, (1,), 1, (), groups=4, num_classes=num_classes)
    return DDPM(network, timesteps=5, ema=None)


def made(**options):
    return lambda: DDPM(model().network, **({"timesteps": 5} | options))


def drawn(num_images=1, **options):
    return lambda: model().sample(num_images, **options)


def guided(scale):
    return lambda: model(3).sample(1, guidance_scale=scale)


def validated(**options):
    return lambda: model().validation_loss(BYTES, **options)


def bounded(**options):
    return lambda: likelihood.model_bits_per_dim(model(), BYTES, **options)


def unet(**options):
    usual = {"channel_multipliers": (1, 2), "attention_resolutions": (), "groups": 4}
    return lambda: UNet(**({"image_shape": (8, 8, 1), "base_channels": 8} | usual | options))


def monitor(**options):
    return lambda: callbacks.QualityMonitor("classifier", BYTES, **options)


WRONG = {
    # the model
    "half a seed": (made(seed=1.5), ["seed", "1.5"]),
    "no seed": (made(seed=None), ["seed", "None"]),
    "a label_dropout that is text": (made(label_dropout="x"), ["label_dropout", "'x'"]),
    "a label_dropout that is NaN": (made(label_dropout=NAN), ["label_dropout", "nan"]),
    "timesteps True": (made(timesteps=True), ["timesteps", "True"]),
    "timesteps infinite": (made(timesteps=INFINITE), ["timesteps", "inf"]),
    "other timesteps than the schedule's": (
        made(schedule=noise.linear(5), timesteps=30),
        ["timesteps is 30", "schedule has 5", "leave timesteps out"],
    ),
    # drawing
    "half an image": (drawn(2.5), ["num_images", "2.5"]),
    "images True": (drawn(True), ["num_images", "True"]),
    "images in words": (drawn("3"), ["num_images", "'3'"]),
    "images NaN": (drawn(NAN), ["num_images", "nan"]),
    "half a batch": (drawn(batch_size=1.5), ["batch_size", "1.5"]),
    "a batch of none": (drawn(batch_size=0), ["batch_size", "at least 1"]),
    "half a seed of images": (drawn(seed=1.5), ["seed", "1.5"]),
    "no seed of images": (drawn(seed=None), ["seed", "None"]),
    "a start before the first": (drawn(start=-1), ["start", "at least 0", "-1"]),
    "a start between two": (drawn(start=1.5), ["start", "1.5"]),
    "guidance NaN": (guided(NAN), ["guidance_scale", "nan"]),
    "guidance infinite": (guided(INFINITE), ["guidance_scale", "inf"]),
    "guidance in words": (guided("2"), ["guidance_scale", "'2'"]),
    "guidance True": (guided(True), ["guidance_scale", "True"]),
    "guidance of each image": (guided([1, 2]), ["guidance_scale", "[1, 2]"]),
    # measuring
    "half a repeat": (validated(repeats=1.5), ["repeats", "1.5"]),
    "no repeat": (validated(repeats=0), ["repeats", "at least 1"]),
    "half a batch to validate": (validated(batch_size=2.5), ["batch_size", "2.5"]),
    "no batch to validate": (validated(batch_size=None), ["batch_size", "None"]),
    "half a batch to bound": (bounded(batch_size=2.5), ["batch_size", "2.5"]),
    "half a seed to bound": (bounded(seed=1.5), ["seed", "1.5"]),
    "clip in words": (bounded(clip="no"), ["clip", "'no'"]),
    "neighbours": (
        lambda: quality.precision_recall(np.eye(9), np.eye(9), k=1.5),
        ["k must", "1.5"],
    ),
    # samplers and schedules
    "steps True": (lambda: samplers.DDIM(steps=True), ["steps", "True"]),
    "steps infinite": (lambda: samplers.DDPM(steps=INFINITE), ["steps", "inf"]),
    "steps None": (lambda: samplers.DPMSolver(steps=None), ["steps", "None"]),
    "a list of steps": (lambda: samplers.DDIM(steps=[5]), ["steps", "[5]"]),
    "eta True": (lambda: samplers.DDIM(eta=True), ["eta", "True"]),
    "eta in words": (lambda: samplers.DDIM(eta="0"), ["eta", "'0'"]),
    "clip of a sampler in words": (lambda: samplers.DDIM(clip="no"), ["clip", "'no'"]),
    "no clip": (lambda: samplers.DPMSolver(clip=None), ["clip", "None"]),
    "order True": (lambda: samplers.DPMSolver(order=True), ["order", "True"]),
    "a beta below rounding": (lambda: noise.NoiseSchedule([1e-300, 0.1]), ["betas[0] is 1e-300"]),
    "no signal left": (lambda: noise.NoiseSchedule([0.999] * 200), ["signal", "smaller betas"]),
    "complex betas": (lambda: noise.NoiseSchedule([0.1j]), ["betas", "floats"]),
    "betas in a dict": (lambda: noise.NoiseSchedule({"a": 0.1}), ["betas", "dict"]),
    # the network
    "no channels": (unet(base_channels=0), ["base_channels", "at least 1"]),
    "half a channel": (unet(base_channels=7.5), ["base_channels", "7.5"]),
    "half a block": (unet(num_res_blocks=1.5), ["num_res_blocks", "1.5"]),
    "no groups": (unet(groups=0), ["groups", "at least 1"]),
    "no classes": (unet(num_classes=0), ["num_classes", "at least 1"]),
    "classes True": (unet(num_classes=True), ["num_classes", "True"]),
    "all dropped": (unet(dropout=1.0), ["dropout", "below 1"]),
    "dropout NaN": (unet(dropout=NAN), ["dropout", "nan"]),
    "no levels": (unet(channel_multipliers=()), ["channel_multipliers", "(1, 2)"]),
    "levels in a number": (unet(channel_multipliers=2), ["channel_multipliers", "(1, 2)"]),
    "a level of no width": (unet(channel_multipliers=(1, 0)), ["channel_multipliers", "positive"]),
    "attention in a number": (unet(attention_resolutions=4), ["attention_resolutions", "4"]),
    "an image that is a number": (unet(image_shape=8), ["height, width, channels", "8"]),
    "half an image channel": (unet(image_shape=(8, 8, 1.5)), ["height, width, channels", "1.5"]),
    "unknown sides": (unet(image_shape=(None, None, 1)), ["height, width, channels", "None"]),
    # callbacks
    "validation every 0": (
        lambda: callbacks.ValidationLoss(BYTES, every_epochs=0),
        ["every_epochs"],
    ),
    "half a repeat in epochs": (lambda: callbacks.ValidationLoss(BYTES, repeats=1.5), ["repeats"]),
    "pictures every 0": (
        lambda: callbacks.SampleGrid("x", every_epochs=0),
        ["every", "at least 1"],
    ),
    "no pictures": (lambda: callbacks.SampleGrid("x", num_images=0), ["num_images", "at least 1"]),
    "a path every 0": (
        lambda: callbacks.Trajectory("x.npz", every_steps=0),
        ["every", "at least 1"],
    ),
    "a path seeded below 0": (
        lambda: callbacks.Trajectory("x.npz", seed=-1),
        ["seed", "at least 0"],
    ),
    "snapshots every 2.5": (
        lambda: callbacks.PowerFunctionSnapshots("x", every_steps=2.5),
        ["every", "2.5"],
    ),
    "quality every 1.5": (monitor(every_epochs=1.5), ["every", "1.5"]),
    "quality of half an image": (monitor(num_images=4.5), ["num_images", "4.5"]),
    "quality in no batch": (monitor(batch_size=0), ["batch_size", "at least 1"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_by_name_in_one_line(name):
    call, words = WRONG[name]
    assert_refused(call, words)


RIGHT = {
    "whole floats": (samplers.DDIM(steps=np.float64(5)), samplers.DDIM(5)),
    "NumPy integers": (samplers.DPMSolver(np.int64(5), np.int8(2)), samplers.DPMSolver(5)),
    "NumPy flags": (samplers.DDIM(5, clip=np.bool_(False)), samplers.DDIM(5, clip=False)),
    "numbers of zero dimensions": (samplers.DDIM(np.array(5), np.float32(1)), samplers.DDIM(5, 1)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_taken_as_what_it_means(name):
    given, meant = RIGHT[name]
    assert given == meant


def test_the_timesteps_of_the_given_schedule_may_be_repeated():
    assert made(schedule=noise.linear(5), timesteps=5)().schedule.timesteps == 5


def test_an_argument_the_network_does_not_know_is_not_ignored():
    with pytest.raises(TypeError, match="channels"):
        UNet((8, 8, 1), channels=64)
