"""What callables and numbers given to the library's functions may be, beside those of models."""

import numpy as np
import pytest
import tensorflow as tf
from networks import small_network
from refusals import assert_refused

from ddpm_keras import (
    DDPM,
    EMA,
    UNet,
    callbacks,
    choices,
    data,
    images,
    likelihood,
    noise,
    posthoc,
    quality,
    samplers,
)
from ddpm_keras.callbacks import (
    EvaluateAverages,
    MLflowScalars,
    PowerFunctionSnapshots,
    QualityMonitor,
    WandbScalars,
)
from ddpm_keras.drawing import slerp
from ddpm_keras.ema import Decay, LinearRampDecay

SCHEDULE = noise.linear(20)
NOISE = np.zeros((2, 4, 4, 1), np.float32)
IMAGES = np.zeros((2, 4, 4, 1), np.uint8)
ROWS = np.random.default_rng(0).normal(size=(40, 3))


def written_to_arrays():
    ema, weight = EMA(0.9), tf.Variable([1.0])
    ema.build([weight])
    ema.assign_to("0.9", [np.zeros(1)])


def batches(size=1):
    return tf.data.Dataset.from_tensor_slices(np.zeros((2, 8, 8, 1), np.uint8)).batch(size)


class Rule(Decay):
    def __init__(self, formula):
        self.formula = formula

    def rate(self, n):
        return eval(self.formula, {"n": n})

    name = "rule"


def complex_average():
    EMA(0.9).build([tf.Variable([1j]), tf.Variable([1.0])])


def ancestral_step(seeds):
    chain = samplers.Chain(samplers.DDPM(steps=3), SCHEDULE)
    return chain.step(zeros, 0, tf.constant(NOISE), chain.memory(tf.constant(NOISE)), seeds)


def zeros(x, t):
    return tf.zeros_like(x)


def trained(images=None, **options):
    images = np.zeros((2, 8, 8, 1), np.uint8) if images is None else images
    model = DDPM(small_network(), ema=0.5)
    model.compile("sgd")
    return model.fit(images, verbose=0, **options)


def stream(**options):
    return data.training_stream(IMAGES, **options)


def tiny():
    return UNet((4, 4, 1), 32, (1,), attention_resolutions=())


def ddim(predict=zeros, noise=NOISE, schedule=SCHEDULE):
    return samplers.DDIM(3)(predict, noise, schedule)


def bits(predict=zeros, schedule=SCHEDULE):
    return likelihood.bits_per_dim(predict, IMAGES, schedule)


