"""Options, presets and errors of the command line; nothing here may load TensorFlow."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusals import assert_refused

from ddpm_keras.app import consistency
from ddpm_keras.app.options import (
    SampleOptions,
    TrainOptions,
    evaluate_options,
    report_options,
    run_name,
    sample_options,
    stored_options,
    train_options,
)
from ddpm_keras.app.resuming import resumed_options
from ddpm_keras.errors import UsageError

ROOT = Path(__file__).parents[1]
SCRIPTS = ["train.py", "sample.py", "evaluate.py"]


def test_defaults_are_the_digits():
    options, given = train_options([])
    assert (options.dataset, options.preset, given) == ("digits", "digits", {})


def test_a_dataset_brings_its_preset_and_given_options_win():
    options, given = train_options(["--dataset", "cifar10", "--steps", "10"])
    assert (options.preset, options.base_channels, options.steps) == ("cifar10", 128, 10)
    assert given == {"dataset": "cifar10", "steps": 10}
    assert train_options(["--dataset", "mnist5k"])[0].preset == "mnist"
    assert train_options(["--dataset", "some/folder"])[0].preset == "images"


def test_cifar10_preset_is_the_paper():
    options, _ = train_options(["--preset", "cifar10"])
    paper = {
        "dataset": "cifar10",
        "base_channels": 128,
        "channel_multipliers": (1, 2, 2, 2),
        "num_res_blocks": 2,
        "attention_resolutions": (16,),
        "dropout": 0.1,
        "schedule": "linear",
        "timesteps": 1000,
        "prediction": "epsilon",
        "weighting": "simple",
        "flip": True,
        "ema": (0.9999,),
        "ema_schedule": ("constant",),
        "batch_size": 128,
        "learning_rate": 2e-4,
        "warmup_steps": 5000,
        "clip_norm": 1.0,
        "steps": 800_000,
        "num_images": 50_000,
        "sampler": "ddpm",
        "sampling_steps": 1000,
    }
    values = dataclasses.asdict(options)
    assert {key: values[key] for key in paper} == paper


def test_several_decays():
    options, _ = train_options(["--ema", "0.99", "0.999", "0.9999"])
    assert options.ema == (0.99, 0.999, 0.9999)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--emma", "0.9"], ("--emma", "did you mean --ema")),
        (["--lr=1e-3"], ("--lr=1e-3", "did you mean --learning-rate?")),
        (["--ema_decay", "0.9"], ("--ema_decay", "did you mean --ema?")),
        (["--output", "runs"], ("--output", "did you mean --run-dir?")),
        (["--ema", "1.0"], ("--ema", "below 1", "1.0")),
        (["--ema", "nan"], ("--ema", "nan")),
        (["--ema", "x"], ("--ema", "'x'")),
        (["--ema"], ("--ema", "at least one")),
        (["--steps", "0"], ("--steps", "at least 1")),
        (["--steps", "1.5"], ("--steps", "1.5")),
        (["--learning-rate", "inf"], ("--learning-rate", "inf")),
        (["--schedule", "square"], ("--schedule", "square", "cosine")),
        (["--preset", "imagenet"], ("--preset", "imagenet", "cifar10")),
        (["stray"], ("stray", "--help")),
    ],
)
def test_wrong_options_are_one_line_that_names_the_cure(argv, words):
    assert_refused(lambda: train_options(argv), words, UsageError)


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_option_exits_with_2_in_one_line(script, tmp_path):
    result = subprocess.run(
        [sys.executable, str(ROOT / script), "--nonsense"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and "--nonsense" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_not_load_tensorflow(script):
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code\n"
        "assert code in (0, None), code\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    start = time.perf_counter()
    help_text = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / script)], check=True, capture_output=True, text=True
    ).stdout
    assert time.perf_counter() - start < 1.5
    assert "--seed" in help_text


def test_resuming_keeps_the_options_of_the_run():
    stored = dataclasses.asdict(train_options(["--steps", "10", "--seed", "3"])[0])
    resumed = resumed_options(stored, {"steps": 20, "resume": True})
    assert (resumed.steps, resumed.seed, resumed.resume) == (20, 3, True)
    with pytest.raises(UsageError, match="--seed was 3"):
        resumed_options(stored, {"seed": 4})


def test_a_curve_of_other_images_is_said_to_be_one(capsys):
    stored = dataclasses.asdict(train_options([])[0])
    resumed_options(stored, {"resume": True, "validation_images": 128})
    assert not capsys.readouterr().out
    assert resumed_options(stored, {"validation_images": 64}).validation_images == 64
    assert "of 64 images from here on, and were of 128" in capsys.readouterr().out


def test_a_run_from_before_there_were_groups_has_32():
    stored = dataclasses.asdict(train_options([])[0])
    assert stored_options(stored).groups == stored.pop("groups") == 0
    assert stored_options(stored).groups == 32
    assert resumed_options(stored, {"groups": 32, "resume": True}).groups == 32
    with pytest.raises(UsageError, match="--groups was 32"):
        resumed_options(stored, {"groups": 8})


@pytest.mark.parametrize(
    ("dataset", "name"), [("cifar10", "cifar10"), ("/data/my cats/", "my-cats"), ("a/b", "b")]
)
def test_names_of_runs(dataset, name):
    assert run_name(dataset) == name


def test_links_in_a_circle_are_where_they_are(tmp_path):
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert run_name(circle) == "circle"
    options, _ = train_options(["--dataset", str(tmp_path)])
    words = ["--run-dir", "circle lies in --dataset"]
    assert_refused(lambda: consistency.check_apart(options, circle), words, UsageError)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["name run directories", "--images with --against"]),
        (["--images", "a"], ["--images and --against go together"]),
        (["--against", "a"], ["--images and --against go together"]),
        (["--images", "a/b", "--against", "a"], ["one in the other", "name two apart"]),
        (["--images", "a", "--against", "./a/c/../b"], ["one in the other"]),
        (["run", "--images", "a", "--against", "b"], ["name run directories"]),
    ],
)
def test_evaluate_needs_runs_or_two_folders(argv, words):
    assert_refused(lambda: evaluate_options(argv), words, UsageError)


@pytest.mark.parametrize(
    ("check", "argv", "words"),
    [
        (sample_options, ["run", "--out", ""], "--out is empty"),
        (evaluate_options, ["run", "--num-images", "1"], "--num-images must be at least 2"),
        (evaluate_options, ["run", "--bogus"], "unknown argument --bogus; see"),
        (evaluate_options, ["run", "--sampler", "x"], r"choose from '?ddpm"),
    ],
)
def test_wrong_values_are_refused_with_the_cure(check, argv, words):
    with pytest.raises(UsageError, match=words):
        check(argv)


@pytest.mark.parametrize(("argv", "size"), [([], 0), (["--image-size", "28"], 28)])
def test_the_preset_goes_by_the_data_set_and_the_size_of_its_images(argv, size, monkeypatch):
    asked = {("somewhere", size): "mnist"}
    monkeypatch.setattr("ddpm_keras.app.options.preset_of", lambda *given: asked[given])
    assert train_options(["--dataset", "somewhere", *argv])[0].preset == "mnist"


HELP = {
    train_options: "usage: train.py [options] Train DDPM and its averages; see README.md. ",
    sample_options: "usage: sample.py [options] Draw images from a model. ",
    evaluate_options: "usage: evaluate.py [options] Measure every weight set of runs. ",
    report_options: "usage: report.py [options] Write the reports of runs again. ",
}


@pytest.mark.parametrize("options", HELP)
def test_help_says_what_a_command_does(options, capsys):
    with pytest.raises(SystemExit) as stop:
        options(["--help"])
    assert stop.value.code == 0
    assert " ".join(capsys.readouterr().out.split()).startswith(HELP[options])


@pytest.mark.parametrize(
    ("argv", "steps"),
    [
        ([], 50),
        (["--timesteps", "30"], 30),
        (["--timesteps", "30", "--sampling-steps", "10"], 10),
        (["--timesteps", "30", "--sampler", "dpm"], 30),
    ],
)
def test_sampling_steps_that_are_not_given_are_those_there_are(argv, steps):
    assert train_options(argv)[0].sampling_steps == steps


def test_options_that_contradict_each_other_are_refused_in_a_new_run_alone():
    argv = ["--timesteps", "30", "--sampling-steps", "40"]
    assert_refused(lambda: train_options(argv), ["--sampling-steps", "40", "30"], UsageError)
    assert train_options([*argv, "--resume"])[0].sampling_steps == 40


def test_names_of_runs_are_short_and_never_empty():
    assert run_name("/data/" + "n" * 150) == "n" * 100
    assert run_name("/") == "run"


def test_a_report_is_of_runs():
    assert report_options(["runs/a", "runs/b"]).runs == ("runs/a", "runs/b")
    assert_refused(lambda: report_options([]), ["name run directories to report on"], UsageError)


def test_older_names_of_options_are_taken_and_not_shown():
    for argv in ("--log-every 7 --quality-every 0", "--log-every-steps 7 --quality-every-epochs 0"):
        options, given = train_options(argv.split())
        assert (options.log_every_steps, options.quality_every_epochs) == (7, 0)
        assert set(given) == {"log_every_steps", "quality_every_epochs"}
    assert stored_options({"log_every": 7}).log_every_steps == 7
    assert_refused(
        lambda: train_options("--log-every 7 --log-every-steps 7".split()), ["twice"], UsageError
    )


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 0),
        ({"lr_schedule": "cosine", "steps": 10, "warmup_steps": 3}, 7),
        ({"lr_schedule": "linear", "steps": 10, "warmup_steps": 0}, 10),
        ({"lr_schedule": "wsd", "steps": 10, "lr_decay_share": 0.28, "warmup_steps": 3}, 3),
        ({"lr_schedule": "wsd", "steps": 3, "lr_decay_share": 0.1}, 1),
    ],
)
def test_the_steps_in_which_the_learning_rate_falls(changes, steps):
    assert TrainOptions(**changes).decay_steps == steps


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ("run", "ema"),
        ("run --weights raw", "raw"),
        ("run --weights raw --step 5", "raw@5"),
        ("run --sigma-rel 0.1", "posthoc_sigma_0.1"),
        ("run --decay 0.90", "posthoc_ema_0.9"),
        ("run --decay 0.9 --step 7", "posthoc_ema_0.9@7"),
    ],
)
def test_what_is_drawn_with_has_one_name(argv, name):
    assert sample_options(argv.split()).weight_set == name


def test_averages_to_synthesise_are_named_widths_first():
    argv = "run --decay 0.9 0.99 --sigma-rel 0.1 0.2"
    made = ("posthoc_sigma_0.1", "posthoc_sigma_0.2", "posthoc_ema_0.9", "posthoc_ema_0.99")
    assert evaluate_options(argv.split()).synthesised == made
    assert evaluate_options(["run"]).synthesised == ()


def test_ends_are_seeds_where_both_are_numbers():
    for ends, seeds in (("1 2", True), ("1 b.png", False), ("a.png b.png", False)):
        assert SampleOptions(interpolate=tuple(ends.split())).interpolates_seeds == seeds


@pytest.mark.parametrize("argv", ["", "run --pretrained digits", "run --from-diffusers x"])
def test_images_are_drawn_from_one_source(argv):
    assert_refused(lambda: sample_options(argv.split()), ["one source", "digits"], UsageError)


def test_classes_are_at_most_as_many_as_images():
    assert sample_options("run --labels 1 2 --num 2".split()).labels == (1, 2)
    words = ["--labels names 3 classes for 2 images", "--num"]
    argv = "run --labels 1 2 3 --num 2"
    assert_refused(lambda: sample_options(argv.split()), words, UsageError)


def test_rules_stand_in_place_of_all_other_averages():
    options, _ = train_options(["--ema-rules", "power:0.05 lawa:5:400", "step"])
    assert options.ema_rules == ("power:0.05", "lawa:5:400", "step")
    assert (options.ema, options.ema_schedule) == ((), ())


def test_a_cache_is_found_again_from_any_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    for given, kept in (("there", str(tmp_path / "there")), ("~/c", "/home/somebody/c")):
        assert train_options(["--data-cache", given])[0].data_cache == kept
    assert train_options([])[0].data_cache == ""


def test_a_preset_of_folders_names_no_data_set():
    assert train_options(["--preset", "images"])[0].dataset == "digits"
    assert train_options(["--preset", "cifar10", "--dataset", "x"])[0].dataset == "x"


def test_a_file_is_no_cure_for_a_run_that_keeps_its_own(tmp_path):
    argv = ["--config", str(tmp_path / "none.yaml"), "--resume"]
    assert_refused(lambda: train_options(argv), ["--config", "--resume", "leave it"], UsageError)
