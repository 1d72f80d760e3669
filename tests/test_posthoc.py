"""Synthesised averages against averages that were tracked, in arithmetic and in real training."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras import DDPM, EMA, UNet, posthoc
from ddpm_keras.callbacks import PowerFunctionSnapshots
from ddpm_keras.ema import SWA, ConstantDecay, PowerFunctionDecay, StepDecay, WarmupDecay
from ddpm_keras.ema.decays import as_decay
from ddpm_keras.ema.power_function import power_function_gamma
from ddpm_keras.ema.snapshots import write_snapshot


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.9722), (0.10, 6.9372), (0.25, 0.7198)])
def test_gamma_of_published_widths(sigma_rel, gamma):
    assert power_function_gamma(sigma_rel) == pytest.approx(gamma, abs=5e-5)
    width = np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
    assert width == pytest.approx(sigma_rel, rel=1e-5)


@pytest.mark.parametrize("sigma_rel", [0.0, 0.2887, -1.0])
def test_widths_outside_the_range_are_refused(sigma_rel):
    with pytest.raises(ValueError, match="0.2887"):
        power_function_gamma(sigma_rel)


def shares_by_recursion(decay, steps):
    """Share of each step in the average, made one update at a time."""
    shares = np.zeros(steps + 1)
    shares[0] = 1.0
    for n in range(steps):
        beta = float(decay(n))
        shares *= beta
        shares[n + 1] = 1 - beta
    return shares


@pytest.mark.parametrize(
    "decay",
    [ConstantDecay(0.97), WarmupDecay(0.97), StepDecay(), PowerFunctionDecay(0.1)],
    ids=repr,
)
def test_profiles_are_those_of_the_recursion(decay):
    edges = np.arange(201.0)
    shares = shares_by_recursion(decay, 200)
    later = 1.0 - np.cumsum(shares)
    np.testing.assert_allclose(posthoc.decay_share(edges, 200, decay), later, atol=1e-12)
    if isinstance(decay, PowerFunctionDecay):
        np.testing.assert_allclose(posthoc.power_share(edges, 200, decay.gamma), later, atol=1e-12)


def published_coefficients(steps, gammas, step, gamma):
    """The solution of Karras et al. 2024: least squares of the profiles, closed-form products."""

    def products(ta, ga, tb, gb):
        exponent = np.where(ta < tb, gb, -ga)
        ratio = (ta / tb) ** exponent
        return (ga + 1) * (gb + 1) * ratio / ((ga + gb + 1) * np.maximum(ta, tb))

    t, g = np.asarray(steps, float), np.asarray(gammas)
    system = products(t[:, None], g[:, None], t[None], g[None])
    x = np.linalg.solve(system, products(t, g, float(step), gamma))
    return x / x.sum()


def stored(count, steps=2000):
    times = [round(steps * (i + 1) / count) for i in range(count)]
    gammas = [power_function_gamma(s) for s in (0.05, 0.10)]
    return [t for t in times for _ in gammas], gammas * count


def relative_error(coefficients, steps, gammas, target, walk):
    edges = np.arange(len(walk) + 1.0)
    shares = np.stack(
        [posthoc.power_share(edges, t, g) for t, g in zip(steps, gammas, strict=True)]
    )
    residual = -np.diff(coefficients @ shares - target)  # what each step counts too much
    return np.linalg.norm(residual @ walk) / np.linalg.norm(walk[-1])


@pytest.mark.parametrize("sigma_rel", [0.04, 0.07, 0.15, 0.2])
def test_fit_beats_the_published_one_on_random_walks_and_knows_its_error(sigma_rel):
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2000, 2000)), 0)
    steps, gammas = stored(8)
    gamma = power_function_gamma(sigma_rel)
    edges = np.arange(2001.0)
    target = posthoc.power_share(edges, 2000, gamma)
    coefficients, predicted = posthoc.fit(steps, gammas, target, edges)
    error = relative_error(coefficients, steps, gammas, target, walk)
    published = published_coefficients(steps, gammas, 2000, gamma)
    assert coefficients.sum() == pytest.approx(1.0)
    assert error == pytest.approx(predicted, rel=0.1)
    assert error < relative_error(published, steps, gammas, target, walk)
    assert error < 0.005


def test_rounding_is_not_amplified():
    """Two snapshots close together: their difference gives any short average, but for noise."""
    steps, gammas = [*stored(16)[0], 2004, 2004], [*stored(16)[1], *stored(16)[1][:2]]
    edges = np.arange(2005.0)
    target = posthoc.decay_share(edges, 2004, ConstantDecay(0.9))
    exact, exact_error = posthoc.fit(steps, gammas, target, edges)
    careful, error = posthoc.fit(steps, gammas, target, edges, rounding=1e-3)
    assert np.linalg.norm(careful) < np.linalg.norm(exact) / 100
    assert error < np.hypot(exact_error, 1e-3 * np.linalg.norm(exact)) / 100


def test_a_stored_width_is_given_back():
    steps, gammas = stored(8)
    edges = np.arange(2001.0)
    target = posthoc.power_share(edges, 2000, gammas[1])
    coefficients, error = posthoc.fit(steps, gammas, target, edges)
    np.testing.assert_allclose(coefficients, [0.0] * 15 + [1.0], atol=1e-9)
    assert error < 1e-9


def test_long_runs_need_no_longer_arrays():
    steps, gammas = stored(16, 800_000)
    weights = [posthoc._target(0.07, None, 800_000)[1:], posthoc._target(0.07, None, 2000)[1:]]
    (long, long_edges), (short, short_edges) = weights
    assert len(long_edges) == posthoc.MAX_POINTS + 1
    a, error = posthoc.fit(steps, gammas, long, long_edges)
    b, _ = posthoc.fit(*stored(16), short, short_edges)
    np.testing.assert_allclose(a, b, atol=2e-3)  # the same problem in other units
    assert error < 1e-4


# Training, snapshots on disk.

TARGETS = {
    "s0.04": PowerFunctionDecay(0.04),
    "s0.08": PowerFunctionDecay(0.08),
    "s0.14": PowerFunctionDecay(0.14),
    "s0.2": PowerFunctionDecay(0.2),
    "0.99": ConstantDecay(0.99),
    "0.999": ConstantDecay(0.999),
    "0.9999": ConstantDecay(0.9999),
    "warmup": WarmupDecay(0.999),
}


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A small diffusion model trained on the digits for 2,000 steps, every target tracked too."""
    from ddpm_keras import data

    keras.utils.set_random_seed(0)
    images = data.load("digits").train[:1280]
    directory = tmp_path_factory.mktemp("run")
    network = UNet((8, 8, 1), 32, (1,), num_res_blocks=1, attention_resolutions=(), dropout=0.0)
    model = DDPM(network, ema=EMA(TARGETS, snapshot_widths=(0.05, 0.10)))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    start = [np.asarray(w) for w in network.weights]
    callbacks = [
        PowerFunctionSnapshots(
            directory / f"{count}{dtype}", every_steps=2000 // count, dtype=dtype
        )
        for count, dtype in ((16, "float32"), (32, "float32"), (16, "float16"))
    ]
    model.fit(images, batch_size=8, epochs=13, steps_per_epoch=160, verbose=0, callbacks=callbacks)
    return model, start, directory


