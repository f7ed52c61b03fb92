"""The report as a person meets it: opened in a Chromium, with clicks and typing."""

import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from results.artifacts import Gallery, worst_flips
from results.figures import FIGURES
from results.finished import finished_comparisons
from results.report import report
from results.store import Store
from tests.results.store_making import finish, plan, publish

METHODS = ("none", "pct-kl", *(f"mpt-kl[lambda=0.5,k={k}]" for k in (2, 4, 10)))
PHONE = {"width": 390, "height": 844}
LEADERBOARD, NFR = "section table.sortable", 4
"""The first table of the section, and the position of its column NFR."""
SHADE = 123
"""Every pixel of the gallery's images."""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Where the report of a small store lies; two methods err more often than the others."""
    folder = tmp_path_factory.mktemp("report")
    store = Store(folder / "runs")
    for run in plan(methods=METHODS):
        record = finish(store, run, accuracy={"pct-kl": 0.6})
        if run.role == "candidate" and run.method == "none":
            add_gallery(store, record)
    (folder / "report.html").write_text(report(finished_comparisons(store.root)), encoding="utf-8")
    return (folder / "report.html").as_uri()


def add_gallery(store, record) -> None:
    predictions = store.predictions(record)
    flips = worst_flips(store.predictions(store.read(record.run["parents"][0])), predictions, most=3)
    images = np.full((len(flips.negative), 8, 8, 3), SHADE, np.uint8)
    attempt = store.begin(record.id)
    name = attempt.name("gallery.npz")
    files = {name: attempt.write(name, Gallery(index=flips.negative, images=images).to_bytes())}
    publish(attempt, replace(record, files=files), predictions, history=store.history(record))


@pytest.fixture(scope="module")
def browser(cannot):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        cannot("no Chromium here (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        cannot("playwright is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, address):
    """Opens the report in a window of some size. Nothing may go wrong, or over the network."""
    problems, asked_for, contexts = [], [], []

    def open_in(viewport):
        context = browser.new_context(viewport=viewport)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(address)
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert problems == []
    assert {url for url in asked_for if not url.startswith("data:")} == {address}


@pytest.fixture
def page(opened):
    return opened({"width": 1200, "height": 900})


def rows(page) -> list[list[str]]:
    """The texts of the cells of the leaderboard, without the rows that stay below."""
    script = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    return page.locator(LEADERBOARD).first.locator("tbody tr").evaluate_all(script)


def labels(page) -> list[str]:
    return [row[0] for row in rows(page)]


def nfrs(page) -> list[float]:
    return [float(row[NFR].partition("±")[0]) for row in rows(page)]


def eventually(page, read, expected) -> None:
    """The page takes a click or a letter and reacts a moment later."""
    for _ in range(100):
        if read(page) == expected:
            return
        page.wait_for_timeout(20)
    assert read(page) == expected


def test_a_click_on_a_head_sorts_by_value_and_another_turns_the_order_round(page):
    unsorted = nfrs(page)
    assert sorted(unsorted) != sorted(unsorted, key=str), "sorting the texts would give another order"
    head = page.locator(LEADERBOARD).first.locator("thead th").nth(NFR)
    assert head.inner_text().strip() == "NFR"
    head.click()
    eventually(page, nfrs, sorted(unsorted))
    head.click()
    eventually(page, nfrs, sorted(unsorted, reverse=True))
    below = page.locator(LEADERBOARD).first.locator("tfoot tr td:first-child").all_inner_texts()
    assert below == ["old model", "plain, retrained"]


def test_rows_without_a_number_stay_last_in_both_orders(page):
    def differences(page):
        return [row[-1].partition("±")[0] for row in rows(page)]

    unsorted = [text for text in differences(page) if text != "-"]
    assert len(unsorted) == len(METHODS) - 1
    head = page.locator(LEADERBOARD).first.locator("thead th", has_text="NFR - plain")
    head.click()
    eventually(page, differences, [*sorted(unsorted, key=float), "-"])
    head.click()
    eventually(page, differences, [*sorted(unsorted, key=float, reverse=True), "-"])


def test_the_filter_leaves_the_rows_that_match(page):
    field = page.locator("section").get_by_placeholder("Filter rows").first
    field.fill("[lambda=0.5,k=10]")
    eventually(page, labels, ["mpt-kl[lambda=0.5,k=10]"])
    field.fill("no such method")
    eventually(page, labels, ["No row matches."])
    field.fill("")
    eventually(page, labels, ["none", *METHODS[2:], "pct-kl"])


def test_a_head_says_what_its_column_means_and_the_summary_leads_to_the_section(page):
    assert page.locator(f"{LEADERBOARD} th abbr", has_text=re.compile("^NFR$")).first.get_attribute("title")
    page.locator(".summary a").first.click()
    assert page.url.endswith("#comparison-1")
    assert page.locator("#comparison-1 h2").is_visible()


def test_pictures_of_flips_are_to_be_seen(page):
    images = page.locator(".flip img")
    assert images.count() == 3
    images.first.scroll_into_view_if_needed()
    shot = np.asarray(Image.open(io.BytesIO(images.first.screenshot())).convert("RGB"))
    assert (shot == SHADE).all(axis=2).mean() > 0.9


def test_every_figure_can_be_shown(page):
    script = """images => Promise.all(images.map(async image => {
        image.loading = "eager";
        await image.decode();
        return image.naturalWidth;
    }))"""
    widths = page.locator("figure img").evaluate_all(script)
    assert len(widths) == len(FIGURES)
    assert min(widths) > 500


def test_on_a_phone_the_page_does_not_scroll_sideways(opened):
    page = opened(PHONE)
    for details in page.locator("details:not([open]) > summary").all():
        if details.is_visible():
            details.click()
    label = page.locator(f"{LEADERBOARD} td", has_text="k=10").first
    assert label.inner_text().split() == ["mpt-kl[lambda=0.5,k=10]"]
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
