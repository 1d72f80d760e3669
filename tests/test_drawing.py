"""What people do with a model, on images of two Gaussian pixels whose best network is known."""

import gaussians
import numpy as np
import pytest
from networks import CorrelatedPair, conditional_model
from numpy.testing import assert_allclose, assert_array_equal
from refusals import assert_refused

from ddpm_keras import DDPM, drawing, noise, samplers
from ddpm_keras.drawing.inpainting import repaint_plan

DEVIATION, CORRELATION = 0.25, 0.8
SCHEDULE = noise.linear(100)
DDIM = samplers.DDIM(steps=20, clip=False)
ANCESTRAL = samplers.DDIM(steps=20, eta=1.0, clip=False)
FINEST = samplers.DDIM(steps=100, clip=False)
FINE = samplers.DDIM(steps=100, eta=1.0, clip=False)


@pytest.fixture(scope="module")
def model():
    return DDPM(CorrelatedPair(SCHEDULE, DEVIATION, CORRELATION), schedule=SCHEDULE, ema=None)


def pairs(count=6, seed=0):
    """uint8 images from the distribution of the model."""
    random = np.random.default_rng(seed)
    covariance = DEVIATION**2 * np.array([[1, CORRELATION], [CORRELATION, 1]])
    values = random.multivariate_normal([0, 0], covariance, count)
    return np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8).reshape(-1, 1, 2, 1)


MASK = np.array([[False, True]])  # paint the second pixel

# Everything that is drawn, as a function of (model, **settings).
USES = {
    "image_to_image": lambda m, **k: drawing.image_to_image(m, pairs(), 0.5, **k),
    "inpaint": lambda m, **k: drawing.inpaint(m, pairs(), MASK, 5, 2, **k),
    "interpolate_noise": lambda m, **k: drawing.interpolate_noise(m, 1, 2, 6, **k),
    "interpolate_images": lambda m, **k: drawing.interpolate_images(m, *pairs(2), 6, **k),
    "interpolate_encodings": lambda m, **k: drawing.interpolate_encodings(m, *pairs(2), 6, **k),
    "progressive": lambda m, **k: drawing.denoise_progressively(m, 6, 3, **k).images,
}


DETERMINISTIC = {"interpolate_encodings"}
WAYS = [(use, DDIM) for use in USES] + [(use, ANCESTRAL) for use in USES.keys() - DETERMINISTIC]


@pytest.mark.parametrize(("use", "sampler"), sorted(WAYS, key=repr))
def test_images_do_not_depend_on_their_batch(use, sampler, model):
    settings = {"sampler": sampler, "output": "float"}
    done = []
    whole = USES[use](model, **settings)
    parts = USES[use](model, batch_size=4, progress=lambda *each: done.append(each), **settings)
    assert_allclose(parts, whole, atol=1e-5)
    assert done == [(4, 6), (6, 6)] and whole.shape == (6, 1, 2, 1) and whole.dtype == np.float32
    assert len({image.tobytes() for image in whole}) == 6


@pytest.mark.parametrize("use", ["image_to_image", "inpaint"])
def test_a_series_can_be_drawn_in_parts(use, model):
    settings = {"sampler": ANCESTRAL, "output": "float", "seed": 3}
    call = getattr(drawing, use)
    more = (MASK,) if use == "inpaint" else ()
    images = pairs()
    whole = call(model, images, *more, **settings)
    assert_allclose(call(model, images[4:], *more, start=4, **settings), whole[4:], atol=1e-5)
    assert np.abs(call(model, images, *more, **settings | {"seed": 4}) - whole).max() > 0.05


# Image to image


@pytest.mark.parametrize("sampler", [DDIM, ANCESTRAL, samplers.DPMSolver(20)], ids=repr)
def test_strength_0_is_the_image_and_1_a_plain_sample(sampler, model):
    images = pairs()
    assert_array_equal(drawing.image_to_image(model, images, 0.0, sampler=sampler), images)
    new = drawing.image_to_image(model, images, 1.0, sampler=sampler, seed=5)
    assert_array_equal(new, model.sample(6, sampler=sampler, seed=5))


