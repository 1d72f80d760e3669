"""`--precision auto`: measured where it can matter, written down, and kept on a resume."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras.app import devices, precision, run_record, training
from ddpm_keras.app.options import train_options
from ddpm_keras.checked import build
from ddpm_keras.data import ImageData

INTEL = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\nbugs\t\t:\n"
PLAIN = "processor\t: 0\nflags\t\t: fpu avx2 not_avx512_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.fixture
def images():
    many = np.zeros((8, 16, 16, 1), np.uint8)
    return ImageData("blank", many, many)


def options(*arguments):
    small = ["--base-channels", "8", "--channel-multipliers", "1", "--attention-resolutions"]
    return train_options([*small, *arguments])[0]


def run(config=None):
    return types.SimpleNamespace(config=config or {}, config_file="config.json")


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """A function that puts a file in the place of /proc/cpuinfo."""

    def of(text):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(devices, "CPUINFO", path)

    return of


@pytest.mark.parametrize(("text", "has"), [(INTEL, True), (ARM, True), (PLAIN, False), ("", False)])
def test_processors_are_told_by_their_flags(text, has, processor):
    processor(text)
    assert devices.has_bfloat16() is has


def test_where_no_file_tells_there_is_no_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "none")
    assert devices.has_bfloat16() is False


# Seconds of a step in float32 and in bfloat16 -> the policy.
MEASURED = [((2.0, 1.0), "mixed_bfloat16"), ((1.0, 2.0), "float32"), ((1.05, 1.0), "float32")]


@pytest.mark.parametrize(("seconds", "policy"), MEASURED)
def test_auto_is_what_was_faster_by_more_than_chance(
    seconds, policy, images, processor, monkeypatch
):
    processor(INTEL)
    clocks = {"float32": seconds[0], "mixed_bfloat16": seconds[1]}
    monkeypatch.setattr(precision, "SECONDS", 0)
    monkeypatch.setattr(precision, "_seconds", lambda net, inputs: clocks[net.dtype_policy.name])
    monkeypatch.setattr(
        precision.network,
        "build",
        lambda options, images: types.SimpleNamespace(dtype_policy=keras.config.dtype_policy()),
    )
    found = precision.of_run(run(), options("--batch-size", "64"), images)
    assert found == {"policy": policy, "seconds": clocks}
    (line,) = precision.words(found)
    assert policy in line and f"{seconds[0] / seconds[1]:.2f} times" in line


NOT_MEASURED = {
    "small batches": ((INTEL, "--batch-size", "8"), "float32"),
    "another processor": ((PLAIN, "--batch-size", "64"), "float32"),
    "several workers": ((INTEL, "--batch-size", "64", "--strategy", "multiworker"), "float32"),
    "float32": ((INTEL, "--batch-size", "64", "--precision", "float32"), "float32"),
    "bfloat16": ((PLAIN, "--batch-size", "8", "--precision", "bfloat16"), "mixed_bfloat16"),
}


@pytest.mark.parametrize("name", NOT_MEASURED)
def test_nothing_is_measured_where_it_could_not_matter(name, images, processor, monkeypatch):
    (text, *arguments), policy = NOT_MEASURED[name]
    processor(text)
    monkeypatch.setattr(precision, "measured", lambda *given: pytest.fail("measured"))
    found = precision.of_run(run(), options(*arguments), images)
    assert found == {"policy": policy} and precision.words(found) == []


def test_a_run_that_is_continued_computes_as_it_began(images, processor, monkeypatch):
    processor(INTEL)
    monkeypatch.setattr(precision, "measured", lambda *given: pytest.fail("measured"))
    again = options("--batch-size", "64", "--resume")
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        kept = run({"precision": {"policy": policy, "seconds": {}}})
        assert precision.of_run(kept, again, images) == {"policy": policy}
    assert precision.of_run(run(), again, images) == {"policy": "float32"}  # before it was kept


@pytest.mark.parametrize(
    "wrong", [{"policy": "fp8"}, "float32", {}, {"policy": ""}, {"seconds": {}}]
)
def test_a_record_of_another_precision_is_damage(wrong):
    build(
        run_record.Config, {"precision": {"policy": "mixed_bfloat16", "seconds": {"float32": 1.0}}}
    )
    with pytest.raises(ValueError, match="p(recision|olicy)"):
        build(run_record.Config, {"precision": wrong})


def test_a_step_of_the_runs_own_network_is_measured(images, monkeypatch):
    monkeypatch.setattr(precision, "SECONDS", 0)
    seconds = precision.measured(options("--num-res-blocks", "1"), images)
    assert set(seconds) == {"float32", "mixed_bfloat16"} and min(seconds.values()) > 0


def test_the_model_is_built_in_the_precision_of_the_run(images):
    model = training.build_model(options(), images, "mixed_bfloat16")
    assert devices.computes_in(model.network) == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.network.trainable_weights)
    assert tf.as_dtype(model.ema.variables(model.ema.names[0])[0].dtype) == tf.float32
