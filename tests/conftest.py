"""Shared by all tests: quiet TensorFlow, seeds set before each test, no plot windows."""

import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

# Processes that tests start import the package under test, wherever it is installed from.
ROOT = pathlib.Path(importlib.util.find_spec("ddpm_keras").origin).parents[1]
others = filter(None, [os.environ.get("PYTHONPATH")])
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *others])


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    os.environ.pop("DDPM_KERAS_LAZY", None)  # of a script that another test has imported
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def network():
    """A network small enough to be traced in a second, with a dropout layer: `network([x, t])`."""
    from networks import small_network

    return small_network()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A run of six steps with every option small, trained once; copy it before changing it."""
    from refusals import TINY, command_status

    folder = tmp_path_factory.mktemp("tiny")
    assert command_status("train.py", *TINY, "--run-dir", "run", folder=folder) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def digits():
    """The embedded digits."""
    from ddpm_keras import data

    return data.load("digits")


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    """A run directory with made-up numbers, for the tests of the report."""
    from report_runs import make_run

    return make_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="session")
def written(made_run):
    """Its report.html."""
    from ddpm_keras import report
    from ddpm_keras.app.run_directory import Run

    return report.write(Run.open(made_run))


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """The comparison of five such runs, in two groups."""
    from report_runs import make_run

    from ddpm_keras import report
    from ddpm_keras.app.run_directory import Run

    folder = tmp_path_factory.mktemp("several")
    runs = [make_run(folder / f"constant-{seed}", seed=seed) for seed in range(3)]
    runs += [make_run(folder / f"warmup-{s}", seed=s, ema_schedule="warmup") for s in range(2)]
    return report.write_comparison(map(Run.open, runs), folder / "comparison.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium, driven by selenium."""
    import browsers

    with browsers.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver
