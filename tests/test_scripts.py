"""The three commands as subprocesses, on real digits with a small network."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import ddpm_keras  # noqa: F401 - registers the model

ROOT = Path(__file__).parents[1]
SMALL = "--channel-multipliers 1 --attention-resolutions --batch-size 16 --num-images 24".split()
SMALL += "--sampling-steps 3 --log-every-steps 2 --epoch-steps 4 --ema 0.5 0.9".split()
SMALL += ["--ema-schedule", "constant"]


def command(script, *arguments, cwd):
    return [sys.executable, str(ROOT / script), *map(str, arguments)], {
        "cwd": cwd,
        "env": os.environ | {"DDPM_KERAS_CACHE": str(cwd / "cache"), "CUDA_VISIBLE_DEVICES": ""},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


def run(script, *arguments, cwd, status=0):
    arguments, options = command(script, *arguments, cwd=cwd)
    result = subprocess.run(arguments, **options)
    assert result.returncode == status, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, output) of a run of six steps, evaluated."""
    folder = tmp_path_factory.mktemp("scripts")
    return folder, run("train.py", *SMALL, "--steps", 6, cwd=folder).stdout


def test_train_leaves_the_documented_run_directory(finished):
    folder, output = finished
    path = folder / "runs" / "digits"
    expected = "config.json history.csv model.keras network-ema.keras evaluation.json report.html"
    assert set(expected.split()) <= {file.name for file in path.iterdir()}
    assert {"samples", "tensorboard", "checkpoints"} <= {file.name for file in path.iterdir()}
    assert not [file for file in path.rglob("*") if ".partial" in file.name]
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert list(evaluation["weights"]) == ["raw", "ema_0.5", "ema_0.9"]
    for row in evaluation["weights"].values():
        assert row["frechet"] > 0 and row["num_images"] == 24 and "digits" in row["extractor"]
    for words in (
        "raw",
        "ema_0.9",
        "Fréchet distance, digits classifier",
        "report.html",
        "sample.py",
    ):
        assert words in output
    config = json.loads((path / "config.json").read_text())
    assert config["options"]["ema"] == [0.5, 0.9] and config["versions"]["keras"]


def test_sample_writes_what_the_model_draws(finished, tmp_path):
    folder, _ = finished
    run(
        "sample.py", folder / "runs" / "digits", "--num", 5, "--steps", 3, "--weights", "ema_0.5",
        "--out", tmp_path / "drawn.npz", cwd=folder,
    )  # fmt: skip
    from ddpm_keras import samplers

    model = keras.saving.load_model(folder / "runs" / "digits" / "model.keras")
    expected = model.sample(5, "ema_0.5", samplers.DDIM(steps=3))
    np.testing.assert_array_equal(np.load(tmp_path / "drawn.npz")["images"], expected)


def test_evaluate_again_with_other_images(finished):
    folder, _ = finished
    path = folder / "runs" / "digits"
    output = run("evaluate.py", path, "--weights", "ema", "--num-images", 12, cwd=folder).stdout
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert list(evaluation["weights"]) == ["ema_0.9"] and len(evaluation["evaluations"]) == 2
    assert "12 generated images" in output
    assert "kept apart: raw, ema_0.5, ema_0.9 (Fréchet distance, digits classifier, 24" in output


def test_evaluate_against_held_out_images_and_statistics(finished):
    from ddpm_keras import data, quality
    from ddpm_keras.app import references

    folder, _ = finished
    path = folder / "runs" / "digits"
    os.environ["DDPM_KERAS_CACHE"] = str(folder / "cache")
    try:
        extractor = references.choose_extractor("auto", data.load("digits"))
    finally:
        del os.environ["DDPM_KERAS_CACHE"]
    statistics = quality.FeatureStatistics.of(extractor(data.load("digits").held_out))
    statistics.save(folder / "held-out.npz")
    distances = []
    for reference in ("held-out", folder / "held-out.npz"):
        run("evaluate.py", path, "--weights", "raw", "--reference", reference, cwd=folder)
        evaluation_json = json.loads((path / "evaluation.json").read_text())
        assert evaluation_json["reference"]["split"] == str(reference)
        distances.append(evaluation_json["weights"]["raw"]["frechet"])
    np.testing.assert_allclose(distances[0], distances[1], rtol=1e-6)


def test_evaluate_two_folders(digits, tmp_path):
    from ddpm_keras import images

    parts = {"one": digits.train[:60], "same": digits.train[:60], "other": digits.train[60:120]}
    for name, part in parts.items():
        images.write(part, tmp_path / name)
    (tmp_path / "one" / "list.txt").write_text("of images")
    output = run("evaluate.py", "--images", "one", "--against", "other", cwd=tmp_path).stdout
    assert output.splitlines()[0] == "Note on one: Left out what is no image: 1 .txt."
    assert "60 generated images" in output and "other rotation network" in output
    same = run("evaluate.py", "--images", "one", "--against", "same", cwd=tmp_path).stdout
    assert float(same.splitlines()[3].split()[1]) == 0.0


