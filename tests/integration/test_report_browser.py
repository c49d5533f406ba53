"""report.html in Debian's Chromium, at the widths of a desktop and of a phone.

Skipped if there is no Chromium. With REQUIRE_BROWSER=1 a missing Chromium is a failure.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.evaluation.report.page import write_report
from tests.helpers.report_arguments import arguments

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SECTIONS = (
    "accuracy end-to-end parts domains routing calibration pairs least-certain views time settings "
    "unreadable"
).split()
PICTURES = 24
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --no-first-run "
    "--disable-component-update --disable-sync"
).split()
POLICY = "<meta http-equiv"  # begins the line that forbids scripts and requests


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium with an empty profile of its own."""
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium: apt-get install chromium"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, **arguments())
    return path


def complaints(browser, path: Path, width: str, scheme: str = "light", screenshot=None) -> list:
    """Returns everything wrong with a page: messages, dialogs, requests, overflow, pictures."""
    messages = []
    horizontal, vertical = WIDTHS[width]
    context = browser.new_context(
        viewport={"width": horizontal, "height": vertical}, offline=True, color_scheme=scheme
    )
    page = context.new_page()

    def heard(message):
        if message.type in ("error", "warning"):
            messages.append(f"console: {message.text}")

    def requested(request):
        if request.url != path.as_uri() and not request.url.startswith("data:"):
            messages.append(f"request: {request.url}")

    def asked(dialog):
        messages.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", heard)
    page.on("pageerror", lambda error: messages.append(f"page error: {error}"))
    page.on("request", requested)
    page.on("requestfailed", lambda request: messages.append(f"failed: {request.url[:80]}"))
    page.on("dialog", asked)
    page.goto(path.as_uri(), wait_until="load")
    if screenshot is not None:
        page.screenshot(path=screenshot, full_page=True)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    if wide > horizontal:
        messages.append(f"overflow: {wide} pixels wide at {horizontal}")
    pictures = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    if 0 in pictures or len(pictures) != PICTURES:
        messages.append(f"pictures: {len(pictures)}, {pictures.count(0)} of them empty")
    there = page.evaluate(
        "[...document.querySelectorAll('section')].filter(s => s.offsetHeight > 60).map(s => s.id)"
    )
    if there != SECTIONS:
        messages.append(f"sections: {there}")
    context.close()
    return messages


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_and_the_picture_is_of_its_scheme(
    browser, report, tmp_path, width, scheme
):
    picture = tmp_path / "page.png"
    assert complaints(browser, report, width, scheme, picture) == []
    pixels = np.asarray(Image.open(picture).convert("L"), int)
    assert pixels.shape[1] == WIDTHS[width][0] and pixels.shape[0] > 3000
    paper = np.bincount(pixels.ravel()).argmax()
    assert paper > 200 if scheme == "light" else paper < 60
    ink = pixels < 80 if scheme == "light" else pixels > 180
    assert 0.005 < ink.mean() < 0.4


SCRIPT = "<script>{}</script></body>"
DAMAGE = {  # a change of the page, and the complaint that must follow
    "picture": (lambda t: t.replace("base64,/9j/", "base64,AAAA", 1), "pictures: 24, 1 of"),
    "no picture": (lambda t: t.replace("<img ", "<span ", 1), "pictures: 23, 0 of"),
    "overflow": (
        lambda t: t.replace("<main>", '<main><p style="width: 1400px; max-width: none">wide</p>'),
        "overflow: 14",
    ),
    "long name": (lambda t: t.replace("overflow-wrap: anywhere", ""), "overflow: "),
    "section": (lambda t: t.replace('<section id="time">', '<section id="t" hidden>'), "sections:"),
    "script": (lambda t: t.replace("</body>", SCRIPT.format("1")), "console: "),
    "console": (
        lambda t: t.replace(POLICY, "<meta name").replace(
            "</body>", SCRIPT.format("console.warn('hm')")
        ),
        "console: hm",
    ),
    "page error": (
        lambda t: t.replace(POLICY, "<meta name").replace("</body>", SCRIPT.format("nothing()")),
        "page error: ",
    ),
    "unescaped": (
        lambda t: t.replace(POLICY, "<meta name").replace("&lt;", "<").replace("&gt;", ">"),
        "dialog: 1",
    ),
    "request": (
        lambda t: t.replace(POLICY, "<meta name").replace(
            "</main>", '<img src="http://127.0.0.1:9/a.png"></main>'
        ),
        "request: http://127.0.0.1:9/a.png",
    ),
    "file beside": (
        lambda t: t.replace(POLICY, "<meta name").replace("</main>", '<img src="a.png"></main>'),
        "request: file:",
    ),
    "blocked": (
        lambda t: t.replace("</main>", '<img src="http://127.0.0.1:9/a.png"></main>'),
        "console: ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_damage_is_noticed(browser, report, tmp_path, kind):
    damage, complaint = DAMAGE[kind]
    text = report.read_text(encoding="utf-8")
    damaged = tmp_path / "damaged.html"
    damaged.write_text(damage(text), encoding="utf-8")
    assert damage(text) != text
    messages = complaints(browser, damaged, "phone")
    assert any(line.startswith(complaint) for line in messages), messages
