"""What the benchmarks compare is the same on both sides, and what they say follows from it."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import growth
import publish
import training_memory
import training_speed

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("network", training_speed.NETWORKS)
def test_diffusers_has_the_same_network(network):
    from ddpm_keras.interop.unet_config import unet_arguments

    found = unet_arguments(training_speed.diffusers_config(network))
    wanted = training_speed.arguments_of(network)
    assert {name: found[name] for name in wanted} == wanted


def test_the_best_modes_are_compared():
    times = {way: [0.2, 0.2, 0.3] for way in training_speed.ways()}
    times["diffusers", "NCHW bfloat16"] = [0.16, 0.16, 0.16]
    times["ddpm_keras", "float32"] = [0.1, 0.1, 0.4]
    peaks = {"float32": 4e9, "bfloat16": 8e9}
    lines = list(training_speed.report("middle", times, 2e8, peaks))
    assert "| ddpm_keras, float32 | 100.0 | 100.0 to 580.0 | 50% |" in lines
    assert "NCHW bfloat16, takes 1.60 times as long as ddpm_keras, float32" in lines[-2]
    assert lines[-2].endswith("at least 1.5: reached.")


def test_memory_is_compared_by_precision():
    held = {way: int(1e9) for way in training_speed.ways()}
    held["diffusers", "NCHW bfloat16"] = int(5e8)
    lines = list(training_memory.report("middle", held))
    assert "diffusers needs 1.00 of ours in float32; at least 1: reached." in lines
    assert "diffusers needs 0.50 of ours in bfloat16; at least 1: NOT reached." in lines


def test_growth_is_held_against_the_work():
    sizes = [8, 16, 32]
    found = [{"seconds": n**1.5, "bytes": n, "work": n**2} for n in sizes]
    assert growth.exponent(sizes, [each["seconds"] for each in found]) == pytest.approx(1.5)
    assert (
        "time 1.50, memory 1.00, work 2.00: not above"
        in list(growth.report("side", sizes, found))[-2]
    )
    found = [{"seconds": n**2.2, "bytes": n, "work": n**2} for n in sizes]
    assert "work 2.00: above" in list(growth.report("side", sizes, found))[-2]


def test_a_page_keeps_what_is_not_measured_again():
    page = "# Results\n\n## growth\n\nold\n\n## ema_overhead\n\nkept\n"
    assert publish.sections(page) == {"growth": "\nold\n\n", "ema_overhead": "\nkept\n"}
    scripts = {script for script, *_ in publish.BENCHMARKS.values()}
    assert scripts <= {path.stem for path in publish.HERE.glob("*.py")}


def test_scripts_that_tests_import_have_names_of_their_own():
    """Tests import from several folders in one process: the first of two equal names would win."""
    folders = ("benchmarks", "studies", "tests", "tests/data", "tests/soak")
    names = Counter(path.stem for folder in folders for path in (ROOT / folder).glob("*.py"))
    assert [name for name, times in names.items() if times > 1] == []
