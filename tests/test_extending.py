"""What the README says of how to extend the package holds to the letter."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import registers
from refusals import TINY, assert_refused, command_status

from ddpm_keras import (
    DDPM,
    EMA,
    UNet,
    callbacks,
    choices,
    data,
    ema,
    interop,
    noise,
    quality,
    samplers,
)
from ddpm_keras.app import dataset, models, parser, presets, references, table, training
from ddpm_keras.app.options import evaluate_options, sample_options, train_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError
from ddpm_keras.report import tables, words

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## How to extend")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def added():
    """The names that the README's example defines; what it registers is forgotten afterwards."""
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    names = {}
    with registers.kept():
        exec(code, names)
        yield names


@pytest.fixture(scope="module")
def model(added):
    """A model with the schedule and the decay of the example, trained for two steps."""
    network = UNet((8, 8, 1), 8, (1,), 1, (), groups=2)
    model = DDPM(network, "quadratic", timesteps=40, ema=EMA(added["HarmonicDecay"](0.9)))
    model.compile(keras.optimizers.Adam(1e-3))
    images = np.random.RandomState(0).randint(0, 256, (8, 8, 8, 1)).astype(np.uint8)
    model.fit(images, batch_size=4, epochs=1, verbose=0)
    return model


def test_the_table_names_places_that_exist():
    for path in re.findall(r"`(ddpm_keras/[\w/.]*)`", SECTION):
        assert (Path(__file__).parents[1] / path).exists(), path
    for name in re.findall(r"`choices\.([A-Z_]+)`", SECTION):
        assert isinstance(getattr(choices, name), choices.Choices)


def test_a_sampler(model, added, tmp_path):
    drawn = model.sample(2, sampler="jump")
    np.testing.assert_array_equal(drawn, model.sample(2, sampler=added["Jump"](20)))
    ddim = samplers.get("ddim", steps=20, spacing="trailing")
    assert abs(drawn.astype(int) - model.sample(2, sampler=ddim)).max() <= 1
    assert samplers.get("jump", steps=3) != samplers.get("jump", steps=4)
    assert repr(samplers.get("jump", steps=3)) == "Jump(steps=3, clip=True)"
    assert_refused(lambda: samplers.get("jump", eta=1.0), ["'jump'", "'eta'", "steps, clip"])
    for options in (sample_options(["run", "--sampler", "jump"]), evaluate(["--sampler", "jump"])):
        assert options.sampler == "jump"


def test_a_decay(model, added, tmp_path):
    decay = added["HarmonicDecay"](0.9)
    n = np.arange(3)
    np.testing.assert_allclose(decay.rate(n), 0.1 + 0.9 / (n + 1.0))
    assert model.weight_sets == ("raw", "ema_harmonic_0.9")
    assert model.ema.beta("harmonic_0.9") == pytest.approx(1 - decay.rate(2))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.ema.decays == {"harmonic_0.9": decay}
    assert decay != added["HarmonicDecay"](0.8)
    options, _ = train_options("--ema-schedule harmonic step --ema 0.9 0.99".split())
    named, _ = train_options(["--ema-rules", "harmonic:0.9"])
    assert training.averages(named).decays == {"harmonic_0.9": decay}
    averages = training.averages(options)
    assert averages.decays == {
        "harmonic_0.9": decay,
        "harmonic_0.99": added["HarmonicDecay"](0.99),
        "step": ema.StepDecay(),
    }


def test_a_schedule(model, added, tmp_path):
    expected = np.linspace(0.01, 0.14, 40) ** 2
    np.testing.assert_array_equal(model.schedule.betas, expected)
    model.save(tmp_path / "model.keras")
    register = dict(choices.SCHEDULES)
    try:
        del choices.SCHEDULES["quadratic"]  # a saved model needs no registration
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    finally:
        choices.SCHEDULES.update(register)
    np.testing.assert_array_equal(loaded.schedule.betas, expected)
    assert train_options(["--schedule", "quadratic"])[0].schedule == "quadratic"


def test_an_extractor(model, added, digits):
    extractor = quality.get_extractor("pixels")
    assert extractor(digits.train[:3]).shape == (3, 64)
    assert extractor.metric == "Fréchet distance, pixels"
    real = extractor(digits.train[:100])
    by_name = quality.evaluate_images("pixels", digits.train[100:200], real)
    assert by_name == quality.evaluate_images(extractor, digits.train[100:200], real)
    assert references.choose_extractor(evaluate(["--extractor", "pixels"]).extractor, digits)


