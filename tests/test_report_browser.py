"""The pages in a browser: charts, sliders, tables, paper, dark mode, accessibility."""

import contextlib
import io
import re

import pytest
from browsers import dark, emulated, open_page, problems, screen
from PIL import Image
from report_runs import make_run, record_of

from ddpm_keras import report
from ddpm_keras.app.run_directory import Run
from ddpm_keras.report import analysis, picture


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


def test_headings_sort_their_column_both_ways(browser, written, made_run):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    table = browser.find_element(By.ID, "table-quality")

    def order():
        return [each.text for each in table.find_elements(By.CSS_SELECTOR, "tbody th")]

    distances = record_of(made_run).measured()
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


@pytest.mark.parametrize("which", ["written", "compared"])
@pytest.mark.parametrize("width", [360, 1120, 1200])
def test_page_fits_the_screen(browser, which, width, request):
    open_page(browser, request.getfixturevalue(which))
    with screen(browser, width):
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        if width == 1120:
            wide = "return [...document.querySelectorAll('table')].map((t) => t.offsetWidth)"
            assert max(browser.execute_script(wide)) <= width


def test_names_of_many_settings_fit_the_screen(browser, tmp_path):
    options = [{"learning_rate": rate / 3, "lr_schedule": f"a schedule {rate}"} for rate in (1, 2)]
    options[1] |= {"optimizer": "adamw", "ema_schedule": "warmup", "precision": "bfloat16"}
    runs = [Run(make_run(tmp_path / f"run-{i}", **each)) for i, each in enumerate(options)]
    open_page(browser, report.write_comparison(runs))
    with screen(browser, 1120):
        wide = "return [...document.querySelectorAll('table')].map((t) => t.offsetWidth)"
        assert max(browser.execute_script(wide)) <= 1120


def test_charts_tell_values_hide_curves_and_zoom(browser, written, made_run):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    figure = browser.find_element(By.ID, "figure-validation_loss")
    assert not figure.find_element(By.TAG_NAME, "img").is_displayed()  # drawn instead
    box = figure.find_element(By.CSS_SELECTOR, ".chart")
    raw = box.find_element(By.CSS_SELECTOR, ".keys button")
    values = record_of(made_run).curve("val_loss_raw")[1]

    def told():
        return raw.find_element(By.TAG_NAME, "b").text, box.find_element(By.CLASS_NAME, "at").text

    def scale():
        return browser.execute_script(
            "const {min, max} = arguments[0].charts[0].plot.scales.x; return [min, max];", figure
        )

    assert told() == (f"{values[-1]:.4g}", "optimizer step 400")
    box.send_keys(Keys.ARROW_LEFT)
    assert told() == (f"{values[-2]:.4g}", "optimizer step 300")
    over = box.find_element(By.CSS_SELECTOR, ".u-over")
    ActionChains(browser).move_to_element_with_offset(
        over, -over.size["width"] // 2 + 3, 0
    ).perform()
    assert told() == (f"{values[0]:.4g}", "optimizer step 100")
    assert scale() == [100, 400]
    ActionChains(browser).move_to_element(over).click_and_hold().move_by_offset(
        over.size["width"] // 4, 0
    ).release().perform()
    low, high = scale()
    assert 200 < low < high < 400
    box.send_keys(Keys.ESCAPE)
    assert scale() == [100, 400]
    box.send_keys("+")
    assert scale()[1] - scale()[0] < 300
    raw.send_keys(Keys.ENTER)
    is_shown = "return arguments[0].charts[0].plot.series.map((s) => s.show)"
    assert raw.get_attribute("aria-pressed") == "false"
    assert browser.execute_script(is_shown, figure)[1:] == [False, True, True]
    raw.click()
    assert browser.execute_script(is_shown, figure)[1:] == [True, True, True]
    fonts = "return arguments[0].charts[0].plot.axes.map((a) => a.font[0])"
    assert all(
        float(re.search(r"([\d.]+)px", f)[1]) >= 11 for f in browser.execute_script(fonts, figure)
    )
    assert browser.get_log("browser") == []


