"""The page in Chromium: wide, narrow, dark, on paper; what it asks for, says, cuts and tells."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile

import pytest

from l1kd.core import run_files
from l1kd.report.load_run import read_run
from l1kd.report.page import render
from tests.report import picture
from tests.report.browser import PAPER, Browser, browser, program

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(program() is None, reason="no Chromium on the path (apt: chromium)"),
]
AXE = "axe-core@4.14.1"
# Elements beyond an edge of the page; what is in a box that scrolls belongs to that box.
BEYOND = """
[...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  const own = element.parentElement.closest(SCROLLING);
  return box.width && !own && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((element) => element.outerHTML.slice(0, 120))
"""
OPEN = "for (const each of document.querySelectorAll('details')) each.open = true;"
# Text of figures, which axe leaves alone, with its contrast on the section's ground.
FAINT = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
  const light = (colour) => channels(colour)
    .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  return [...document.querySelectorAll("figure svg text")].map((text) => {
    const both = [getComputedStyle(text).fill,
                  getComputedStyle(text.closest("section")).backgroundColor].map(light);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  });
})()
"""


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(whole_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(read_run(whole_run)), encoding="utf-8")
    return path


def beyond(tab: Browser, scrolling: str = ".scroll, pre") -> list[str]:
    found: list[str] = tab.run(BEYOND.replace("SCROLLING", json.dumps(scrolling)))
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_is_asked_for_or_said_and_nothing_is_cut(tab, page, width, dark):
    tab.open(page, width, dark=dark)
    tab.run(OPEN)
    assert tab.asked == [page.resolve().as_uri()] and tab.said == []
    assert tab.run("document.documentElement.scrollWidth") == width
    assert beyond(tab) == []
    boxes = (
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth"
    )
    hidden = f"{boxes} && !['auto', 'scroll'].includes(getComputedStyle(box).overflowX)).length"
    assert tab.run(hidden) == 0
    ground = [
        int(each)
        for each in tab.run("getComputedStyle(document.body).backgroundColor")[4:-1].split(",")
    ]
    assert (max(ground) < 60) is dark


def test_the_checks_notice(tab, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><p style='width: 500px'>wide</p><img src='not_there.png' alt=''>"
        "<div class='scroll'><p style='width: 900px'>scrolls</p></div>"
        "<script>console.log('hello'); throw new Error('oh')</script>"
    )
    tab.open(path, 400)
    assert len(tab.asked) == 2 and len(tab.said) >= 2
    assert [each[:30] for each in beyond(tab)] == ['<p style="width: 500px">wide</']


def test_on_paper_all_is_there_and_light(tab, page):
    tab.open(page, PAPER, dark=True, printed=True)
    tab.run(OPEN)
    assert beyond(tab, ".nothing") == []
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('h1')).color") == "rgb(31, 41, 51)"
    tab.open(page, 1400)
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF") and 5 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 60
    assert tab.run("document.querySelectorAll('details:not([open])').length") > 0  # as before


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """axe-core, from the registry that npm is set to."""
    directory = tmp_path_factory.mktemp("axe")
    try:
        packed = subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=directory, capture_output=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{AXE} cannot be fetched: {error}")
    if packed.returncode:
        pytest.skip(f"{AXE} cannot be fetched: {packed.stderr.decode()[-200:]}")
    (archive,) = directory.glob("*.tgz")
    with tarfile.open(archive) as files:
        return files.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_and_alternatives_of_texts(tab, page, axe, dark):
    tab.open(page, 3000, dark=dark)
    # axe judges no text on an image, as shadows at the edges are, or that is scrolled away.
    tab.run(OPEN + "document.head.insertAdjacentHTML('beforeend',"
            "'<style>.scroll { background: none !important; }' +"
            "'.page { max-width: none !important; }</style>')")  # fmt: skip
    tab.run(f"{axe};0")
    found = tab.run(
        "axe.run().then(all => [...all.violations, ...all.incomplete.filter(each => "
        "each.id !== 'color-contrast')].map(each => "
        "[each.id, each.nodes.length, each.nodes[0].html.slice(0, 200)]))"
    )
    assert found == []
    unsure = tab.run(
        "axe.run({runOnly: ['color-contrast']}).then(all => all.incomplete.flatMap(each => "
        "each.nodes.map(node => node.html)).filter(html => !html.startsWith('<text')))"
    )
    assert unsure == []
    ratios = tab.run(FAINT)
    assert len(ratios) > 100 and min(ratios) >= 4.5


