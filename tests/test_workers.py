"""train.py on several workers: the same training as on as many replicas in one process."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import ddpm_keras  # noqa: F401 - registers the model
from ddpm_keras.app import console
from ddpm_keras.errors import UsageError

ROOT = Path(__file__).parents[1]
SMALL = "--channel-multipliers 1 --attention-resolutions --batch-size 16 --steps 6".split()
SMALL += "--log-every-steps 2 --epoch-steps 3 --ema 0.5 --ema-schedule constant".split()
SMALL += "--quality-every-epochs 0 --no-evaluate".split()


@pytest.fixture
def start():
    """Starts commands, each in a directory of its own; what still runs at the end is stopped."""
    with contextlib.ExitStack() as running:

        def start(script, folder, *arguments, task=None):
            folder.mkdir(exist_ok=True)
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            if task is not None:
                environment["TF_CONFIG"] = task if isinstance(task, str) else json.dumps(task)
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script), *SMALL, "--run-dir", "run", *arguments],
                cwd=folder,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start


def free_port():
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def test_two_workers_train_as_two_replicas_do_and_the_first_writes(start, tmp_path):
    workers = [f"localhost:{free_port()}" for _ in range(2)]
    processes = [
        start(
            "train.py",
            tmp_path / f"worker{index}",
            *("--strategy", "multiworker"),
            task={"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    processes.append(
        start("tests/train_on_two_replicas.py", tmp_path / "replicas", "--strategy", "mirrored")
    )
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert not (tmp_path / "worker1" / "run").exists()
    one, other = (
        keras.saving.load_model(tmp_path / name / "run" / "model.keras")
        for name in ("worker0", "replicas")
    )
    assert one.ema.num_updates == other.ema.num_updates == 6
    for weights in one.weight_sets:
        pairs = zip(one.weight_values(weights), other.weight_values(weights), strict=True)
        for value, expected in pairs:
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("settings", "chief"),
    [
        ("", True),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}', True),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', False),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            False,
        ),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
            '"task": {"type": "chief", "index": 0}}',
            True,
        ),
    ],
)
def test_the_first_worker_is_the_chief(settings, chief, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", settings)
    assert console.is_chief() is chief


@pytest.mark.parametrize("settings", ["{", "[]", "[1]", '{"task": 3}', '{"task": {"index": 0}}'])
def test_a_wrong_tf_config_is_refused_with_its_form(settings, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", settings)
    with pytest.raises(UsageError, match='TF_CONFIG must be like {"cluster"'):
        console.is_chief()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{", "TF_CONFIG"),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 5}}, "`task_id` 5"),
    ],
)
def test_a_wrong_tf_config_stops_the_command_before_anything_is_written(
    start, tmp_path, task, words
):
    process = start("train.py", tmp_path, "--strategy", "multiworker", task=task)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and len(output.splitlines()) == 1, output
    assert words in output and not (tmp_path / "run").exists()
