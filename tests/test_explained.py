"""The page that explains averages: true to its record, and as usable as the report."""

import contextlib
import importlib
import re
import sys

import numpy as np
import pytest
from browsers import dark, open_page, problems, screen
from conftest import ROOT

from ddpm_keras import ema


@pytest.fixture(scope="module")
def explained():
    sys.path.insert(0, str(ROOT / "studies"))
    yield importlib.import_module("explained")
    sys.path.remove(str(ROOT / "studies"))


@pytest.fixture(scope="module")
def record(explained):
    return explained.read()


def test_the_page_is_made_of_its_record(explained, record):
    assert explained.PAGE.read_text(encoding="utf-8") == explained.page(record)
    text = re.sub(r"base64,[\w+/=]+", "", explained.PAGE.read_text(encoding="utf-8"))
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "http://" not in text


def test_the_rules_of_the_page_are_those_of_the_library(explained):
    for n in (0, 5, 100, 10_000):
        warm, constant = ema.WarmupDecay(0.99), ema.ConstantDecay(0.99)
        assert explained.rate(0.99, n, True) == pytest.approx(1 - warm.rate(n), abs=1e-12)
        assert explained.rate(0.99, n, False) == pytest.approx(1 - constant.rate(n), abs=1e-12)


def test_averages_of_the_recorded_path_against_a_closed_form(explained):
    made = {"steps": [10, 20, 30], "points": {"raw": [[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]}}
    path = explained.averaged(made, 0.9)
    np.testing.assert_allclose(path[:, 0], [0, 1 - 0.9**10, 1 - 0.9**20])
    np.testing.assert_allclose(path[:, 1], 2 * path[:, 0])


def test_the_average_of_the_page_ends_near_the_one_that_was_tracked(explained, record):
    raw, tracked = (np.array(record["points"][name]) for name in ("raw", record["average"]))
    beta = float(record["average"].removeprefix("ema_"))
    made = explained.averaged(record, beta, warmup=True)
    assert np.linalg.norm(made[-1] - tracked[-1]) < 0.25 * np.linalg.norm(raw[-1] - tracked[-1])


def test_the_record_shows_the_valleys_that_the_page_tells_of(record):
    assert record["average_loss"] < record["raw_loss"]
    line = np.array(record["line"])
    at = np.interp([0, 1], *line.T)
    np.testing.assert_allclose(at, [record["raw_loss"], record["average_loss"]], rtol=0.01)
    assert 0 < line[line[:, 1].argmin(), 0] < 2
    losses = [loss for _, loss in record["constant"]]
    assert min(losses) < record["raw_loss"] < losses[-1]  # too long: the random start


def test_the_slider_moves_the_average_by_keyboard(browser, explained, record):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, explained.PAGE)
    path = browser.find_element(By.ID, "average")
    before = path.get_attribute("points")
    fallback = re.search(r'id="average" points="([^"]*)"', explained.PAGE.read_text())[1]
    first, again = (np.array(re.findall(r"[\d.]+", text), float) for text in (fallback, before))
    np.testing.assert_allclose(first, again, atol=0.11)  # both programs agree
    slider = browser.find_element(By.ID, "beta")
    slider.send_keys(Keys.ARROW_LEFT * 6)
    assert browser.find_element(By.ID, "beta-shown").text == "0.99"
    assert "stands for: 100." in browser.find_element(By.ID, "told").text
    moved = path.get_attribute("points")
    assert moved != before
    browser.find_element(By.ID, "warmup").send_keys(Keys.SPACE)
    assert path.get_attribute("points") != moved
    assert f"{record['raw_loss']:.4f}" in browser.find_element(By.ID, "told").text
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 1120])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_page_fits_and_can_be_read(browser, explained, width, mode):
    with dark(browser) if mode == "dark" else contextlib.nullcontext(), screen(browser, width):
        open_page(browser, explained.PAGE)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        sizes = (
            "return [...document.querySelectorAll('svg')].map((s) =>"
            " 12 * s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
        )
        assert min(browser.execute_script(sizes)) >= 11
        assert problems(browser) == []
    assert browser.get_log("browser") == []
