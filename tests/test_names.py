"""Names of weight sets, columns and files: read back as built; collisions are refused."""

import numpy as np
import pytest
from refusals import assert_refused

from ddpm_keras import EMA, names

WEIGHT_SETS = ("raw", "ema_0.999", "ema_x_raw", "ema_kid_x", "ema_b_ema_a", "posthoc_sigma_0.1")
WEIGHT_SETS += ("posthoc_ema_0.99", "posthoc_ema_warmup_0.99")
MEASURED = ("val_loss", "quality", "quality_kid", "beta", "window", "distance", "relative_distance")
MEASURED += ("cosine", "sketch", "block_cosine", "block_distance")


@pytest.mark.parametrize("weights", WEIGHT_SETS)
def test_columns_are_read_back(weights):
    for what in MEASURED:
        assert names.parse_column(names.column(what, weights)) == (what, weights)


@pytest.mark.parametrize(
    "column",
    ["loss", "loss_q1", "val_loss", "step", "learning_rate", "raw", "ema_0.9", "step_length"],
)
def test_columns_of_no_weight_set(column):
    assert names.parse_column(column) is None


def test_all_columns_of_a_run_are_told_apart():
    columns = [names.column(what, weights) for what in MEASURED for weights in WEIGHT_SETS]
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("weights", [None, *WEIGHT_SETS])
@pytest.mark.parametrize("epoch", [1, 9999, 12345])
def test_pictures_are_read_back(epoch, weights):
    assert names.parse_picture(names.picture(epoch, weights)) == (epoch, weights)


@pytest.mark.parametrize("file", ["epoch-x.png", "epoch-0001.jpg", "notes.txt", "epoch-0001-.png"])
def test_other_files_are_no_pictures(file):
    assert names.parse_picture(file) is None


def test_snapshots_are_read_back():
    assert names.parse_snapshot(names.snapshot(2000)) == 2000
    assert names.parse_snapshot("snapshot-1.npz.partial") is None


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (names.of_width(0.10), ("sigma_rel", "0.1")),
        (names.of_decay("0.999"), ("decay", "0.999")),
        ("ema_0.9", None),
        ("raw", None),
    ],
)
def test_synthesised_weight_sets_say_what_they_were_made_for(weights, expected):
    assert names.synthesis(weights) == expected


@pytest.mark.parametrize("name", ["raw", "ema_0.999", "posthoc_sigma_0.1", "posthoc_ema_0.99"])
def test_a_weight_set_of_an_earlier_step_says_which(name):
    earlier = names.at_step(name, 500)
    assert names.split_step(earlier) == (name, 500)
    assert names.at_step(name, None) == name and names.split_step(name) == (name, None)
    assert names.synthesis(earlier) == names.synthesis(name)
    assert_refused(lambda: EMA({"a@500": 0.9}), ["a@500"])  # which would be called the same


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.999, "0.999"),
        (0.10, "0.1"),
        (1.0, "1"),
        (0, "0"),
        (0.9999999, "0.9999999"),
        (1e-5, "1e-05"),
    ],
)
def test_numbers_are_as_short_as_they_can_be_told_apart(value, text):
    assert names.number(value) == text and float(text) == value
    assert names.number(np.float64(value)) == text


WRONG = [
    {"raw": 0.9},
    {"a/b": 0.9},
    {"a,b": 0.9},
    {"a\nb": 0.9},
    {"a\n": 0.9},
    {"": 0.9},
    {"a b": 0.9},
    {"é": 0.9},
    {"x" * 101: 0.9},
    {"snapshot_0.05": 0.9},
    {"A": 0.9, "a": 0.99},
    {0.9: 0.9, "0.9": 0.99},
    (0.9, 0.9),
    (0.9, 0.90),
]


@pytest.mark.parametrize("decays", WRONG, ids=repr)
def test_averages_that_could_not_be_told_apart_are_refused(decays):
    assert_refused(lambda: EMA(decays), ["average"])


@pytest.mark.parametrize("name", ["kid_x", "x_raw", "0.999", "loss", "ema", "b_ema_a", "x" * 100])
def test_any_other_name_is_taken(name):
    assert EMA({name: 0.9}).names == (name,)
