"""The report's page in a real browser: what a reader sees, points at, clicks and prints."""

import base64
import json
import re
import time
from urllib.parse import urlparse

import pytest

from analysis.report import write_report
from tests.browser import CHROMIUM, headless, wait
from tests.synthetic_study import write_study

EPOCHS = 10
LOCAL = ("file", "data", "blob", "about", "chrome", "devtools")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# The place of a strategy's marker in the window, from the axes that plotly laid out.
MARKER = """
const box = document.getElementById('front'), layout = box._fullLayout;
box.scrollIntoView({block: 'center'});
const frame = box.getBoundingClientRect();
for (const trace of box.data) {
  const at = (trace.customdata ?? []).indexOf(arguments[0]);
  const offset = (axis, value) => axis._offset + axis.l2p(value);
  if (at >= 0) return [frame.left + offset(layout.xaxis, trace.x[at]), frame.top + offset(layout.yaxis, trace.y[at])];
}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 200 strategies with its report."""
    folder = write_study(tmp_path_factory.mktemp("page") / "sweep", trials=195, epochs=EPOCHS, seeds=(0, 1, 2))
    return folder, write_report(folder)


@pytest.fixture(scope="module")
def browser():
    """One headless Chromium for all tests."""
    with headless() as driver:
        yield driver


@pytest.fixture
def page(study, browser):
    """The page, opened anew on a light, wide screen, with all figures drawn."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": "light"}]})
    browser.get(study[1].page.as_uri())
    wait(browser, "return document.documentElement.dataset.complete")
    return browser


def mouse(browser, kind, place, **more):
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": place[0], "y": place[1], **more})


def chips(browser):
    return browser.execute_script("return [...document.querySelectorAll('#chips [data-strategy]')].map(chip => chip.dataset.strategy)")


def curve_names(browser):
    return browser.execute_script("return document.getElementById('schedule').data.map(trace => trace.name)")


def test_the_page_draws_every_figure_without_complaint(page):
    drawn = page.execute_script(
        "return [...document.querySelectorAll('.plot')].filter(box => box.querySelector('.main-svg')).map(box => box.id)"
    )
    assert drawn == ["front", "accuracy", "schedule", "causes", "heat", "importances", "attainment", "progress"]
    assert page.execute_script("return document.querySelectorAll('.absent, .problem').length") == 0
    assert [entry for entry in page.get_log("browser") if entry["level"] != "INFO"] == []


def test_the_page_asks_the_network_for_nothing(page):
    page.get_log("performance")
    page.refresh()
    wait(page, "return document.documentElement.dataset.complete")
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    assert urls  # the page itself
    assert [url for url in urls if urlparse(url).scheme not in LOCAL] == []


def test_pointing_at_a_strategy_tells_what_it_is(page, study):
    name = study[1].front[1]
    place = page.execute_script(MARKER, name)
    mouse(page, "mouseMoved", (place[0] - 3, place[1] - 3))
    mouse(page, "mouseMoved", place)
    shown = wait(page, "return document.querySelector('#front .hoverlayer').textContent")
    assert name in shown
    assert "test accuracy" in shown
    assert re.search(r"trial a1b2c_\d{5}", shown)


def test_clicking_a_strategy_shows_and_hides_its_curves(page, study):
    name = next(name for name in study[1].front if name not in chips(page))
    for expected in (True, False):
        place = page.execute_script(MARKER, name)
        mouse(page, "mouseMoved", place)
        wait(page, "return document.querySelector('#front .hoverlayer').textContent")
        for kind in ("mousePressed", "mouseReleased"):
            mouse(page, kind, place, button="left", clickCount=1)
        wait(
            page,
            "return document.querySelector(`#chips [data-strategy='${arguments[0]}']`) !== null === arguments[1]",
            name,
            expected,
        )
        assert (name in curve_names(page)) == expected
        time.sleep(0.4)  # two clicks in a row would be a double click


def test_a_name_in_the_table_shows_its_curves_too(page, study):
    name = next(name for name in study[1].front if name not in chips(page))
    page.execute_script("document.querySelector(`button.pick[data-strategy='${arguments[0]}']`).click()", name)
    assert name in chips(page)
    assert name in curve_names(page)
    page.execute_script("document.getElementById('reset').click()")
    assert name not in chips(page)


def test_the_front_can_be_seen_in_every_cost(page):
    titles = []
    for cost in ("relaxation_steps", "train_seconds", "nudged_phases"):
        page.execute_script("document.querySelector(`input[value='${arguments[0]}']`).click()", cost)
        titles.append(wait(page, "return document.querySelector('#front .xtitle')?.textContent"))
    assert titles == ["Relaxation steps (network updates)", "Training time (s)", "Nudged phases"]


def test_the_page_follows_a_dark_screen(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    wait(page, "return document.getElementById('front').layout.paper_bgcolor === '#14171a'")
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def test_a_phone_shows_the_page_without_scrolling_sideways(page, study):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    page.get(study[1].page.as_uri())
    wait(page, "return document.documentElement.dataset.complete")
    assert page.execute_script("return document.documentElement.scrollWidth") == 390
    widths = page.execute_script("return [...document.querySelectorAll('.plot')].map(box => box.getBoundingClientRect().right)")
    assert max(widths) <= 390
    assert page.execute_script("return parseFloat(getComputedStyle(document.querySelector('.findings')).fontSize)") >= 15


def test_print_is_light_and_fits_the_paper(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    page.execute_script(
        "addEventListener('beforeprint', () => { window.printed = ['front', 'causes', 'progress']"
        ".map(id => document.getElementById(id).layout).map(layout => [layout.width, layout.paper_bgcolor]); });"
    )
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    assert page.execute_script("return window.printed") == [[660, "#ffffff"], [660, "#ffffff"], [322, "#ffffff"]]
    wait(
        page,
        "return document.getElementById('progress').layout.paper_bgcolor === '#14171a'",
    )


def test_the_page_of_200_trials_is_light(study):
    assert study[1].page.stat().st_size < 5_000_000
