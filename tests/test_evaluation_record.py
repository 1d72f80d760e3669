"""evaluation.json: one reader that refuses what cannot be right, one writer, and what adds up."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import assert_refused

from ddpm_keras import files
from ddpm_keras.errors import UsageError
from ddpm_keras.quality import (
    Difference,
    Evaluation,
    Evaluations,
    Extractor,
    Measurement,
    Reference,
)

ROOT = Path(__file__).parents[1]

# The layout that users rely on, with nothing that may be left out.
CONTRACT = {
    "reference": {},
    "weights": {"raw": {"frechet": 2.5, "num_images": 24, "extractor": "digits classifier"}},
}
WHOLE = {
    "reference": {
        "dataset": "digits",
        "split": "train",
        "num_images": 1437,
        "num_held_out": 360,
        "fingerprint": "ab",
        "floor_frechet": 1.1,
        "floor": 0.4,
    },
    "weights": {
        name: {
            "frechet": 2.5,
            "frechet_held_out": 3,
            "kid": -0.01,
            "kid_std": 0.1,
            "precision": 0.0,
            "recall": 1.0,
            "num_images": 24,
            "extractor": "digits classifier",
            "sampler": "DDIM(steps=50)",
            "seed": 0,
            "guidance": 1.0,
            "dtype": "float32",
            "bits_per_dim": None,
            "bits_per_dim_error": None,
        }
        for name in ("raw", "ema_0.9")
    },
    "differences": {"ema_0.9": {"estimate": 0.0, "low": -1.0, "high": 1.0}},
    "metric": "Fréchet distance, digits classifier",
    "extractor": {"name": "digits classifier", "fingerprint": "cd"},
    "step": 100,
    "protocols": {"raw": "raw; step 100", "ema_0.9": "ema_0.9: FixedDecay(0.9); step 100"},
    "time": "2026-01-01T00:00:00",
    "command": "python evaluate.py run",
}


def put(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def changed(place, value):
    """`WHOLE` with one value in another's place."""
    values = copy.deepcopy(WHOLE)
    *parents, last = place
    inner = values
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return values


def without(place):
    values = copy.deepcopy(WHOLE)
    *parents, last = place
    inner = values
    for key in parents:
        inner = inner[key]
    del inner[last]
    return values


