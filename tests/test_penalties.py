"""Losses that layers add to that of a `DDPM`: once a step, however a batch is divided."""

import pathlib
import subprocess
import sys

import pytest
from penalty_of_replicas import START, STEPS, trained


def assert_once_a_step(weight, loss):
    assert weight == START - STEPS
    assert loss == pytest.approx(START - 1, abs=3)  # the mean of the weights, and some noise


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_on_one_device(accumulation_steps):
    assert_once_a_step(*trained(accumulation_steps=accumulation_steps))


def test_on_two_replicas():
    script = pathlib.Path(__file__).with_name("penalty_of_replicas.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_once_a_step(*map(float, done.stdout.split()[-2:]))