def test_a_classifier_of_a_folder_learns_from_images_that_fit_in_memory(digits, tmp_path):
    from ddpm_keras import images, quality
    from ddpm_keras.app import measuring

    images.write(digits.train[:20], tmp_path / "folder")
    folder = quality.ImageFolder(tmp_path / "folder")
    size = folder[:1][0].nbytes
    chosen = measuring.some_images(folder, 7 * size)
    np.testing.assert_array_equal(chosen, np.stack(folder[::3]))
    assert len(measuring.some_images(folder)) == 20
    images.write(np.zeros((1, 9, 9, 1), np.uint8), tmp_path / "folder" / "other")
    with pytest.raises(ValueError, match="differ in size.*--extractor inception"):
        measuring.some_images(quality.ImageFolder(tmp_path / "folder"))


# In between, since a process is said to be as large as the one that started it.
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(status)
"""


def peak_memory(script, *arguments, cwd):
    """Largest resident size of a command in MiB, and what it printed as progress."""
    arguments, options = command(script, *arguments, cwd=cwd)
    measured = [sys.executable, "-c", MEASURED, cwd / "memory", *arguments]
    done = subprocess.run(measured, **(options | {"stderr": subprocess.STDOUT}))
    assert done.returncode == 0, done.stdout
    return int((cwd / "memory").read_text()) / 1024, done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="memory is in other units elsewhere")
def test_evaluating_ten_thousand_images_takes_little_memory(finished):
    folder, _ = finished
    options = ["runs/digits", "--weights", "raw", "--steps", 1, "--num-images"]
    few, _ = peak_memory("evaluate.py", *options, 100, cwd=folder)
    many, text = peak_memory("evaluate.py", *options, 10_000, cwd=folder)
    assert many - few < 300  # 150 were measured; all distances between them would be 800
    assert re.search(r"sampling raw: .*10000 \[\d\d:\d\d<\d\d:\d\d, .* images/s\]", text), text


def test_interrupted_run_resumes_to_the_same_weights(tmp_path):
    train = [*SMALL, "--steps", 30, "--no-evaluate"]
    run("train.py", *train, "--run-dir", "whole", cwd=tmp_path)
    arguments, options = command("train.py", *train, "--run-dir", "parts", cwd=tmp_path)
    process = subprocess.Popen(arguments, **options)
    deadline = time.monotonic() + 120
    while not (tmp_path / "parts" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "python train.py --resume --run-dir parts" in output
    run("train.py", "--resume", "--run-dir", "parts", cwd=tmp_path)
    whole, parts = (
        keras.saving.load_model(tmp_path / name / "model.keras") for name in ("whole", "parts")
    )
    for name in whole.weight_sets:
        for a, b in zip(whole.weight_values(name), parts.weight_values(name), strict=True):
            np.testing.assert_array_equal(np.array(a), np.array(b))
    from ddpm_keras.app.run_directory import Run

    histories = []
    for name in ("whole", "parts"):  # nothing recorded before the interrupt is missing
        rows = Run(tmp_path / name).read_history()
        times = ("seconds", "images_per_second")
        histories.append([{k: v for k, v in row.items() if k not in times} for row in rows])
        assert [row["step"] for row in rows] == list(range(2, 31, 2))
        with np.load(tmp_path / name / "trajectory.npz") as file:
            assert list(file["step"]) == list(range(2, 31, 2))
    assert histories[0] == histories[1]


def test_an_interrupt_that_python_drops_is_raised_at_the_next_turn():
    code = """
import os, signal
from ddpm_keras.app import interrupt, progress

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

interrupt.install()
bar = progress.bar("working", 3)
bar.update()
Finalized()
print("dropped")
bar.update()
print("never printed")
"""
    environment = os.environ | {"DDPM_KERAS_LAZY": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "dropped\n" and done.returncode != 0
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_divergence_exits_with_3(tmp_path):
    arguments = [*SMALL, "--steps", 12, "--learning-rate", 1e30, "--warmup-steps", 0]
    result = run("train.py", *arguments, "--clip-norm", 0, cwd=tmp_path, status=3)
    assert "--learning-rate" in result.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train.py", ["--dataset", "./nowhere"], ("nowhere",)),
        ("train.py", ["--resume"], ("--run-dir",)),
        ("train.py", ["--attention-resolutions", "5"], ("5", "nearest is 4")),
        ("train.py", ["--image-size", "7"], ("7", "2")),
        ("sample.py", [], ("--from-diffusers",)),
        ("sample.py", ["nowhere.keras"], ("nowhere.keras",)),
        ("sample.py", ["--from-diffusers", "nowhere"], ("nowhere", "diffusers")),
        ("sample.py", [ROOT / "README.md"], ("README.md", "run directory or a .keras file")),
        ("evaluate.py", ["nowhere"], ("nowhere", "config.json")),
        ("evaluate.py", ["--images", "a", "--against", "b"], ("no folder with images",)),
    ],
)
def test_wrong_input_exits_with_2_in_one_line_and_writes_nothing(
    tmp_path, script, arguments, words
):
    result = run(script, *arguments, cwd=tmp_path, status=2)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith(script) and all(word in line for word in words), result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*"))