RAW = ("weights", "raw")
WRONG = {
    "no JSON": ("{", []),
    "empty": ("", []),
    "too deep": ("[" * 100_000, []),
    "a list": ([], ["no dictionary"]),
    "NaN": ('{"weights": {"raw": {"frechet": NaN}}}', ["NaN"]),
    "infinity": ('{"weights": {"raw": {"frechet": -Infinity}}}', ["-Infinity"]),
    "too large": (changed((*RAW, "frechet"), 10**400), ["weights.raw.frechet"]),
    "the old key": (changed((*RAW, "fid"), 2.0), ["weights.raw.fid is unknown"]),
    "unknown key": (changed(("speed",), 2.0), ["speed is unknown"]),
    "unknown key of the reference": (changed(("reference", "x"), 1), ["reference.x is unknown"]),
    "no distance": (without((*RAW, "frechet")), ["weights.raw.frechet is missing"]),
    "no number of images": (without((*RAW, "num_images")), ["weights.raw.num_images is missing"]),
    "no extractor": (without((*RAW, "extractor")), ["weights.raw.extractor is missing"]),
    "no weights": (without(("weights",)), ["weights is missing"]),
    "no weight set": (changed(("weights",), {}), ["weights holds no weight set"]),
    "weights a list": (changed(("weights",), []), ["weights is [], not a dictionary"]),
    "weight set a number": (changed(RAW, 3), ["weights.raw is no dictionary"]),
    "reference a text": (changed(("reference",), "train"), ["reference is no dictionary"]),
    "distance a text": (changed((*RAW, "frechet"), "2"), ["weights.raw.frechet is '2'"]),
    "distance a boolean": (changed((*RAW, "frechet"), True), ["weights.raw.frechet is True"]),
    "distance null": (changed((*RAW, "frechet"), None), ["weights.raw.frechet is None"]),
    "distance negative": (
        changed((*RAW, "frechet"), -1),
        ["weights.raw.frechet is -1", "at least 0"],
    ),
    "precision in percent": (changed((*RAW, "precision"), 41), ["weights.raw.precision", "0 to 1"]),
    "recall negative": (changed((*RAW, "recall"), -0.1), ["weights.raw.recall", "0 to 1"]),
    "spread negative": (changed((*RAW, "kid_std"), -0.1), ["weights.raw.kid_std"]),
    "no images": (changed((*RAW, "num_images"), 0), ["weights.raw.num_images is 0"]),
    "half an image": (changed((*RAW, "num_images"), 1.5), ["num_images is 1.5", "whole number"]),
    "seed negative": (changed((*RAW, "seed"), -1), ["weights.raw.seed"]),
    "extractor a number": (changed((*RAW, "extractor"), 5), ["weights.raw.extractor is 5"]),
    "floor at N negative": (changed(("reference", "floor"), -1), ["reference.floor"]),
    "packages of nothing": (changed(("made_with",), {"ema_0.5": "x"}), ["made_with.ema_0.5"]),
    "protocol of nothing": (changed(("protocols", "ema_0.5"), "x"), ["protocols.ema_0.5"]),
    "floor negative": (changed(("reference", "floor_frechet"), -1), ["reference.floor_frechet"]),
    "step a text": (changed(("step",), "100"), ["step is '100'"]),
    "interval upside down": (
        changed(("differences", "ema_0.9", "low"), 2.0),
        ["low is 2.0, above"],
    ),
    "interval without an end": (without(("differences", "ema_0.9", "high")), ["high is missing"]),
    "difference of nothing": (
        changed(("differences", "ema_1"), {"estimate": 0, "low": 0, "high": 0}),
        ["differences.ema_1"],
    ),
    "another number of images": (
        changed(("weights", "ema_0.9", "num_images"), 12),
        ["weights.ema_0.9", "same way as raw"],
    ),
    "another seed": (changed(("weights", "ema_0.9", "seed"), 1), ["weights.ema_0.9"]),
    "evaluations a dictionary": (WHOLE | {"evaluations": {}}, ["evaluations is no list"]),
    "wrong among the earlier": (
        WHOLE | {"evaluations": [WHOLE, changed((*RAW, "recall"), 2)]},
        ["evaluations[1].weights.raw.recall"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_in_one_line_that_names_the_place(tmp_path, name):
    values, words = WRONG[name]
    path = put(tmp_path / "evaluation.json", values)
    cure = ["evaluation.json", "remove it, and evaluate the run again"]
    assert_refused(lambda: Evaluations.read(path), [*words, *cure], UsageError)


@pytest.mark.parametrize(
    "values",
    [CONTRACT, WHOLE, WHOLE | {"evaluations": [WHOLE, CONTRACT]}, CONTRACT | {"evaluations": []}],
    ids=["contract", "whole", "with earlier ones", "none earlier"],
)
def test_right_files_are_read_and_written_again(tmp_path, values):
    found = Evaluations.read(put(tmp_path / "evaluation.json", values))
    assert found.current.weights["raw"].frechet == 2.5 and found.current.num_images == 24
    assert len(found.made) == len(values.get("evaluations", []))
    found.write(tmp_path / "again.json")
    assert Evaluations.read(tmp_path / "again.json") == found
    written = json.loads((tmp_path / "again.json").read_text())
    for key, value in values["weights"]["raw"].items():
        assert written["weights"]["raw"][key] == value
    assert "fid" not in (tmp_path / "again.json").read_text()


def test_there_may_be_no_file(tmp_path):
    assert Evaluations.read(tmp_path / "evaluation.json") is None


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("evaluation.json")), ids=str)
def test_published_results_are_read_and_written_as_they_are(tmp_path, path):
    Evaluations.read(path).write(tmp_path / "again.json")
    again, published = files.read_record(tmp_path / "again.json"), files.read_record(path)
    assert json.dumps(again) == json.dumps(published)  # the order of their keys too


def test_records_that_cannot_be_right_are_not_made_either():
    assert_refused(lambda: Measurement(float("nan"), 24, "x"), ["frechet is nan"])
    assert_refused(lambda: Measurement(1.0, 24, "x", {"precision": 2.0}), ["precision is 2.0"])
    assert_refused(lambda: Difference(0.0, float("-inf"), 0.0), ["low is -inf"])
    assert_refused(lambda: Evaluation({}, Reference()), ["weights"])
    assert_refused(lambda: Evaluation({"raw": 1.0}, Reference()), ["weights.raw is 1.0"])


# What adds up


def evaluation(distances, difference=None, step=100, split="train", fingerprint="cd", **settings):
    settings = {"num_images": 24, "seed": 0} | settings
    weights = {
        name: Measurement(frechet=value, extractor="classifier", **settings)
        for name, value in distances.items()
    }
    found = {} if difference is None else {"ema_0.9": Difference(difference, -1.0, 1.0)}
    extractor = Extractor("classifier", fingerprint)
    return Evaluation(
        weights, Reference(split=split), differences=found, extractor=extractor, step=step
    )


def known(*evaluations):
    found = None
    for each in evaluations:
        found = each.after(found)
    return found


def test_what_is_measured_in_the_same_way_adds_up():
    found = known(
        evaluation({"raw": 4.0, "ema_0.9": 2.0}, -2.0),
        evaluation({"posthoc_sigma_0.1": 1.0}),
        evaluation({"ema_0.99": 3.0}),
    )
    assert {name: each.frechet for name, each in found.current.weights.items()} == {
        "raw": 4.0,
        "ema_0.9": 2.0,
        "ema_0.99": 3.0,
        "posthoc_sigma_0.1": 1.0,
    }
    assert list(found.current.weights)[0] == "raw" and found.apart == []
    assert found.current.differences["ema_0.9"].estimate == -2.0
    assert [list(each.weights) for each in found.made] == [
        ["raw", "ema_0.9"],
        ["posthoc_sigma_0.1"],
        ["ema_0.99"],
    ]


def test_the_newer_number_counts_and_takes_over_what_it_lacks():
    one = evaluation({"raw": 4.0})
    bits = dataclasses.replace(one.weights["raw"], bits_per_dim=3.0, bits_per_dim_error=0.1)
    found = known(dataclasses.replace(one, weights={"raw": bits}), evaluation({"raw": 4.5}))
    assert found.current.weights["raw"].frechet == 4.5
    assert found.current.weights["raw"].bits_per_dim == 3.0


OTHERWISE = {
    "step": {"step": 200},
    "reference": {"split": "held-out"},
    "extractor": {"fingerprint": "ef"},
    "num_images": {"num_images": 12},
    "seed": {"seed": 1},
    "sampler": {"sampler": "DDPM()"},
    "guidance": {"guidance": 2.0},
    "guide": {"guide": "raw"},
    "rescaled": {"guidance_rescale": 0.7},
    "interval": {"guidance_low": 0, "guidance_high": 20},
    "dtype": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_is_measured_otherwise_stands_apart(what):
    first, other = evaluation({"raw": 4.0}), evaluation({"ema_0.9": 2.0}, **OTHERWISE[what])
    found = known(first, other)
    assert list(found.current.weights) == ["ema_0.9"] and found.apart == [first]
    assert set(found.weight_sets) == {"raw", "ema_0.9"}
    back = found.with_new(evaluation({"ema_0.9": 2.5}))
    assert {name: each.frechet for name, each in back.current.weights.items()} == {
        "raw": 4.0,
        "ema_0.9": 2.5,
    }
    assert back.apart == [other]
    assert other.way != first.way or what in ("extractor",)


def test_the_record_needs_no_tensorflow():
    code = (
        "import sys, ddpm_keras.quality.record, ddpm_keras.quality.verdict, ddpm_keras.names\n"
        "import ddpm_keras.choices\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    environment = os.environ | {"DDPM_KERAS_LAZY": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
