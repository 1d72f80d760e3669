"""The pages: what they say, what they hold, and how they behave in a browser."""

import base64
import csv
import html.parser
import io
import json
import os
import re
import shutil
import warnings
from importlib import resources

import pytest
from PIL import Image
from report_runs import make_run, write_evaluation

from ddpm_keras import report
from ddpm_keras.app.run_directory import Run
from ddpm_keras.quality import Difference
from ddpm_keras.report import analysis, figures, picture, words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def written(run):
    return report.write(Run.open(run))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    runs = [make_run(folder / f"constant-{seed}", seed=seed) for seed in range(3)]
    runs += [make_run(folder / f"warmup-{s}", seed=s, ema_schedule="warmup") for s in range(2)]
    return report.write_comparison(map(Run.open, runs), folder / "comparison.html")


class Elements(html.parser.HTMLParser):
    """All start tags as (tag, attributes), and the text of each id."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in ("img", "input", "meta", "link"):
            self.open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        for name in filter(None, self.open):
            self.texts[name] = self.texts.get(name, "") + data


def record_of(path):
    return analysis.RunRecord(Run.open(path))


def summary(path):
    """The summary alone, without the time that figures take."""
    return words.summary(record_of(path))


# What a page says


def test_summary_names_the_weights_the_numbers_and_their_circumstances(written, run):
    texts = Elements(written).texts
    weights = record_of(run).evaluation.weights
    assert texts["advice"].strip() == "Use the averaged weights ema_0.999 rather than the raw ones."
    for part in (
        "Fréchet distance, digits classifier",
        "1,437 generated images",
        f"ema_0.999 is at {weights['ema_0.999'].frechet:.2f}",
        f"raw at {weights['raw'].frechet:.2f}",
        f"{weights['raw'].frechet / weights['ema_0.999'].frechet:.1f} times",
        "95% interval",
        "held out are at 3",
    ):
        assert part in texts["evidence"], part
    assert "average of many steps" in texts["reason"]
    assert texts["use"] == f"python sample.py {run} --weights ema_0.999"


def test_raw_is_advised_where_it_wins_and_the_reason_is_given(tmp_path):
    path = make_run(tmp_path / "short", decays={"ema_0.9999": 0.9999}, averages_win=False)
    write_evaluation(
        path, {"raw": 4.0, "ema_0.9999": 90.0}, {"ema_0.9999": Difference(86.0, 80.0, 90.0)}
    )
    texts = summary(path)
    assert "Use the raw weights" in texts["advice"]
    assert "ema_0.9999 is at 90.00, raw at 4.00" in texts["evidence"]
    assert "96% of it are still the weights before training" in texts["reason"]  # 0.9999^400


def test_raw_that_wins_early_is_explained_by_the_progress_of_training(tmp_path):
    path = make_run(tmp_path / "early", decays={"ema_0.9": 0.9}, averages_win=False)
    write_evaluation(path, {"raw": 4.0, "ema_0.9": 5.0}, {"ema_0.9": Difference(1.0, 0.5, 1.5)})
    history = (path / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("val_loss_raw")
    values = iter(["1.0", "0.5", "0.25", "0.2"])
    for i, line in enumerate(history[1:], 1):
        cells = line.split(",")
        cells[column] = next(values) if cells[column] else ""
        history[i] = ",".join(cells)
    (path / "history.csv").write_text("\n".join(history) + "\n")
    assert "fell by 20% in the last quarter" in summary(path)["reason"]


def test_synthesised_weights_come_with_the_command_that_draws_with_them(tmp_path):
    path = make_run(tmp_path / "run")
    write_evaluation(path, {"raw": 4.0, "posthoc_sigma_0.1": 2.0})
    assert summary(path)["use"] == f"python sample.py {path} --weights posthoc_sigma_0.1"


def test_a_run_without_evaluation_goes_by_validation_loss(tmp_path):
    path = make_run(tmp_path / "run", evaluated=False)
    texts = summary(path)
    assert "By the validation loss alone, ema_0.999 is ahead" in texts["advice"]
    assert "validation loss at step 400" in texts["evidence"]


def test_a_run_with_nothing_but_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}}')
    texts = Elements(report.write(Run.open(tmp_path))).texts
    assert "Nothing has been measured yet" in texts["advice"]
    assert f"python evaluate.py {tmp_path}" in texts["evidence"]


def test_names_are_escaped(tmp_path):
    path = make_run(tmp_path / "run", decays={"ema_<script>x": 0.9}, evaluated=False)
    text = report.write(Run.open(path)).read_text()
    assert "ema_<script>" not in text and "ema_&lt;script&gt;x" in text


def test_one_run_is_no_comparison(tmp_path, run):
    with pytest.raises(ValueError, match="at least two runs"):
        report.write_comparison([Run.open(run)], tmp_path / "comparison.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (3.0, "3"), (1437, "1,437"), (3.14159, "3.142"), (0.000123456, "0.0001235")]
    + [(123456.7, "123,457"), (float("nan"), "nan"), ("text", "text"), (-0.5, "-0.5")],
)
def test_numbers_read_well(value, text):
    assert words.number(value) == text


# What it holds


@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_is_self_contained(which, request):
    path = request.getfixturevalue(which)
    for tag, attributes in Elements(path).tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    text = re.sub(r"base64,[\w+/=]+", "", path.read_text())
    assert "http://" not in text and "https://" not in text and "@import" not in text


def test_slider_holds_every_picture_to_the_byte(written, run):
    data = json.loads(Elements(written).texts["pictures"])
    assert data["epochs"] == [1, 2, 3, 4] and data["sets"] == ["raw", "ema_0.99", "ema_0.999"]
    for epoch, row in zip(data["epochs"], data["images"], strict=True):
        for name, content in zip(data["sets"], row, strict=True):
            file = run / "samples" / f"epoch-{epoch:04d}-{name}.png"
            assert base64.b64decode(content) == file.read_bytes()


def test_figures_and_numbers_lie_beside_the_page(written, run):
    names = {path.name for path in (run / "report").iterdir()}
    drawn = figures.draw(record_of(run))
    assert {f"{picture.name}.png" for picture in drawn} <= names and len(drawn) == 10
    for path in (run / "report").glob("*.png"):
        with Image.open(path) as image:
            assert image.width >= 1000
            assert len(image.convert("L").getcolors()) > 10
    with open(run / "report" / "quality.csv", newline="") as file:
        rows = {row["weights"]: row for row in csv.DictReader(file)}
    weights = record_of(run).evaluation.weights
    assert {k: float(v["to training images"]) for k, v in rows.items()} == {
        name: value.frechet for name, value in weights.items()
    }
    with open(run / "report" / "stability_val_loss.csv", newline="") as file:
        rows = {row["weights"]: row for row in csv.DictReader(file)}
    summary = analysis.stability_table(record_of(run), "val_loss")["ema_0.99"]
    assert float(rows["ema_0.99"]["variation"]) == summary.variation
    assert int(rows["ema_0.99"]["steps to raw's best"]) == summary.steps_to_best_raw


def test_the_same_run_gives_the_same_page(written, run):
    before = written.read_bytes()
    assert report.write(Run.open(run)).read_bytes() == before


def test_figures_tell_their_numbers_in_words(run):
    record = record_of(run)
    texts = {picture.name: picture.text for picture in figures.draw(record)}
    for name, value in record.measured().items():
        assert f"{name} {value:.4g}" in texts["final_quality"]
    assert "real held-out images 3" in texts["final_quality"]
    assert "digits classifier of 500 images" in texts["quality"]
    names, cosines = record.block_cosines()
    assert f"{names[cosines['ema_0.99'].argmin()]} for ema_0.99" in texts["blocks"]
    width, _ = analysis.optimum(*analysis.posthoc_curve(record))
    assert f"width of {width:.3g}" in texts["posthoc"] and 0.05 < width < 0.15


def test_a_weight_set_looks_the_same_everywhere():
    sets = ("raw", "ema_0.9", "ema_0.99", "ema_0.999")
    looks = [picture.style(sets, name) for name in sets]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 4
    assert picture.style(sets[:3], "ema_0.99") == looks[2]


def test_comparison_gives_intervals_by_group(compared):
    text = " ".join(re.findall(r"<li>(.*?)</li>", compared.read_text()))
    assert "ema_schedule=constant (3 runs): ema_0.999 is at" in text
    assert "ema_schedule=warmup (2 runs)" in text and "95% interval" in text
    folder = compared.with_suffix("")
    assert (folder / "comparison_gain.png").exists()
    with open(folder / "quality_by_group.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["weights"] == "ema_0.999"]
    runs = sorted(compared.parent.glob("constant-*"))
    records = [record_of(path) for path in runs]
    expected = analysis.across_seeds(records, lambda record: record.measured())["ema_0.999"]
    assert float(rows[0]["mean"]) == expected[0].mean and rows[0]["runs"] == "3"
    assert float(rows[0]["difference: 95% low"]) == expected[1].low


def test_comparison_shows_the_last_pictures_of_each_setting(compared):
    pictures = [
        a for tag, a in Elements(compared).tags if tag == "img" and a["alt"][:7] == "Samples"
    ]
    assert len(pictures) == 2 * 3
    file = compared.parent / "warmup-0" / "samples" / "epoch-0004-ema_0.99.png"
    shown = {each["alt"]: each["src"] for each in pictures}
    alt = "Samples of ema_0.99, ema_schedule=warmup: warmup-0, epoch 4"
    assert shown[alt].endswith("," + base64.b64encode(file.read_bytes()).decode())


def test_comparison_of_unevaluated_runs(tmp_path):
    runs = [make_run(tmp_path / str(s), seed=s, evaluated=False) for s in range(2)]
    text = report.write_comparison(map(Run.open, runs), tmp_path / "page.html").read_text()
    assert "has not been evaluated" in text
    assert (tmp_path / "page" / "stability_val_loss_by_group.csv").exists()


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium", reason="selenium, which drives browsers, is missing")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    binary = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium or Chrome with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("profile")
    arguments = ["--headless=new", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    for argument in [*arguments, "--window-size=1200,900", "--proxy-server=127.0.0.1:9"]:
        options.add_argument(argument)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # selenium's own pipes
        try:
            driver = webdriver.Chrome(options=options, service=Service(driver))
        except selenium.common.exceptions.WebDriverException as error:
            pytest.skip(f"the browser does not start here: {error.msg.splitlines()[0]}")
        yield driver
        driver.quit()


def open_page(browser, path):
    browser.get_log("browser")
    browser.get(path.as_uri())
    return browser


def shown(browser, name):
    """The pixels of a picture on the page, as drawn by the browser."""
    from selenium.webdriver.common.by import By

    png = browser.find_element(By.ID, name).screenshot_as_png
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


def test_sliders_change_the_pictures_and_the_console_stays_empty(browser, written):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    left, right = shown(browser, "left"), shown(browser, "right")
    assert left != right

    epoch = browser.find_element(By.ID, "epoch")
    epoch.send_keys(Keys.ARROW_LEFT)
    assert browser.find_element(By.ID, "epoch-shown").text == "3"
    assert shown(browser, "left") != left and shown(browser, "right") != right
    assert "epoch 3" in browser.find_element(By.ID, "left").get_attribute("alt")
    epoch.send_keys(Keys.END)
    assert shown(browser, "left") == left and shown(browser, "right") == right

    weights = browser.find_element(By.ID, "set")
    assert browser.find_element(By.ID, "right-name").text == "ema_0.999"
    weights.send_keys(Keys.ARROW_LEFT)
    assert browser.find_element(By.ID, "right-name").text == "ema_0.99"
    assert shown(browser, "right") != right and shown(browser, "left") == left
    weights.send_keys(Keys.HOME)
    assert shown(browser, "right") == left  # raw on both sides
    assert browser.get_log("browser") == []


def test_headings_sort_their_column_both_ways(browser, written, run):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    table = browser.find_element(By.ID, "table-quality")

    def order():
        return [each.text for each in table.find_elements(By.CSS_SELECTOR, "tbody th")]

    distances = record_of(run).measured()
    ascending = sorted(distances, key=distances.get)
    button = table.find_elements(By.CSS_SELECTOR, "button.sort")[1]
    assert order() == list(distances)
    button.send_keys(Keys.ENTER)  # by keyboard
    assert [distances[name] for name in order()] == sorted(distances.values())
    assert order()[-1] == ascending[-1]
    button.click()
    assert [distances[name] for name in order()] == sorted(distances.values(), reverse=True)
    heading = button.find_element(By.XPATH, "..")
    assert heading.get_attribute("aria-sort") == "descending"


def test_empty_cells_sort_last(browser, written):
    from selenium.webdriver.common.by import By

    open_page(browser, written)
    table = browser.find_element(By.ID, "table-stability_val_loss")
    button = table.find_elements(By.CSS_SELECTOR, "button.sort")[-1]
    for _ in range(2):
        button.click()
        assert table.find_elements(By.CSS_SELECTOR, "tbody th")[-1].text == "raw"


def test_figures_enlarge_and_escape_closes_them(browser, written):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    button = browser.find_element(By.CSS_SELECTOR, ".zoom")
    dialog = browser.find_element(By.ID, "zoomed")
    button.send_keys(Keys.ENTER)
    large = dialog.find_element(By.TAG_NAME, "img")
    assert dialog.is_displayed() and large.size["width"] > button.size["width"]
    assert large.get_attribute("alt").startswith("Bars of")
    large.screenshot_as_png  # noqa: B018  (it is drawn)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()


@pytest.mark.parametrize("which", ["written", "compared"])
@pytest.mark.parametrize("width", [360, 1200])
def test_page_fits_the_screen(browser, which, width, request):
    open_page(browser, request.getfixturevalue(which))
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_passes_the_accessibility_check(browser, which, request):
    pytest.importorskip("axe_core_python", reason="axe-core-python, the checker, is not installed")
    script = resources.files("axe_core_python") / "axe.min.js"
    open_page(browser, request.getfixturevalue(which))
    browser.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true));")
    browser.execute_script(script.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1]);")
    problems = [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]
    assert problems == []
    assert len(found["passes"]) > 20  # it did look
    assert browser.get_log("browser") == []
