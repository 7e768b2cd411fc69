"""The report's page in a real browser: what a reader sees, points at, clicks and prints."""

import base64
import json
import os
import re
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest

from analysis.glossary import GLOSSARY
from analysis.report import write_report
from tests.browser import CHROMIUM, headless, wait
from tests.synthetic_study import write_study

EPOCHS = 10
AXE = Path(os.environ.get("HYBRIDEP_AXE", Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"))
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
    assert drawn == ["front", "seeds", "accuracy", "schedule", "causes", "heat", "importances", "attainment", "progress"]
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
    assert re.search(r"\d+ nudged phases, \d+ % of centered", shown)
    width, height = page.execute_script(
        "const box = document.querySelector('#front .hoverlayer .hovertext').getBoundingClientRect(); return [box.width, box.height]"
    )
    assert width < 480 and height < 110


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
    for cost in ("relaxation_steps", "nudged_phases"):
        page.execute_script("document.querySelector(`input[value='${arguments[0]}']`).click()", cost)
        titles.append(wait(page, "return document.querySelector('#front .xtitle')?.textContent"))
    assert titles == ["Relaxation steps (network updates)", "Nudged phases"]


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
    assert page.execute_script("return parseFloat(getComputedStyle(document.querySelector('#answer')).fontSize)") >= 15


def test_print_is_light_and_fits_the_paper(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    page.execute_script(
        "addEventListener('beforeprint', () => { window.printed = ['front', 'causes', 'progress']"
        ".map(id => document.getElementById(id).layout).map(layout => [layout.width, layout.paper_bgcolor]); });"
    )
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    assert page.execute_script("return window.printed") == [[640, "#ffffff"], [640, "#ffffff"], [312, "#ffffff"]]
    wait(
        page,
        "return document.getElementById('progress').layout.paper_bgcolor === '#14171a'",
    )


def test_the_page_of_200_trials_is_light(study):
    assert study[1].page.stat().st_size < 4_500_000


SCREENS = {"desktop": (1400, 900, False), "phone": (390, 844, True)}
# The boxes of names and of points in the front's figure, and of the plot that points may lie in.
BOXES = """
const boxes = (selector) => [...document.querySelectorAll(`#front ${selector}`)].map((node) => {
  const box = node.getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom];
});
return [boxes('.annotation-text-g'), boxes('.scatterlayer .trace path.point'), document.querySelectorAll('#front .annotation-text').length];
"""


def overlap(one, other, slack=1.0):
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > slack and down > slack


@pytest.fixture(scope="module", params=["few, confirmed", "40 strategies"])
def answered(request, tmp_path_factory):
    """A study as the default one, and one of 40 strategies of which some collapsed."""
    folder = tmp_path_factory.mktemp("answer") / "sweep"
    if request.param == "few, confirmed":
        return write_report(write_study(folder, trials=12, epochs=EPOCHS, confirm=(100, 101, 102, 103, 104), control=True))
    return write_report(write_study(folder, trials=40, epochs=EPOCHS, control=True))


@pytest.fixture(params=SCREENS)
def screen(request, answered, browser):
    """Its page on a desktop and on a phone."""
    width, height, mobile = SCREENS[request.param]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": "light"}]})
    browser.get(answered.page.as_uri())
    wait(browser, "return document.documentElement.dataset.complete")
    return browser, height, mobile


def test_the_first_screen_has_the_answer_and_its_picture(screen):
    browser, height, mobile = screen
    answer, figure = browser.execute_script(
        "return ['answer', 'front'].map((id) => document.getElementById(id).getBoundingClientRect()).map((box) => [box.top, box.bottom])"
    )
    assert 0 <= answer[0] < answer[1] < figure[0]
    assert (figure[0] + figure[1]) / 2 < height if mobile else figure[1] <= height


def test_no_name_in_the_figure_covers_another_or_a_point(screen, answered):
    browser, _, _ = screen
    names, points, texts = browser.execute_script(BOXES)
    assert len(names) == texts >= len(answered.answer.strategies.rivals) + 1  # the thesis's and the control are always named
    assert len(points) > len(names)
    for place, name in enumerate(names):
        assert not [other for other in names[place + 1 :] if overlap(name, other)]
        assert not [point for point in points if overlap(name, point)]


def test_no_entry_of_the_legend_is_cut(screen):
    browser, _, _ = screen
    frame, entries = browser.execute_script(
        "const right = (node) => node.getBoundingClientRect().right;"
        "return [right(document.querySelector('#front .legend .bg')), [...document.querySelectorAll('#front .legendtext')].map(right)]"
    )
    assert len(entries) >= 4 and max(entries) <= frame + 1


def test_the_main_table_fits_a_desktop_and_is_cards_on_a_phone(screen):
    browser, _, mobile = screen
    box, table, row = browser.execute_script(
        "const box = document.querySelector('.scroll'), row = box.querySelector('tbody tr');"
        "return [box.clientWidth, box.scrollWidth, getComputedStyle(row).display]"
    )
    assert table <= box + 1
    assert row == ("block" if mobile else "table-row")


def test_words_are_explained_where_they_stand_and_at_the_end(screen, answered):
    browser, _, _ = screen
    told = browser.execute_script("return [...document.querySelectorAll('#answer abbr')].map((word) => [word.textContent, word.title])")
    assert ["nudged phases", GLOSSARY["nudged phases"]] in told
    assert browser.execute_script("return document.querySelectorAll('#glossary dt').length") == len(GLOSSARY)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_bars_anyone_from_reading(screen, scheme):
    if not AXE.is_file():
        pytest.skip("no axe-core (npm install axe-core, or its axe.min.js in $HYBRIDEP_AXE)")
    browser, _, _ = screen
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    faults = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations"
        ".filter((fault) => ['serious', 'critical'].includes(fault.impact)).map((fault) => `${fault.id}: ${fault.nodes[0].html}`)))"
    )
    assert faults == []