def _hover(tab: Browser, selector: str, across: float, down: float) -> str:
    """Text of the tip at a place of a figure's axes, from 0 to 1."""
    x, y = tab.run(
        f"""(() => {{
          const svg = document.querySelector({json.dumps(selector)});
          svg.scrollIntoView({{block: "center", behavior: "instant"}});
          const axes = JSON.parse(svg.dataset.axes), at = (axis, part) =>
            axis.ends[0] + part * (axis.ends[1] - axis.ends[0]);
          const point = new DOMPoint(at(axes.x, {across}), at(axes.y, {down}))
            .matrixTransform(svg.getScreenCTM());
          return [point.x, point.y];
        }})()"""
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    return str(tab.run("(tip => tip.hidden ? '' : tip.innerText)(document.querySelector('.tip'))"))


def test_values_under_the_pointer(tab, page, whole_run):
    tab.open(page, 1400)
    values = run_files.read(whole_run, "display.json").events[0].values
    row, column = 7, 3
    told = _hover(tab, "#events svg[data-axes]", (column + 0.5) / 14, (row + 0.5) / 18)
    assert told == f"η -1.39 to -1.04, φ {20 * row}°: {values[14 * row + column]:g}"
    told = _hover(tab, "#scores svg[data-axes]", 0.3, 0.5)
    first, *others = told.splitlines()
    assert first.startswith("score of teacher [output units] ")
    assert {each.split(":")[0] for each in others} == {
        "normal", *read_run(whole_run, scores=False).signals
    }  # fmt: skip
    # A ROC curve: at a false-positive rate near 1 everything is accepted.
    told = _hover(tab, "#separation figure[data-about] svg", 0.999, 0.5)
    (accepted,) = re.findall(r"^teacher: ([\d.]+) %$", told, re.MULTILINE)
    assert float(accepted) > 99
    assert _hover(tab, "#scores svg[data-axes]", -0.05, 0.5) == ""


def test_signals_are_switched_off_and_on(tab, page):
    tab.open(page, 1400)
    shown = (
        '[...document.querySelectorAll(\'[data-series="ttbar"], [data-about="ttbar"]\')]'
        ".filter(each => getComputedStyle(each).display !== 'none').length"
    )
    click = "document.querySelector('.switches button[value=\"ttbar\"]').click()"
    pressed = (
        "[...new Set([...document.querySelectorAll('button[value=\"ttbar\"]')]"
        ".map(each => each.getAttribute('aria-pressed')))].join()"
    )
    before = tab.run(shown)
    assert before > 3 and tab.run(pressed) == "true"
    tab.run(click)
    assert tab.run(shown) == 0 and tab.run(pressed) == "false"
    tab.run(click)
    assert tab.run(shown) == before


def test_without_scripts_the_page_is_whole(tab, page):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page, 400, wait=False)
        assert tab.run("document.querySelectorAll('button, .tip').length") == 0
        assert tab.run("document.querySelector('.switches').hidden")
        assert tab.run("document.querySelectorAll('figure svg').length") > 15
        assert beyond(tab) == []
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_picture_is_made_of_a_run(page, tmp_path):
    picture.make(page.parent, tmp_path / "made.png")
    assert picture.sections_of(tmp_path / "made.png") == picture.sections()