def test_more_strength_moves_images_farther_and_keeps_their_distribution(model):
    images = pairs(400)
    start = images / 127.5 - 1
    settings = {"sampler": FINE, "output": "float", "batch_size": 400}
    drawn = [drawing.image_to_image(model, images, s, **settings) for s in (0.05, 0.15, 0.4)]
    moved = [np.abs(each - start).mean() for each in drawn]
    assert 0.01 < moved[0] < moved[1] < moved[2]
    for each in drawn:
        assert np.corrcoef(each[:, 0, :, 0].T)[0, 1] == pytest.approx(CORRELATION, abs=0.07)
        assert each.std() == pytest.approx(DEVIATION, rel=0.15)


# Inpainting


def test_what_is_known_is_kept_to_the_pixel(model):
    images = pairs()
    each = np.array([[[True, False]], [[False, False]], [[True, True]]] * 2)
    for mask in (MASK, MASK[..., None], each, each[..., None].astype("float32")):
        painted = drawing.inpaint(model, images, mask, 5, 2, sampler=ANCESTRAL)
        where = np.broadcast_to(np.reshape(mask, (-1, 1, 2, 1)) != 0, images.shape)
        assert_array_equal(painted[~where], images[~where])
        assert (painted[where] != images[where]).any()


def test_what_is_painted_follows_what_is_known(model):
    """E[second | first = c] = correlation c, and the deviation left is sqrt(1 - correlation^2).

    Without going back the known pixel is met too late, and the mean falls far short.
    """
    known = 0.4
    images = np.full((1000, 1, 2, 1), known, np.float32)
    settings = {"sampler": FINE, "output": "float", "batch_size": 1000}
    painted, once = (
        drawing.inpaint(model, images, MASK, 1, resamplings, **settings)[:, 0, 1, 0]
        for resamplings in (10, 1)
    )
    assert painted.mean() == pytest.approx(CORRELATION * known, abs=0.04)
    assert painted.std() == pytest.approx(DEVIATION * np.sqrt(1 - CORRELATION**2), rel=0.2)
    assert once.mean() < CORRELATION * known - 0.1


PLANS = [
    ((3, 1, 1), [(0, 0), (1, 0), (2, 0)]),
    ((3, 5, 4), [(0, 0), (1, 0), (2, 0)]),
    ((4, 2, 2), [(0, 0), (1, 0), (2, 2), (1, 0), (2, 0), (3, 0)]),
    ((3, 1, 2), [(0, 1), (0, 0), (1, 1), (1, 0), (2, 0)]),
]


@pytest.mark.parametrize(("arguments", "plan"), PLANS)
def test_plans(arguments, plan):
    assert repaint_plan(*arguments) == plan


@pytest.mark.parametrize(("steps", "jump", "resamplings"), [(30, 10, 3), (25, 5, 4), (7, 3, 2)])
def test_a_plan_makes_each_step_and_goes_back_as_often_as_it_says(steps, jump, resamplings):
    plan = repaint_plan(steps, jump, resamplings)
    place = 0
    for step, back in plan:
        assert step == place and back in (0, jump)
        place += 1 - back
    assert place == steps
    returns = [step for step, back in plan if back]
    places = [steps - 1 - left for left in range(steps - jump, 0, -1) if left % jump == 1 % jump]
    assert returns == [place for place in places for _ in range(resamplings - 1)]


# Interpolation


def test_slerp_has_the_length_of_its_ends():
    first, second = np.random.default_rng(0).normal(size=(2, 1, 8, 8, 3))
    second *= np.linalg.norm(first) / np.linalg.norm(second)
    between = drawing.slerp(first, second, np.linspace(0, 1, 5))
    lengths = np.linalg.norm(between.reshape(5, -1), axis=1)
    assert_allclose(lengths, np.linalg.norm(first), rtol=1e-5)
    assert_allclose(between[[0, 4]], np.concatenate([first, second]), rtol=1e-5, atol=1e-6)
    angles = np.arccos(np.sum(between[1:] * between[:-1], axis=(1, 2, 3)) / lengths[0] ** 2)
    assert_allclose(angles, angles[0], rtol=1e-3)
    assert_allclose(drawing.slerp(first, first, [0.3]), first, rtol=1e-6)
    assert np.isfinite(drawing.slerp(first, -first, [0.5])).all()