def test_the_path_tells_its_steps_and_zooms_in_one_unit(browser, written, made_run):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, written)
    figure = browser.find_element(By.ID, "figure-trajectory")
    box = figure.find_element(By.CSS_SELECTOR, ".chart")
    steps, sketches = record_of(made_run).trajectory()
    raw = analysis.principal_plane(sketches)[0]["raw"]

    def told():
        x, y = box.find_element(By.CSS_SELECTOR, ".keys b").text.split(", ")
        return box.find_element(By.CLASS_NAME, "at").text, (float(x), float(y))

    def units():
        scales = "const {scales, bbox} = arguments[0].charts[0].plot;"
        scales += "const of = (s, size) => (s.max - s.min) / size;"
        return browser.execute_script(
            f"{scales} return [of(scales.x, bbox.width), of(scales.y, bbox.height)];", figure
        )

    whole = units()
    assert whole[0] == pytest.approx(whole[1])
    assert told() == (f"optimizer step {int(steps[-1]):,}", pytest.approx(tuple(raw[-1]), rel=1e-3))
    box.send_keys(Keys.ARROW_LEFT)
    assert told() == (f"optimizer step {int(steps[-2]):,}", pytest.approx(tuple(raw[-2]), rel=1e-3))
    box.send_keys("+")
    assert units() == pytest.approx([each / 2 for each in whole])
    box.send_keys(Keys.ESCAPE)
    assert units() == pytest.approx(whole)
    box.find_element(By.CSS_SELECTOR, ".keys button").click()  # one path less, in the same place
    assert units() == pytest.approx(whole)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("which", "name"), [("written", "final_quality"), ("compared", "comparison_gain")]
)
def test_rows_tell_values_hide_and_zoom(browser, which, name, request):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, request.getfixturevalue(which))
    figure = browser.find_element(By.ID, f"figure-{name}")
    assert not figure.find_element(By.TAG_NAME, "img").is_displayed()  # drawn instead
    box, drawn = figure.find_element(By.CSS_SELECTOR, ".chart"), "arguments[0].charts[0]"
    lines = browser.execute_script(f"return {drawn}.axis.lines", figure)
    canvas = box.find_element(By.CSS_SELECTOR, ".u-over")

    def scale():
        scales = f"const {{min, max}} = {drawn}.plot.scales.x; return [min, max];"
        return browser.execute_script(scales, figure)

    def pixels():
        return Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB").getcolors(10**6)

    def count(colour):
        wanted = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return sum(number for number, found in pixels() if found == wanted)

    key, told = box.find_elements(By.CSS_SELECTOR, ".keys button")[0], lines[0]["across"][0]
    assert key.find_element(By.TAG_NAME, "b").text.startswith(f"{told:.4g}".removesuffix(".0"))
    whole = scale()
    assert whole[0] == 0 and max(line.get("high", 0) for line in lines) < whole[1]
    ActionChains(browser).move_to_element_with_offset(
        canvas, 0, 3 - canvas.size["height"] // 2
    ).perform()
    assert box.find_element(By.CLASS_NAME, "at").text == lines[0]["label"]
    key.click()  # twice, so that the pointer's cross is off the chart
    key.click()
    colour = lines[0]["colour"]
    before = count(colour)
    key.click()
    assert count(colour) < before - 20
    key.click()
    assert count(colour) == before
    box.send_keys("+")
    assert scale()[1] - scale()[0] == pytest.approx((whole[1] - whole[0]) / 2)
    box.send_keys(Keys.ESCAPE)
    assert scale() == whole
    assert browser.get_log("browser") == []


def test_without_scripts_figures_are_pictures(browser, written):
    from selenium.webdriver.common.by import By

    with emulated(browser, "ScriptExecutionDisabled", value=True):
        open_page(browser, written)
        pictures = browser.find_elements(By.CSS_SELECTOR, ".figures img")
        assert len(pictures) == 10 and all(each.is_displayed() for each in pictures)
        assert not any(each.is_displayed() for each in browser.find_elements(By.CLASS_NAME, "copy"))


def test_print_shows_pictures_and_opens_every_section(browser, written):
    from selenium.webdriver.common.by import By

    open_page(browser, written)
    formulas = browser.find_elements(By.CLASS_NAME, "formula")
    assert len(formulas) > 10 and not any(each.is_displayed() for each in formulas)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    with emulated(browser, "EmulatedMedia", media="print"):
        assert all(each.is_displayed() for each in formulas)
        assert not any(e.is_displayed() for e in browser.find_elements(By.CLASS_NAME, "chart"))
        pictures = browser.find_elements(By.CSS_SELECTOR, ".figures img")
        assert len(pictures) == 10 and all(each.is_displayed() for each in pictures)
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert not any(each.is_displayed() for each in formulas)


def test_commands_are_copied(browser, written):
    from selenium.webdriver.common.by import By

    open_page(browser, written)
    clipboard = "{value: {writeText: async (text) => { window.copied = text; }}}"
    browser.execute_script(f"Object.defineProperty(navigator, 'clipboard', {clipboard});")
    use = browser.find_element(By.ID, "use")
    browser.find_element(By.CSS_SELECTOR, "[data-of=use]").click()
    assert browser.execute_script("return window.copied") == use.text


def test_dark_pages_have_dark_paper_and_other_curves(browser, written):
    open_page(browser, written)
    paper = "return getComputedStyle(document.body).backgroundColor"
    curve = (
        "return document.querySelector('#figure-validation_loss').charts[0].plot.series[1].stroke()"
    )
    light = browser.execute_script(paper), browser.execute_script(curve)
    with dark(browser):
        browser.execute_async_script("setTimeout(arguments[0], 200)")  # they are drawn anew
        assert browser.execute_script(paper) == "rgb(21, 23, 27)"
        assert browser.execute_script(curve) == picture.DARK[picture.RAW_COLOUR]
    assert light == ("rgb(255, 255, 255)", picture.RAW_COLOUR)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_passes_the_accessibility_check(browser, which, mode, request):
    with dark(browser) if mode == "dark" else contextlib.nullcontext():
        open_page(browser, request.getfixturevalue(which))
        assert problems(browser) == []
    assert browser.get_log("browser") == []