def distance(values, others):
    pairs = zip(values, others, strict=True)
    return np.sqrt(sum(np.sum(np.square(np.asarray(a) - np.asarray(b))) for a, b in pairs))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_synthesised_averages_of_real_training_are_the_tracked_ones(digits_run, name):
    model, start, directory = digits_run
    displacement = distance(model.weight_values("raw"), start)
    for count, dtype in ((16, "float32"), (32, "float32"), (16, "float16")):
        made = posthoc.synthesize(directory / f"{count}{dtype}", decay=TARGETS[name])
        error = distance(made.values, model.weight_values(f"ema_{name}")) / displacement
        limit = 0.005 if name.startswith("s") else 0.02 if count == 16 else 0.01
        assert error < limit, (count, dtype, error)
        assert error < 3 * made.predicted_error + 1e-6
        assert made.step == model.ema.num_updates == 2080


@pytest.mark.slow
def test_sixteen_files_of_two_widths_are_few(digits_run):
    """Half as many snapshots as above: 8 times, 16 averages in all."""
    model, start, directory = digits_run
    snapshots = posthoc.list_snapshots(directory / "16float32")
    few = [snapshots[0], *snapshots[2:-1:2], snapshots[-1]]
    displacement = distance(model.weight_values("raw"), start)
    for name in ("s0.04", "s0.2", "0.99", "0.999", "0.9999"):
        made = posthoc.synthesize(few, decay=TARGETS[name])
        error = distance(made.values, model.weight_values(f"ema_{name}")) / displacement
        assert error < (0.005 if name.startswith("s") else 0.02)