def test_a_metric(added, model, digits, tmp_path):
    """It is in the numbers, the record, the printed table, the report, and training's curves."""
    real, drawn = (quality.get_extractor("pixels")(digits.train[i : i + 40]) for i in (0, 40))
    numbers = quality.evaluate_features(real, drawn)
    assert numbers["means"] == pytest.approx(np.abs(real.mean(0) - drawn.mean(0)).sum())
    assert quality.evaluate_features(quality.FeatureStatistics.of(real), drawn)["means"] is None
    measured = quality.Measurement.of(**numbers, extractor="pixels")
    evaluation = quality.Evaluation({"raw": measured}, quality.Reference("digits"))
    evaluation.after(None).write(tmp_path / "evaluation.json")
    found = quality.Evaluations.read(tmp_path / "evaluation.json").current
    assert found == evaluation and found.weights["raw"].means == numbers["means"]
    wrong = numbers | {"means": -1.0, "extractor": "pixels"}
    assert_refused(lambda: quality.Measurement.of(**wrong), ["means is -1.0", "at least 0"])
    heading, row = table.rows(found).splitlines()[1:]
    assert heading.endswith("distance of means") and row.endswith(f"{numbers['means']:.2f}")
    known = SimpleNamespace(evaluation=found, evaluations=found.after(None))
    (quality_table,) = tables._of_evaluations(known)
    cells = dict(zip(quality_table["columns"], quality_table["rows"][0][1], strict=True))
    assert cells["distance of means"] == numbers["means"]
    said = ("distance of means", "Σ |μ₁ - μ₂|", "How far the means are apart.")
    assert said in words.definitions("Fréchet distance")
    monitor = callbacks.QualityMonitor("pixels", digits.train[:20], 4, metrics=["means"])
    monitor.set_model(model)
    monitor.set_params({"epochs": 1})
    monitor.on_train_begin()
    logs = {}
    monitor.on_epoch_end(0, logs)
    assert set(logs) == {"quality_raw", "quality_means_raw"} | {
        f"{what}_ema_harmonic_0.9" for what in ("quality", "quality_means")
    }


def test_two_metrics_that_give_one_number_are_refused(added, monkeypatch):
    again = quality.Metric(lambda sets: [1.0], {"kid": quality.Number("KID")})
    monkeypatch.setitem(choices.METRICS, "again", again)
    rows = np.zeros((4, 2))
    assert_refused(lambda: quality.evaluate_features(rows, rows), ["'kid'", "'again'", "name"])


def evaluate(argv):
    return evaluate_options(["run", *argv])


def test_a_network_and_a_source_of_images(added, digits, tmp_path):
    """A run of the command line on both, drawn from as any other."""
    images = data.load("stripes")
    assert images.image_shape == (8, 8, 1) and len(data.load("digits").train) == len(digits.train)
    words = ["--dataset", "stripes", "--network", "plain", "--base-channels", 4]
    tiny = [word for word in TINY if word not in ("--channel-multipliers", "1")]
    tiny.remove("--attention-resolutions")
    assert command_status("train.py", *tiny, *words, "--run-dir", "run", folder=tmp_path) == 0
    run = Run(tmp_path / "run")
    assert (run.options.network, run.options.base_channels) == ("plain", 4)
    model = models.load_model(run)
    assert [layer.filters for layer in model.network.layers if hasattr(layer, "filters")] == [4, 1]
    assert dataset.of_run(run, run.options).fingerprint == images.fingerprint
    assert model.sample(2, sampler="jump").shape == (2, 8, 8, 1)


def test_an_export_format(added, model, tmp_path):
    model.save(tmp_path / "model.keras")
    words = ["model.keras", "--export", "raw.npz", "--format", "npz", "--weights", "raw"]
    assert command_status("sample.py", *words, folder=tmp_path) == 0
    with np.load(tmp_path / "raw.npz") as arrays:
        for value, weight in zip(arrays.values(), model.network.weights, strict=True):
            np.testing.assert_array_equal(value, weight)
    assert_refused(
        lambda: sample_options([*words, "--seed", "1"]), ["--seed", "network"], UsageError
    )


def test_a_network_is_exported_for_diffusers(model, tmp_path):
    choices.FORMATS.find("diffusers").write(model, tmp_path / "unet", "ema")
    loaded = interop.load_diffusers(tmp_path / "unet")
    for value, weight in zip(loaded.weights, model.weight_values("ema"), strict=True):
        np.testing.assert_array_equal(value, weight)
    assert_refused(lambda: sample_options(["run", "--format", "keras"]), ["--format"], UsageError)


@pytest.mark.parametrize("words", [["--dropout", "0.1"], ["--conditional"]])
def test_what_a_network_does_not_take_is_refused(added, digits, words):
    options, given = train_options(["--network", "plain", *words])
    message = [words[0], "--network plain", "leave it out"]
    assert_refused(lambda: training.check(options, given, digits), message, UsageError)


