"""Samplers and schedules that the commands name with arguments: what is read, what is refused."""

import inspect
import itertools
import json
import subprocess
import sys

import pytest
from refusals import assert_refused, call_command

from ddpm_keras import choices, noise, samplers
from ddpm_keras.app import named
from ddpm_keras.app.options import (
    TrainOptions,
    evaluate_options,
    sample_options,
    stored_options,
    train_options,
)
from ddpm_keras.app.signatures import check, signature
from ddpm_keras.errors import UsageError

SCHEDULE = noise.linear(20)
READ = {
    "ddim": samplers.DDIM(10),
    "ddim:eta=0.5": samplers.DDIM(10, eta=0.5),
    "ddim:clip=False:recompute_epsilon=True": samplers.DDIM(10, clip=False),
    "ddim:clip=dynamic:spacing=linspace": samplers.DDIM(10, clip="dynamic", spacing="linspace"),
    "ddim:recompute_epsilon=false": samplers.DDIM(10, recompute_epsilon=False),
    "ddpm:variance=fixed_small": samplers.DDPM("fixed_small", 10),
    "dpm:order=3:eta=1": samplers.DPMSolver(10, 3, eta=1.0),
    "dpm_3m:eta=0.5": samplers.DPMSolver(10, 3, eta=0.5),
    "dpm_sde:order=1": samplers.DPMSolver(10, 1, eta=1.0),
    "unipc:variant=bh1": samplers.UniPC(10, variant="bh1"),
    "heun:churn=4:spacing=trailing": samplers.Heun(10, 4.0, "trailing"),
}


@pytest.mark.parametrize("text", READ)
def test_samplers_are_read_with_their_arguments(text):
    options = (
        train_options(["--sampler", text])[0],
        sample_options(["run", "--sampler", text]),
        evaluate_options(["run", "--sampler", text]),
    )
    for each in options:
        assert named.sampler(each.sampler, SCHEDULE, steps=10) == READ[text]


def test_a_schedule_of_zero_terminal_snr_is_named():
    options, _ = train_options(["--schedule", "cosine:zero_terminal_snr=true", "--timesteps", "9"])
    schedule = named.schedule(options)
    assert (schedule.timesteps, schedule.zero_terminal_snr) == (9, True)
    assert not named.schedule(TrainOptions()).zero_terminal_snr


def test_signatures_told_by_the_source_are_those_of_what_is_imported():
    for kinds in (choices.SAMPLERS, choices.SCHEDULES, choices.EMA_RULES):
        for name in kinds:
            told = signature(kinds, name).parameters
            real = inspect.signature(kinds.find(name)).parameters
            assert list(told) == list(real)
            for argument, one in real.items():
                default = told[argument].default
                if one.default is not one.empty:
                    default = eval(default.text)
                assert default == one.default


# Option, its text | words of the refusal. All of it is said without TensorFlow.
WRONG = [
    ("--sampler", "euler", "--sampler is 'euler'|ddim"),
    ("--sampler", "dpm:recompute_epsilon=true", "'recompute_epsilon'|dpm takes steps=20, order=2"),
    ("--sampler", "unipc:eta=1", "unipc:eta=1|'eta'|variant"),
    ("--sampler", "ddim:steps=5", "--sampling-steps gives steps"),
    ("--sampler", "ddim:5", "5 has no name|ddim:ARGUMENT=VALUE"),
    ("--sampler", "ddim:eta=", "a value is empty"),
    ("--sampler", "ddim:eta=1:eta=0", "eta is given twice"),
    ("--schedule", "linear:timesteps=5", "--timesteps gives timesteps"),
    ("--schedule", "linear:zero=true", "'zero'|zero_terminal_snr=False"),
    ("--ema-rules", "lawa:5", "'every_steps'|lawa takes k, every_steps"),
    ("--ema-rules", "step:5", "too many|step takes nothing"),
    # values, by the checks that are made of them alone where they are used
    ("--sampler", "ddim:eta=2", "--sampler ddim:eta=2|eta is 2|from 0|ddim takes"),
    ("--sampler", "ddim:spacing=even", "'even'|trailing"),
    ("--sampler", "ddim:clip=maybe", "clip|'maybe'"),
    ("--sampler", "ddim:recompute_epsilon=1", "recompute_epsilon|True or False"),
    ("--sampler", "ddpm:variance=large", "'large'|fixed_small"),
    ("--sampler", "dpm:order=4", "order is 4"),
    ("--sampler", "dpm_3m:eta=-1", "eta is -1"),
    ("--sampler", "unipc:variant=bh3", "'bh3'|bh1, bh2"),
    ("--sampler", "heun:spacing=even", "'even'|karras, trailing"),
    ("--sampler", "heun:churn=-1", "churn is -1"),
    ("--schedule", "linear:zero_terminal_snr=1", "zero_terminal_snr|True or False"),
    ("--ema-rules", "constant:1", "beta must be|below 1|constant takes beta"),
    ("--ema-rules", "warmup:99.9", "beta must be|below 1"),
    ("--ema-rules", "power_warmup:0.9:0", "inv_gamma must be positive"),
    ("--ema-rules", "power_warmup:0.9:power=0", "power must be positive"),
    ("--ema-rules", "ramp:0:1:100", "end must be|below 1"),
    ("--ema-rules", "ramp:0:0.9:0", "steps must be|at least 1"),
    ("--ema-rules", "power:0.3", "sigma_rel must be|0.2887"),
    ("--ema-rules", "halflife:0", "images must be positive"),
    ("--ema-rules", "halflife:500k:rampup_ratio=0", "rampup_ratio must be positive"),
    ("--ema-rules", "swa:-1", "start must be|at least 0"),
    ("--ema-rules", "swa:5:0.5", "every_steps must be|at least 1"),
    ("--ema-rules", "lawa:0:5", "k must be|at least 1"),
    ("--ema-rules", "wsm:1.5", "share must be|at most 1"),
    ("--ema-rules", "wsm:0.5:decay=wsd", "Unknown decay|linear, cosine, sqrt"),
]


