"""The scripts in examples/, run as they are (with less training where they take minutes)."""

import dataclasses
import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from ddpm_keras import DDPM, data

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs an example in an empty folder; returns what it prints."""

    def run(name):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [name])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_has_a_test():
    tested = {"own_images.py"}  # in two processes, by tests/test_ddpm.py
    tested |= {"classifier_with_ema.py", "gan_with_ema.py", "posthoc_ema.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_classifier_with_ema(run, tmp_path):
    printed = run("classifier_with_ema.py")
    assert "ema_long: ConstantDecay(beta=0.99), effective window 100 steps (3.1 epochs)" in printed
    found = dict(re.findall(r"^(\w+) +loss (\S+), accuracy", printed, re.MULTILINE))
    assert list(found) == ["raw", "ema_short", "ema_long", "ema_warm"]
    assert float(found["ema_warm"]) < float(found["raw"])  # what the averages buy
    model = keras.saving.load_model(tmp_path / "classifier.keras")
    network = keras.saving.load_model(tmp_path / "classifier-ema.keras")
    for shipped, average in zip(network.weights, model.weight_values("ema_warm"), strict=True):
        np.testing.assert_array_equal(shipped, average)


def test_gan_with_ema(run, tmp_path):
    printed = run("gan_with_ema.py")
    assert printed.startswith("after 1,740 steps")  # 60 epochs of 29 batches
    found = dict(re.findall(r"^(\w\S+) +(\d+\.\d+)$", printed, re.MULTILINE))
    assert list(found) == ["raw", "ema_0.9", "ema_0.99"]
    assert float(found["ema_0.99"]) < float(found["raw"])  # what the averages buy
    assert keras.saving.load_model(tmp_path / "generator-ema.keras").count_params() == 26_944


def test_posthoc_ema(run, digits, monkeypatch):
    """With 20 steps on few images."""
    few = dataclasses.replace(digits, train=digits.train[:320], held_out=digits.held_out[:64])
    monkeypatch.setattr(data, "load", lambda name: few)
    fit = DDPM.fit
    monkeypatch.setattr(DDPM, "fit", lambda *args, **more: fit(*args, **more | {"epochs": 2}))
    printed = run("posthoc_ema.py")
    rows = re.findall(r"^(\S+) +validation loss (\S+) (.*)$", printed, re.MULTILINE)
    names = [name for name, _, _ in rows]
    assert names[0] == "raw" and len(set(names)) == 9
    assert names[1:] == [
        *(f"posthoc_sigma_{width}" for width in ("0.03", "0.05", "0.08", "0.12", "0.2")),
        *(f"posthoc_ema_{decay}" for decay in ("0.9", "0.99", "0.999")),
    ]
    assert all(0 < float(loss) < 2 for _, loss, _ in rows)
    assert all(re.fullmatch(r"\(relative error \d\.\de-\d\d\)", told) for _, _, told in rows[1:])