def test_interpolation_ends_in_the_images_of_its_seeds(model):
    between = drawing.interpolate_noise(model, 3, 8, 5, sampler=DDIM, output="float")
    for end, seed in ((0, 3), (4, 8)):
        alone = model.sample(1, seed=seed, sampler=DDIM, output="float")
        assert_allclose(between[end], alone[0], atol=1e-6)
    steps = np.abs(np.diff(between, axis=0)).max(axis=(1, 2, 3))
    assert steps.max() < 0.75 * np.abs(between[4] - between[0]).max()


def test_images_are_interpolated_by_the_same_noise(model):
    one, other = pairs(2)
    blends = drawing.interpolate_images(model, one, other, 3, strength=0.0)
    assert_array_equal(blends[[0, 2]], [one, other])
    assert_allclose(blends[1], (one.astype(float) + other) / 2, atol=0.5)
    settings = {"sampler": ANCESTRAL, "seed": 4, "output": "float"}
    between = drawing.interpolate_images(model, one, other, 3, strength=0.5, **settings)
    for index, image in ((0, one), (2, other)):
        alone = drawing.image_to_image(model, image[None], 0.5, **settings)
        assert_allclose(between[index], alone[0], atol=1e-6)
    assert_allclose(between[1], between[[0, 2]].mean(axis=0), atol=1e-5)  # the network is linear


# Encoding


def encoded_exactly(images):
    """What the flow of the data's distribution makes of images: each axis is rescaled to noise."""
    signal = SCHEDULE.alphas_cumprod[[0, -1]]
    flat = images.reshape(-1, 2) / 127.5 - 1
    axes = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    variances = DEVIATION**2 * np.array([1 + CORRELATION, 1 - CORRELATION])
    first, last = (np.sqrt(each * variances + 1 - each) for each in signal)
    return (flat @ axes * (last / first) @ axes).reshape(images.shape)


def test_images_are_encoded_as_by_the_flow_the_better_the_more_steps(model):
    images = pairs(40)
    expected = encoded_exactly(images)
    off = [
        np.abs(drawing.encode(model, images, sampler=samplers.DDIM(steps)) - expected).max()
        for steps in (12, 25, 50, 100)
    ]
    assert np.all(np.divide(off[:-1], off[1:]) > 1.5) and off[-1] < 0.06 * np.abs(expected).max()
    encoded = drawing.encode(model, pairs(400), sampler=FINEST)
    assert encoded.dtype == np.float32 and encoded.std() == pytest.approx(1.0, rel=0.1)
    assert np.corrcoef(encoded[:, 0, :, 0].T)[0, 1] == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading_unchecked"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_ddim_comes_back_to_the_images(spacing, prediction):
    schedule = noise.cosine(400)
    predict = gaussians.predictor_of(schedule, prediction, 0.1, 0.4)
    images = np.random.default_rng(0).normal(0.1, 0.4, (5, 2, 2, 1)).astype("float32")
    off = []
    for steps in (50, 200):
        ddim = samplers.DDIM(steps, spacing=spacing, clip=False)
        there = samplers.DDIMInversion.of(ddim)
        encoded = there(predict, images, schedule, prediction=prediction)
        back = ddim(predict, encoded, schedule, prediction=prediction)
        off.append(np.abs(back - images).max())
    assert off[1] < 0.5 * off[0] and off[1] < 0.05


def test_what_lies_between_encoded_images_ends_in_them(model):
    one, other = pairs(2)
    between = drawing.interpolate_encodings(model, one, other, 5, output="float")
    ends = np.stack([one, other]) / 127.5 - 1
    assert_allclose(between[[0, -1]], ends, atol=0.02)
    ways = np.abs(np.diff(between, axis=0)).max(axis=(1, 2, 3))
    assert ways.max() < 0.5 * np.abs(ends[1] - ends[0]).max()


# Progressive denoising


@pytest.mark.parametrize("sampler", [DDIM, ANCESTRAL, samplers.DPMSolver(20)], ids=repr)
def test_the_way_ends_in_the_image_and_begins_in_noise(sampler, model):
    way = drawing.denoise_progressively(model, 3, 4, sampler=sampler, seed=2, output="float")
    expected = model.sample(3, sampler=sampler, seed=2, output="float")
    assert_allclose(way.images, expected, atol=1e-6)
    assert way.x.shape == way.x_start.shape == (4, 3, 1, 2, 1)
    assert list(way.timesteps) == list(sampler.timesteps(SCHEDULE)[[0, 6, 13, 19]])
    start = samplers.initial_noise(samplers.image_seeds(2, 0, 3), (1, 2, 1))
    assert_allclose(way.x[0], np.clip(start, -1, 1), atol=1e-6)
    assert_allclose(way.x_start[-1], expected, atol=1e-5)  # the last step gives what it predicts