@pytest.mark.parametrize(("option", "text", "words"), WRONG, ids=[text for _, text, _ in WRONG])
def test_wrong_calls_are_refused(option, text, words):
    assert_refused(lambda: train_options([option, text]), words.split("|"), UsageError)


def test_they_are_refused_before_tensorflow_is_loaded():
    code = """
import json, os, sys
os.environ["DDPM_KERAS_LAZY"] = "1"
from ddpm_keras.app.options import train_options
from ddpm_keras.errors import UsageError
for argv in json.loads(sys.argv[1]):
    try:
        train_options(argv)
    except UsageError:
        continue
    raise SystemExit(f"{argv} was taken")
raise SystemExit("tensorflow" in sys.modules or "keras" in sys.modules)
"""
    wrong = json.dumps([[option, text] for option, text, _ in WRONG])
    assert not subprocess.run([sys.executable, "-c", code, wrong]).returncode


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ddim:eta=2", ["--sampler ddim:eta=2", "eta is 2", "from 0", "ddim takes"]),
        ("ddim:spacing=leading", ["steps=11", "leading_unchecked"]),
    ],
)
def test_wrong_values_are_refused_when_it_is_made(text, words):
    assert_refused(lambda: named.sampler(text, SCHEDULE, steps=11), words, UsageError)


def test_every_value_that_is_refused_when_it_is_made_is_refused_before():
    """Of each argument with a check, values of every kind: both say the same."""
    tried = (-1, 0, 0.5, 1, 2.5, 7, 99, True, False, "maybe", "trailing")
    for among in (choices.SAMPLERS, choices.EMA_RULES):
        for name in among.built_in:
            make, usual = among.find(name), USUAL.get(name, {})
            for argument, value in itertools.product(inspect.signature(make).parameters, tried):
                late = error_of(make, **usual | {argument: value})
                early = error_of(check, among, name, {argument: value})
                assert early == late, (name, argument, value)


# Arguments without which there is none; ramps that rise are left out, which two arguments make.
USUAL = {
    "constant": {"beta": 0.5},
    "warmup": {"beta": 0.5},
    "power_warmup": {"beta": 0.5},
    "ramp": {"start": 0.0, "end": 0.99, "steps": 5},
    "power": {"sigma_rel": 0.1},
    "halflife": {"images": 500, "batch_size": 5},
    "swa": {"start": 5},
    "lawa": {"k": 2, "every_steps": 3},
    "wsm": {"share": 0.5, "steps": 10},
}


def error_of(function, *args, **kwargs):
    """What a call refuses, or None."""
    try:
        function(*args, **kwargs)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("wrong", ["ddim:eta=2", "dpm:order=4", "ddim:spacing=leading"])
def test_a_training_is_not_begun_with_a_sampler_that_cannot_be_made(
    wrong, tmp_path, monkeypatch, capfd
):
    line = f"train.py --run-dir run --no-evaluate --sampling-steps 11 --sampler {wrong}"
    script, *arguments = line.split()
    outcome = call_command(
        script, *arguments, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    assert outcome.status == 2 and f"--sampler {wrong}" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_stored_sampler_is_checked_as_a_command_line_is():
    assert stored_options({"sampler": "ddim:eta=0.5"}).sampler == "ddim:eta=0.5"
    assert_refused(lambda: stored_options({"sampler": "ddim:etha=1"}), ["'etha'"], UsageError)


def test_a_schedule_that_is_made_already_takes_no_arguments():
    words = ["zero_terminal_snr cannot change"]
    assert_refused(lambda: noise.get(SCHEDULE, zero_terminal_snr=True), words)
