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