@pytest.mark.slow
def test_a_synthesised_weight_set_serves_like_any_other(digits_run):
    model, _, directory = digits_run
    made = posthoc.synthesize(directory / "32float32", sigma_rel=0.14)
    assert made.name == "posthoc_sigma_0.14" and made.warnings == []
    images = np.zeros((4, 8, 8, 1), np.uint8)
    loss = model.validation_loss(images, weights=made)
    assert loss == pytest.approx(model.validation_loss(images, weights="ema_s0.14"), rel=1e-3)
    network = model.export_network(made)
    np.testing.assert_array_equal(network.weights[0], made.values[0])


# The same from a random walk, which takes a second.

WALK = {"s0.08": PowerFunctionDecay(0.08), "s0.2": PowerFunctionDecay(0.2), "0.99": 0.99}


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """(averages, start, directory): 330 steps, a snapshot every 20 and at the end."""
    random = np.random.default_rng(0)
    weights = [keras.Variable(random.normal(size=shape)) for shape in ((50,), (8, 5))]
    counter = keras.Variable(0, dtype="int32", trainable=False)
    weights.insert(1, counter)
    start = [np.asarray(w) for w in weights]
    ema = EMA(WALK | {"short": 0.9, "long": 0.999}, snapshot_widths=(0.05, 0.10))
    ema.build(weights)

    @tf.function
    def move(first, last):
        weights[0].assign_add(first)
        counter.assign_add(1)
        weights[2].assign_add(last)
        ema.update(weights)

    directory = tmp_path_factory.mktemp("walk")
    for step in range(331):
        if step % 20 == 0 or step == 330:
            for dtype in ("float32", "float16"):
                written = write_snapshot(directory / dtype, ema, dtype)
                assert (written.step, written.dtype) == (step, dtype)
        if step < 330:
            move(*(tf.constant(random.normal(size=s), tf.float32) for s in ((50,), (8, 5))))
    return ema, start, directory


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", WALK)
def test_synthesised_averages_of_a_walk_are_the_tracked_ones(walk, name, dtype):
    ema, start, directory = walk
    made = posthoc.synthesize(directory / dtype, decay=WALK[name])
    displacement = distance(ema.sources[::2], start[::2])
    error = distance(made.values[::2], ema.variables(name)[::2]) / displacement
    assert error < 0.01 and error < 2 * made.predicted_error
    assert made.predicted_error < (0.005 if dtype == "float32" else 0.01)
    assert made.name == f"posthoc_ema_{as_decay(WALK[name]).name}" and made.step == 330
    assert [np.shape(value) for value in made.values] == [(50,), (), (8, 5)]
    assert made.values[1] == 330 and made.values[0].dtype == made.values[2].dtype == np.float32
    assert made.warnings == []


def test_a_width_is_asked_for_by_name_or_as_a_decay(walk):
    by_width = posthoc.synthesize(walk[2] / "float32", sigma_rel=0.08)
    by_decay = posthoc.synthesize(walk[2] / "float32", decay=WALK["s0.08"])
    assert by_width.name == "posthoc_sigma_0.08"
    np.testing.assert_allclose(by_width.values[0], by_decay.values[0], atol=1e-5)


def test_the_widths_that_snapshots_can_tell_are_those_without_doubt(walk):
    stored = posthoc.list_snapshots(walk[2] / "float32")
    low, high = posthoc.supported_widths(stored)
    assert low < 0.05 and high > 0.2
    for width, doubted in ((low, False), (high, False), (0.8 * low, True)):
        assert bool(posthoc.synthesize(stored, sigma_rel=width).warnings) == doubted
    assert posthoc.supported_widths(stored, step=20) != (low, high)
    with pytest.raises(ValueError, match="no snapshot up to step 10"):
        posthoc.supported_widths(stored, step=10)


def test_snapshots_record_what_they_hold(walk):
    stored = posthoc.list_snapshots(walk[2] / "float16")
    assert [s.step for s in stored] == [*range(0, 321, 20), 330]
    assert stored[0].widths == () and stored[-1].widths == (0.05, 0.1)
    assert {s.dtype for s in stored} == {"float16"}
    with np.load(stored[-1].path) as file:
        assert set(file.files) == {"record", "0_0", "0_2", "1_0", "1_2", "copy_1"}
        assert file["1_2"].dtype == np.float16 and file["copy_1"] == 330
    halves = os.path.getsize(stored[-1].path)
    assert halves < os.path.getsize(posthoc.list_snapshots(walk[2] / "float32")[-1].path)


def test_averages_need_not_begin_at_the_initial_weights(walk):
    """0.999 still holds 72% of the initial weights after 330 steps."""
    ema, start, directory = walk
    made = posthoc.synthesize(directory / "float32", decay=0.999)
    error = distance(made.values[::2], ema.variables("long")[::2])
    assert error < 0.005 * distance(ema.sources[::2], start[::2])
    stored = posthoc.list_snapshots(directory / "float32")
    with np.load(stored[-1].path) as file:
        nearer = np.linalg.norm(made.values[0] - start[0]) / np.linalg.norm(file["0_0"] - start[0])
    assert nearer < 0.5
    with pytest.raises(ValueError, match="71.9% of the initial weights.*shorter decay"):
        posthoc.synthesize(stored[1:], decay=0.999)
    without = posthoc.synthesize(stored[1:], sigma_rel=0.1)  # which holds none of them
    same = posthoc.synthesize(stored, sigma_rel=0.1)
    np.testing.assert_allclose(without.values[0], same.values[0], atol=1e-5)


