"""A browser for the tests of pages: screens, media, and the accessibility check."""

import contextlib
import os
import shutil
import warnings
from importlib import resources

import pytest


@contextlib.contextmanager
def started(profile):
    """A Chromium that reaches no network; the test is skipped where there is none."""
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


@contextlib.contextmanager
def emulated(browser, what, **settings):
    """A page as another screen or medium would show it."""
    browser.execute_cdp_cmd(f"Emulation.set{what}", settings)
    try:
        yield
    finally:
        nothing = {"DeviceMetricsOverride": "clearDeviceMetricsOverride"}.get(what)
        browser.execute_cdp_cmd(f"Emulation.{nothing or f'set{what}'}", _USUAL.get(what, {}))


_USUAL = {
    "EmulatedMedia": {"media": "", "features": []},
    "ScriptExecutionDisabled": {"value": False},
}


def screen(browser, width):
    how = {"height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    return emulated(browser, "DeviceMetricsOverride", width=width, **how)


def dark(browser):
    return emulated(
        browser, "EmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )


def problems(browser):
    """What axe-core finds wrong with the page that is open, with all of its sections open."""
    pytest.importorskip("axe_core_python", reason="axe-core-python, the checker, is not installed")
    script = resources.files("axe_core_python") / "axe.min.js"
    browser.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true));")
    browser.execute_script(script.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1]);")
    assert len(found["passes"]) > 15  # it did look
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]