WRONG = {
    "one image's noise for all": (lambda: ddim(lambda x, t: x[:1]), ["predict", "shaped like x"]),
    "a channel too many": (
        lambda: ddim(lambda x, t: tf.repeat(x, 2, axis=-1)),
        ["(2, 4, 4, 2)", "(2, 4, 4, 1)"],
    ),
    "a number for each image": (lambda: ddim(lambda x, t: x[:, 0, 0, 0]), ["predict", "(2,)"]),
    "noise in bytes": (lambda: ddim(noise=IMAGES), ["noise", "uint8", "initial_noise"]),
    "a schedule by name alone": (lambda: ddim(schedule="linear"), ["schedule", "noise.linear"]),
    "one image's seed for all": (
        lambda: samplers.DDPM(steps=3)(
            zeros, NOISE, SCHEDULE, seed=samplers.image_seeds(0, start=0, count=1)
        ),
        ["seeds", "(1, 2)", "one for each", "image_seeds"],
    ),
    "seeds of three for two": (
        lambda: ancestral_step(samplers.image_seeds(0, 0, 3)),
        ["seeds", "(3, 2)", "(2, 4, 4, 1)"],
    ),
    "no seeds for noise": (lambda: ancestral_step(None), ["seeds", "one for each"]),
    "paths for snapshots": (
        lambda: posthoc.synthesize(["snapshot-00000010.npz"], sigma_rel=0.1),
        ["list_snapshots", "snapshot-00000010.npz", "directory"],
    ),
    "a rate that is not finite": (lambda: EMA(Rule("1 / n")), ["Rule", "rate(0) is inf", "0 to 1"]),
    "a rate above 1": (lambda: EMA(Rule("n / 50")), ["rate(51) is 1.02", "0 to 1"]),
    "one rate for all steps": (lambda: EMA(Rule("0.1")), ["shape of n", "()"]),
    "complex weights": (complex_average, ["complex", "two weights"]),
    "data in batches, and another size": (
        lambda: trained(batches(), batch_size=4),
        ["batch_size=4", "leave it out"],
    ),
    "a generator, and a size": (
        lambda: trained(iter([np.zeros((2, 8, 8, 1), np.uint8)]), batch_size=4),
        ["batch_size=4", "leave it out"],
    ),
    "validation in batches, and another size": (
        lambda: trained(validation_data=batches(), validation_batch_size=4),
        ["validation_batch_size=4", "leave it out"],
    ),
    "an evaluation in batches, and another size": (
        lambda: DDPM(small_network()).evaluate(batches(), batch_size=4),
        ["batch_size=4", "leave it out"],
    ),
    "averages in batches, and another size": (
        lambda: EvaluateAverages(batches(), batch_size=4),
        ["batch_size=4", "leave it out"],
    ),
    "features of half an image": (
        lambda: quality.extract_features(None, IMAGES, num_images=1.5),
        ["num_images", "1.5"],
    ),
    "features of True images": (
        lambda: quality.extract_features(None, IMAGES, num_images=True),
        ["num_images", "True"],
    ),
    "half a pixel": (lambda: quality.InceptionFeatures(size=75.5), ["size", "75.5"]),
    "real features of NaN": (
        lambda: QualityMonitor(lambda: None, np.full((9, 3), np.nan)),
        ["`real`", "NaN"],
    ),
    "bits of one image's noise": (lambda: bits(lambda x, t: x[:1]), ["predict", "shaped like x"]),
    "bits of NaN": (lambda: bits(lambda x, t: x * np.nan), ["predict", "not finite", "image 0"]),
    "bits by a schedule's name": (lambda: bits(schedule="linear"), ["schedule", "noise.linear"]),
    "no components": (lambda: quality.PixelFeatures.train(IMAGES, dim=0), ["dim", "0"]),
    "half a component": (lambda: quality.PixelFeatures.train(IMAGES, dim=1.5), ["dim", "1.5"]),
    "no random features": (lambda: quality.RandomFeatures.train(IMAGES, dim=0), ["dim", "0"]),
    "a random seed below 0": (
        lambda: quality.RandomFeatures.train(IMAGES, seed=-1),
        ["seed", "-1"],
    ),
    "no steps to learn in": (
        lambda: quality.ClassifierFeatures.train(IMAGES, steps=0),
        ["steps", "0"],
    ),
    "batches by words": (
        lambda: quality.ClassifierFeatures.train(IMAGES, batch_size="8"),
        ["batch_size", "'8'"],
    ),
    "a project without a name": (lambda: WandbScalars(""), ["project", "''"]),
    "an experiment that is a number": (lambda: MLflowScalars(3), ["experiment", "3"]),
    "a configuration that is none": (lambda: WandbScalars("a", config=3), ["config", "3"]),
    "no extractor": (lambda: quality.get_extractor(None), ["extractor", "inception", "None"]),
    "a number for an extractor": (lambda: quality.get_extractor(5), ["extractor", "5"]),
    "half a subset": (
        lambda: quality.kernel_distance(ROWS, ROWS, num_subsets=1.5),
        ["num_subsets", "1.5"],
    ),
    "subsets of one image": (
        lambda: quality.kernel_distance(ROWS, ROWS, subset_size=1),
        ["subset_size", "at least 2"],
    ),
    "a fraction as a seed of KID": (
        lambda: quality.kernel_distance(ROWS, ROWS, seed=1.5),
        ["seed", "1.5"],
    ),
    "a fraction as a seed of FD infinity": (
        lambda: quality.frechet_distance_infinity(ROWS, ROWS, num_groups=2, seed=1.5),
        ["seed", "1.5"],
    ),
    "two sizes for a line": (
        lambda: quality.frechet_distance_infinity(ROWS, ROWS, num_sizes=2),
        ["num_sizes", "at least 3"],
    ),
    "few held-out rows for a floor": (
        lambda: quality.frechet_floor(ROWS, ROWS[:8], 100),
        ["`held_out` has 8 rows", "at least 16"],
    ),
    "a floor of half an image": (
        lambda: quality.frechet_floor(ROWS, ROWS, 2.5),
        ["num_images", "2.5"],
    ),
    "a second set of other features": (
        lambda: quality.paired_difference(ROWS, ROWS, ROWS[:, :1]),
        ["`second`", "`first`", "use one extractor"],
    ),
    "real images of other features": (
        lambda: quality.paired_difference(ROWS[:, :1], ROWS, ROWS),
        ["`real`", "`first`", "use one extractor"],
    ),
    "others of another width": (
        lambda: quality.nearest(ROWS, ROWS[:, :1]),
        ["`rows`", "`others`", "use one extractor"],
    ),
    "no rows": (lambda: quality.nearest(ROWS[:0], ROWS), ["`rows` has 0 rows"]),
    "no resample": (
        lambda: quality.paired_difference(ROWS, ROWS, ROWS, num_resamples=0),
        ["num_resamples", "at least 1"],
    ),
    "confidence in words": (
        lambda: quality.paired_difference(ROWS, ROWS, ROWS, confidence="high"),
        ["confidence", "high"],
    ),
    "a seed of 65 bits": (lambda: DDPM(tiny(), seed=2**63), ["seed", "64 bits"]),
    "validation of no data": (
        lambda: trained(validation_steps=3),
        ["validation_steps", "without validation_data"],
    ),
    "a batch of no validation": (
        lambda: trained(validation_batch_size=3),
        ["validation_batch_size", "without validation_data"],
    ),
    "validation of two kinds": (
        lambda: trained(validation_split=0.5, validation_data=np.zeros((2, 8, 8, 1), np.uint8)),
        ["validation_split and validation_data", "one of them"],
    ),
    "validation never": (
        lambda: trained(validation_freq=0, validation_data=np.zeros((2, 8, 8, 1), np.uint8)),
        ["validation_freq", "at least 1"],
    ),
    "fewer than no steps": (lambda: trained(steps_per_epoch=-1), ["steps_per_epoch", "-1"]),
    "an evaluation of no step": (
        lambda: DDPM(small_network()).evaluate(np.zeros((2, 8, 8, 1), np.uint8), steps=0),
        ["steps", "at least 1"],
    ),
    "an epsilon below 0": (
        lambda: UNet((4, 4, 1), 32, (1,), attention_resolutions=(), norm_epsilon=-1e-6),
        ["norm_epsilon", "positive", "-1e-06"],
    ),
    "a network that trains in words": (
        lambda: UNet((4, 4, 1), 32, (1,), attention_resolutions=(), trainable="no"),
        ["trainable", "'no'"],
    ),
    "the timesteps of another schedule": (
        lambda: DDPM(small_network(), SCHEDULE, timesteps=1000),
        ["timesteps is 1000", f"has {SCHEDULE.timesteps}"],
    ),
    "one timestep": (lambda: DDPM(small_network(), timesteps=1), ["timesteps is 1", "2 or more"]),
    **{
        f"{name} of a Keras model": (
            lambda watch=watch: watch().set_model(small_network()),
            [name, "DDPM", "not of a Functional", "leave it out"],
        )
        for name, watch in {
            "SampleGrid": lambda: callbacks.SampleGrid("x"),
            "QualityMonitor": lambda: QualityMonitor(lambda: None, ROWS),
            "ValidationLoss": lambda: callbacks.ValidationLoss(IMAGES),
            "Trajectory": lambda: callbacks.Trajectory("x.npz"),
            "TensorBoardScalars": lambda: callbacks.TensorBoardScalars("x"),
            "StopOnDivergence": lambda: callbacks.StopOnDivergence(),
        }.items()
    },
    "no images a batch": (lambda: trained(batch_size=0), ["batch_size", "at least 1"]),
    "half an image a batch": (lambda: trained(batch_size=2.5), ["batch_size", "2.5"]),
    "less than no epoch": (lambda: trained(epochs=-1), ["epochs", "-1"]),
    "more than all for validation": (lambda: trained(validation_split=1.5), ["validation_split"]),
    "a mask": (
        lambda: trained(np.ma.masked_equal(np.zeros((2, 8, 8, 1), np.uint8), 0)),
        ["masked array", "filled"],
    ),
    "a range in letters": (lambda: DDPM(small_network(), image_range="01"), ["image_range", "01"]),
    "averages in no order": (lambda: EMA({0.9, 0.99}), ["set", "tuple"]),
    "a stream that flips in words": (lambda: stream(flip="yes"), ["flip", "yes"]),
    "a stream of half images": (lambda: stream(batch_size=2.5), ["batch_size", "2.5"]),
    "a stream from before its start": (lambda: stream(start_step=-1), ["start_step", "-1"]),
    "a stream of half a seed": (lambda: stream(seed=1.5), ["seed", "1.5"]),
    "a stream of labels between classes": (
        lambda: stream(labels=np.array([0.7, 1.7])),
        ["labels", "integers", "float64"],
    ),
    "a ramp that falls": (lambda: LinearRampDecay(0.9, 0.5, 10), ["start", "end", "rises"]),
    "features with a mask": (
        lambda: quality.frechet_distance(np.ma.masked_greater(ROWS, 0), ROWS),
        ["real", "masked"],
    ),
    "a grid of no column": (lambda: images.grid(IMAGES, columns=0), ["columns", "at least 1"]),
    "a grid whose tiles overlap": (lambda: images.grid(IMAGES, gap=-1), ["gap", "at least 0"]),
    "progress that is no function": (
        lambda: DDPM(small_network()).sample(1, progress=3),
        ["progress", "(done, total)", "3"],
    ),
    "more images than a series has": (
        lambda: DDPM(small_network()).sample(2, start=2**31 - 1),
        ["start is 2147483647", "another seed"],
    ),
    "pictures of floats": (lambda: images.write(NOISE, "x"), ["uint8", "float32"]),
    "pictures of two channels": (
        lambda: images.write(np.repeat(IMAGES, 2, -1), "x"),
        ["2 channels", ".npz"],
    ),
    "arrays of five axes": (lambda: images.write(IMAGES[None], "x.npz"), ["(1, 2, 4, 4, 1)"]),
    "snapshots of bytes": (lambda: PowerFunctionSnapshots("x", dtype="int8"), ["dtype", "int8"]),
    "too wide a width": (
        lambda: PowerFunctionSnapshots("x", sigma_rels=(0.5,)),
        ["0.2887", "0.5"],
    ),
    "half a step": (
        lambda: posthoc.synthesize("x", sigma_rel=0.1, step=0.5),
        ["step", "whole number", "0.5"],
    ),
    "noise of other channels": (
        lambda: noise.q_sample(SCHEDULE, NOISE, [1, 2], np.repeat(NOISE, 3, -1)),
        ["one shape", "(2, 4, 4, 3)"],
    ),
    "an output of other channels": (
        lambda: noise.to_x_start(SCHEDULE, "v", np.repeat(NOISE, 3, -1), NOISE, [1, 2]),
        ["one shape", "(2, 4, 4, 3)"],
    ),
    "images of bytes": (
        lambda: noise.q_sample(SCHEDULE, IMAGES, [1, 2], NOISE),
        ["uint8", "127.5"],
    ),
    "averages written to arrays": (lambda: written_to_arrays(), ["variables", "network.weights"]),
    "ends of two shapes": (
        lambda: slerp(NOISE[:1], np.zeros((1, 4, 4, 3)), [0.5]),
        ["first and second", "(1, 4, 4, 3)"],
    ),
    "ends of two noises": (lambda: slerp(NOISE, NOISE, [0.5]), ["one noise each", "(2, 4, 4, 1)"]),
    "averages of no data": (lambda: EvaluateAverages(None), ["validation_data", "evaluate"]),
    "no width": (lambda: PowerFunctionSnapshots("x", sigma_rels=()), ["sigma_rels", "empty"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused_by_name_in_one_line(case):
    call, words = WRONG[case]
    assert_refused(call, words)


ARGUMENTS = {
    "schedule": noise.cosine(20),
    "prediction": "v",
    "weighting": "min_snr",
    "label_dropout": 0.5,
    "seed": 1,
    "num_classes": 3,
    "image_range": (0, 1),
    "accumulation_steps": 2,
    "network": tiny(),
    "ema": EMA(0.5),
}


def test_what_a_model_was_made_with_is_not_changed_under_its_graphs():
    model = DDPM(tiny(), timesteps=20, ema=0.9)
    for name, value in ARGUMENTS.items():
        assert_refused(lambda n=name, v=value: setattr(model, n, v), [name, f"with {name}="])
        setattr(model, name, getattr(model, name))
    assert model.prediction == "epsilon" and model.image_range == (-1, 1)


def test_a_whole_number_of_timesteps_may_be_a_float():
    for name in choices.SCHEDULES:
        assert (
            noise.get(name, 20.0).timesteps == len(choices.SCHEDULES.find(name)(20.0).betas) == 20
        )


def test_timesteps_are_those_of_the_schedule_or_1000():
    for schedule, timesteps, made in (("cosine", None, 1000), (SCHEDULE, None, SCHEDULE.timesteps)):
        assert DDPM(small_network(), schedule, timesteps).schedule.timesteps == made
    assert DDPM(small_network(), SCHEDULE, SCHEDULE.timesteps).schedule is SCHEDULE


def test_one_width_is_a_width():
    assert PowerFunctionSnapshots("x", sigma_rels=0.05).sigma_rels == (0.05,)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_noise_of_any_precision_is_taken(dtype):
    assert ddim(noise=NOISE.astype(dtype)).dtype == tf.float32