def test_snapshots_may_come_in_any_order(walk):
    snapshots = posthoc.list_snapshots(walk[2] / "float32")
    one, other = (posthoc.synthesize(each, sigma_rel=0.1) for each in (snapshots, snapshots[::-1]))
    assert one.step == other.step == one.values[1] and not other.warnings
    for a, b in zip(one.values, other.values, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_the_raw_weights_is_said(walk):
    made = posthoc.synthesize(walk[2] / "float32", decay=SWA(1000), step=220.0)
    assert made.step == 220 and isinstance(made.step, int)
    assert made.relative_error == np.inf and len(made.warnings) == 1
    assert "a copy of the raw weights" in made.warnings[0] and "%" not in made.warnings[0]
    assert posthoc.supported_widths(walk[2] / "float32", step=220.0)[0] < 0.05


def test_an_earlier_step_uses_earlier_snapshots_only(walk):
    made = posthoc.synthesize(walk[2] / "float32", sigma_rel=0.05, step=200)
    with np.load(walk[2] / "float32" / "snapshot-00000200.npz") as file:
        np.testing.assert_allclose(made.values[0], file["0_0"], atol=1e-5)
    assert made.step == 200 and made.values[1] == 200
    assert made.name == "posthoc_sigma_0.05@200"  # not to be taken for that of the end
    assert posthoc.synthesize(walk[2] / "float32", sigma_rel=0.05, step=330).name == (
        "posthoc_sigma_0.05"
    )
    between = posthoc.synthesize(walk[2] / "float32", sigma_rel=0.05, step=219)
    assert between.values[1] == 200 and between.step == 219
    beyond = posthoc.synthesize(walk[2] / "float32", sigma_rel=0.05, step=3000)
    assert "last snapshot is of step 330" in beyond.warnings[0]
    assert "up to 3,000 are missing" in beyond.warnings[0]


def test_doubtful_requests_say_so(walk, caplog):
    snapshots = posthoc.list_snapshots(walk[2] / "float32")
    narrow = posthoc.synthesize(snapshots[:9], sigma_rel=0.01)
    assert any("outside what these snapshots support" in line for line in narrow.warnings)
    assert narrow.warnings[0] in caplog.text
    few = posthoc.synthesize(snapshots[:1] + snapshots[-1:], decay=0.99)
    assert few.relative_error > 0.02 and few.warnings


def test_a_short_average_is_doubted_by_its_distance_from_the_raw_weights(walk):
    """What is little beside the whole way can be most of what tells it from the raw weights."""
    ema, _, directory = walk
    stored = posthoc.list_snapshots(directory / "float32")
    made = posthoc.synthesize(stored[:-2] + stored[-1:], decay=0.9)  # 30 steps apart
    tracked = ema.variables("short")[::2]
    apart = distance(tracked, ema.sources[::2])
    error = distance(made.values[::2], tracked)
    assert made.relative_error == pytest.approx(error / apart, rel=0.3)
    assert made.predicted_error < 0.01 and made.relative_error > 0.03
    assert f"{made.relative_error:.1%} of its distance from the raw weights" in made.warnings[0]
    good = posthoc.synthesize(directory / "float32", sigma_rel=0.08)
    assert good.predicted_error < good.relative_error < 0.01 and not good.warnings
    assert posthoc.synthesize(directory / "float32", decay=0.0).relative_error == np.inf


@pytest.mark.parametrize("decay", [0.9, 0.99, WarmupDecay(0.95)])
def test_the_distance_from_the_raw_weights_is_that_of_random_walks(decay):
    random = np.random.default_rng(0)
    walk = np.cumsum(random.normal(size=(300, 4000)), 0)
    shares = shares_by_recursion(as_decay(decay), 300)[1:]
    apart = np.linalg.norm(shares @ walk - walk[-1]) / np.linalg.norm(walk[-1])
    _, target, edges = posthoc._target(None, decay, 300)
    assert posthoc.relative_error(1.0, target, edges) == pytest.approx(1 / apart, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either sigma_rel"),
        ({"sigma_rel": 0.1, "decay": 0.9}, "either sigma_rel"),
        ({"sigma_rel": 0.3}, "below 0.2887"),
        ({"decay": 1.0}, "below 1"),
        ({"sigma_rel": 0.1, "step": 10}, "no snapshot up to step 10 in"),
        ({"sigma_rel": 0.1, "step": 0.5}, "^step "),
    ],
)
def test_impossible_requests_are_refused(walk, arguments, message):
    with pytest.raises(ValueError, match=message):
        posthoc.synthesize(walk[2] / "float32", **arguments)


def test_directories_without_snapshots_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no directory"):
        posthoc.synthesize(tmp_path / "nothing", sigma_rel=0.1)
    with pytest.raises(ValueError, match="PowerFunctionSnapshots"):
        posthoc.synthesize(tmp_path, sigma_rel=0.1)
    (tmp_path / "snapshot-00000001.npz").write_bytes(b"not a snapshot")
    np.savez(tmp_path / "snapshot-00000002.npz", a=np.zeros(3))
    with (
        pytest.warns(UserWarning, match="snapshot-00000001.npz is damaged"),
        pytest.raises(ValueError, match="snapshot-00000002.npz is not a snapshot"),
    ):
        posthoc.list_snapshots(tmp_path)