def test_there_is_one_state_for_each_step_at_most(model):
    way = drawing.denoise_progressively(model, 1, 50, sampler=DDIM)
    assert list(way.timesteps) == list(DDIM.timesteps(SCHEDULE)) and way.x.dtype == np.uint8


# Labels, and what is refused


def test_images_that_are_given_have_no_label_unless_it_is_said():
    model = conditional_model()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    settings = {"sampler": samplers.DDIM(4), "output": "float"}
    plain, none, two = (
        drawing.image_to_image(model, images, 0.5, **settings, **labels)
        for labels in ({}, {"labels": [3, 3]}, {"labels": 2})
    )
    assert_array_equal(plain, none)
    assert np.abs(plain - two).max() > 1e-3


class Overflowing(CorrelatedPair):
    def call(self, inputs, training=None):
        return super().call(inputs) * np.inf


WRONG = {
    "strength|1.5|0 to 1": lambda m: drawing.image_to_image(m, pairs(), 1.5),
    "strength is 0.02|of 20 steps": lambda m: drawing.image_to_image(
        m, pairs(), 0.02, sampler=ANCESTRAL
    ),
    "mask|nowhere": lambda m: drawing.inpaint(m, pairs(), np.zeros_like(MASK)),
    "strength|nan": lambda m: drawing.image_to_image(m, pairs(), float("nan")),
    "(1, 2, 1)|(2, 2, 1)": lambda m: drawing.image_to_image(m, np.zeros((1, 2, 2, 1), "uint8")),
    "int64": lambda m: drawing.image_to_image(m, pairs().astype(int)),
    "image_range": lambda m: drawing.inpaint(m, pairs().astype("float32"), MASK),
    "mask|(2,)|(1, 2)": lambda m: drawing.inpaint(m, pairs(), [0, 1]),
    "mask|True where": lambda m: drawing.inpaint(m, pairs(), [["no", "yes"]]),
    "jump|at least 1": lambda m: drawing.inpaint(m, pairs(), MASK, jump=0),
    "jump is 20|20 steps": lambda m: drawing.inpaint(m, pairs(), MASK, jump=20, sampler=ANCESTRAL),
    "resamplings|at least 1": lambda m: drawing.inpaint(m, pairs(), MASK, resamplings=0),
    "DPMSolver|samplers.DDIM": lambda m: drawing.inpaint(m, pairs(), MASK, sampler="dpm"),
    "num_images|at least 2": lambda m: drawing.interpolate_noise(m, 0, 1, 1),
    "first|0.5": lambda m: drawing.interpolate_noise(m, 0.5, 1),
    "(2, 2, 1)|resize": lambda m: drawing.interpolate_images(
        m, pairs()[0], np.zeros((2, 2, 1), "uint8")
    ),
    "eta|samplers.DDIM": lambda m: drawing.encode(m, pairs(), sampler=ANCESTRAL),
    "DPMSolver|way back": lambda m: drawing.interpolate_encodings(m, *pairs(2), sampler="dpm"),
    "seed|leave it out": lambda m: drawing.interpolate_encodings(m, *pairs(2), seed=1),
    "not finite|less guidance": lambda m: drawing.encode(
        DDPM(Overflowing(SCHEDULE), schedule=SCHEDULE, ema=None), pairs()
    ),
    "seed|no noise": lambda m: drawing.interpolate_noise(m, 0, 1, seed=5, sampler=DDIM),
    "start|no noise": lambda m: drawing.interpolate_noise(m, 0, 1, start=5, sampler=DDIM),
    "output|leave it out": lambda m: drawing.encode(m, pairs(), output="float"),
    "frames|at least 1": lambda m: drawing.denoise_progressively(m, 1, 0),
    "labels|num_classes": lambda m: drawing.image_to_image(m, pairs(), labels=1),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_drawn_is_refused(words, model):
    assert_refused(lambda: WRONG[words](model), words.split("|"))