@pytest.mark.parametrize("argument", [{"data_dir": "x"}, {"on_unreadable": "skip"}])
def test_what_a_source_does_not_take_is_refused(added, argument):
    assert_refused(lambda: data.load("stripes", **argument), [*argument, "stripes", "leave"])


def test_a_preset_and_an_option(monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "mine", {"dataset": "digits", "steps": 7})
    assert train_options(["--preset", "mine"])[0].steps == 7

    @dataclasses.dataclass(frozen=True)
    class Options:
        strength: float = parser.option(1.0, "of it, in kilos", at_least=0)

    assert parser.parse(Options, ["--strength", "2"], "own.py", "") == {"strength": 2.0}
    assert_refused(
        lambda: parser.parse(Options, ["--strength", "-1"], "own.py", ""),
        ["--strength"],
        UsageError,
    )


# Names work wherever the things do, and what is unknown is refused with all that can be chosen.


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_3m", "heun", "jump"])
def test_a_sampler_is_taken_by_name_everywhere(model, digits, tmp_path, name):
    """The schedule has 40 timesteps: by its name a sampler takes no more steps than it can."""
    assert model.sample(1, sampler=name).shape == (1, 8, 8, 1)
    grid = callbacks.SampleGrid(tmp_path, num_images=1, sampler=name)
    monitor = callbacks.QualityMonitor("pixels", digits.train[:20], 4, sampler=name, batch_size=4)
    for each in (grid, monitor):
        each.set_model(model)
        each.set_params({"epochs": 1})
        each.on_train_begin()
        each.on_epoch_end(0, {})
    assert (tmp_path / "epoch-0001.png").exists()


WRONG = [
    (lambda: samplers.get("ddmi"), choices.SAMPLERS),
    (lambda: samplers.get(["ddim"]), choices.SAMPLERS),
    (lambda: samplers.get(50), choices.SAMPLERS),
    (lambda: samplers.get(""), choices.SAMPLERS),
    (lambda: callbacks.SampleGrid("nowhere", sampler="ddmi"), choices.SAMPLERS),
    (lambda: callbacks.QualityMonitor("pixels", np.zeros((4, 64)), sampler="x"), choices.SAMPLERS),
    (lambda: noise.get("quadratc"), choices.SCHEDULES),
    (lambda: noise.get(None), choices.SCHEDULES),
    (lambda: ema.by_rules(("harmonc",), (0.9,), 10), choices.EMA_RULES),
    (lambda: quality.get_extractor("pixel"), choices.EXTRACTORS),
    (lambda: callbacks.QualityMonitor("pixel", np.zeros((4, 64))), choices.EXTRACTORS),
    (lambda: noise.check_prediction("eps"), choices.PREDICTIONS),
    (lambda: noise.loss_weights(noise.linear(4), "v", "snr", [0]), choices.WEIGHTINGS),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_unknown_names_are_refused_with_the_choices(added, number):
    call, names = WRONG[number]
    assert_refused(call, ["Unknown", *names])


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--sampler", choices.SAMPLERS),
        ("--schedule", choices.SCHEDULES),
        ("--network", choices.NETWORKS),
        ("--ema-schedule", choices.EMA_SCHEDULES),
        ("--prediction", choices.PREDICTIONS),
        ("--weighting", choices.WEIGHTINGS),
        ("--precision", choices.PRECISIONS),
        ("--strategy", choices.STRATEGIES),
    ],
)
def test_the_commands_refuse_them_too(added, option, names):
    assert_refused(lambda: train_options([option, "nonsense"]), [option, *names], UsageError)
    for name in names:
        assert train_options([option, name])


@pytest.mark.parametrize(
    "call",
    [
        lambda: samplers.get(samplers.DDIM(5), steps=4),
        lambda: samplers.get("ddim", noise.linear(10), steps=20),
        lambda: samplers.get(samplers.DDIM(20), noise.linear(10)),
        lambda: ema.by_rules(("warmup", "warmup"), (0.9,), 10),
        lambda: ema.by_rules(("warmup",), (0.9, 0.90), 10),
        lambda: quality.get_extractor("classifier"),
    ],
)
def test_what_cannot_be_meant_is_refused(call):
    assert_refused(call, [])


def test_an_argument_that_is_not_kept_is_refused():
    class Forgetful(samplers.Sampler):
        def __init__(self, steps=3):
            super().__init__(clip=True)

    assert_refused(lambda: hash(Forgetful()), ["Forgetful", "'steps'", "self.steps"])
