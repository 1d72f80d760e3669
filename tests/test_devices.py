"""Precision and strategy by name, on devices that this machine need not have."""

import keras
import pytest
import tensorflow as tf

from ddpm_keras.app import devices

# Compute capabilities of the GPUs -> the policy of "auto".
AUTO = [
    ([], "float32"),
    ([(8, 0)], "mixed_bfloat16"),
    ([(9, 0), (8, 6)], "mixed_bfloat16"),
    ([(7, 0)], "mixed_float16"),
    ([(9, 0), (7, 5)], "mixed_float16"),
    ([(6, 1)], "float32"),
    ([(9, 0), (6, 1)], "float32"),
    ([None], "float32"),
]


@pytest.mark.parametrize(("capabilities", "policy"), AUTO)
def test_auto_is_the_precision_that_every_gpu_is_fast_in(capabilities, policy, monkeypatch):
    details = {i: {"compute_capability": c} if c else {} for i, c in enumerate(capabilities)}
    found = {"GPU": list(details), "CPU": ["CPU:0"]}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found[kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert devices.precision("auto") == policy


@pytest.mark.parametrize(
    ("name", "policy"),
    [("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")],
)
def test_a_precision_by_name_is_that_of_the_layers_made_next(name, policy):
    devices.set_precision(name)
    layer = keras.layers.Dense(1)
    assert layer.dtype_policy.name == policy and layer.variable_dtype == "float32"


def test_strategies_by_name():
    assert devices.strategy("none") is tf.distribute.get_strategy()
    assert isinstance(devices.strategy("mirrored"), tf.distribute.MirroredStrategy)
