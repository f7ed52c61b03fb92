import base64
import hashlib
import io
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from results.artifacts import Gallery, worst_flips
from results.figures import main as draw_figures
from results.finished import finished_comparisons
from results.metrics import METRICS, pair
from results.report import main, number, report
from results.store import Store
from tests.results.store_making import diverge, finish, plan, publish

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["zero", "<b>one</b>", "two & more", "[red]three", "four", "five"]
NASTY = "\x1b[31m\x00\udce9"


def add_gallery(store, record, side=8) -> None:
    old = store.predictions(store.read(record.run["parents"][0]))
    new = store.predictions(record)
    flips = worst_flips(old, new, most=3)
    index = np.concatenate([flips.negative, flips.positive])
    images = np.broadcast_to((index % 256).astype(np.uint8)[:, None, None, None], (len(index), side, side, 3))
    attempt = store.begin(record.id)
    name = attempt.name("gallery.npz")
    files = {name: attempt.write(name, Gallery(index=index, images=images).to_bytes())}
    environment = {"class_names": NAMES, "versions": {"torch": "2.15.0"}, "git_sha": "abc", "git_dirty": True}
    history = store.history(record)
    publish(attempt, replace(record, files=files, environment=environment), new, history=history)


@pytest.fixture(scope="module")
def telling(tmp_path_factory) -> Store:
    """A store with galleries, class names that look like markup, and a run that diverged."""
    store = Store(tmp_path_factory.mktemp("telling") / "runs")
    for run in plan():
        if run.role == "candidate" and run.method == "mpt-kl" and run.seed == 2:
            diverge(store, run, "<script>alert(1)</script>")
            continue
        record = finish(store, run)
        if run.role == "candidate":
            add_gallery(store, record)
    return store


@pytest.fixture(scope="module")
def page(telling) -> str:
    return report(finished_comparisons(telling.root))


class Reader(HTMLParser):
    """Checks that tags are closed, and collects what a page refers to."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links)
    assert reader.tags.count("script") == 1
    assert re.search(r"https?://", without_script(page)) is None


def without_script(page) -> str:
    return re.sub(r"<script>.*</script>", "<script></script>", page, flags=re.DOTALL)


def test_the_page_allows_its_own_script_and_no_other(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"script-src [^;]*", policy) == [f"script-src 'sha256-{digest}'"]


def test_names_and_reasons_are_text_and_never_markup(page):
    assert without_script(page).count("<script") == 1
    assert "<b>one</b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;one&lt;/b&gt;" in page


def test_the_page_tells_tables_flips_and_provenance(page):
    for words in (
        "mpt-kl (2 of 3 seeds)",
        "plain, retrained",
        "Negative flips",
        "Positive flips",
        "torch 2.15.0",
    ):
        assert words in page
    assert "<dt>git dirty</dt><dd>True</dd>" in page


def without_pictures(page, store) -> str:
    """The page without pictures, recipes (which other rooms decide) and insignificant white space."""
    said = without_script(page).replace(str(store.root), "runs")
    for changing in (
        r"'sha256-[^']*'",
        r"data:image/png;base64,[A-Za-z0-9+/=]+",
        r"<style>.*?</style>",
        r"epochs=2 [^<]*",
    ):
        said = re.sub(changing, "", said, flags=re.DOTALL)
    return re.sub(r"\s*(<[^>]*>)\s*", r"\1", said)


def test_the_page_is_as_ever(page, telling):
    expected = without_pictures((GOLDEN / "report.html").read_text(), telling)
    assert without_pictures(page, telling) == expected


def test_a_summary_names_the_best_method_of_each_setting_and_whether_it_is_told_apart(page):
    summary = re.search(r'<table class="sortable summary".*?</table>', page, re.DOTALL).group()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", summary)
    assert cells[0].startswith('<a href="#comparison-1">digits: ')
    assert cells[1:3] == ["pct-kl", "11.67±3.82"]  # mpt-kl lacks a seed
    assert cells[-1] == "1"  # one run diverged
    assert cells[-2].endswith(" of 1")


def test_columns_say_what_they_mean(page):
    for metric in (METRICS["nfr"], METRICS["churn"]):
        assert f'<abbr title="{escape(metric.meaning)}">{metric.title}</abbr>' in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [("18.06±4.28", "18.06"), ("-3.89±3.34 ", "-3.89"), ("+1,234.5", "1234.5"), ("-", ""), ("failed", "")],
)
def test_a_cell_sorts_by_the_number_that_it_begins_with(text, expected):
    assert number(text) == expected


def test_settings_that_differ_in_their_recipe_alone_are_told_apart(store):
    for run in plan(methods=("none",), seeds=(0,)) + plan(methods=("none",), seeds=(0,), epochs=4):
        finish(store, run)
    titles = re.findall(r"<h2>(.*?)</h2>", report(finished_comparisons(store.root)))
    assert sorted(title.rpartition(", ")[2] for title in titles) == ["epochs=2", "epochs=4"]


def test_settings_come_by_network_and_then_by_the_size_of_the_numbers_in_their_recipes(store):
    for arch, epochs in (("resnet152", 3), ("resnet18", 100), ("resnet18", 20), ("resnet50", 3)):
        for run in plan(methods=("none",), seeds=(0,), arch=arch, epochs=epochs):
            finish(store, run)
    page = report(finished_comparisons(store.root))
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    told = [(re.search(r"resnet\d+", title).group(), title.partition("epochs=")[2]) for title in titles]
    assert told == [("resnet18", "20"), ("resnet18", "100"), ("resnet50", ""), ("resnet152", "")]
    assert re.findall(r'<a href="#comparison-\d">(.*?)</a>', page) == titles


def test_large_images_are_reduced_and_small_ones_kept_as_they_are(store):
    record = [finish(store, run) for run in plan(methods=("none",), seeds=(0,))][-1]
    add_gallery(store, record, side=400)
    page = report(finished_comparisons(store.root))
    images = [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'class="photograph"[^>]*base64,([^"]*)"', page)
    ]
    assert images
    assert {image.size for image in images} == {(200, 200)}


def test_the_same_records_give_the_same_page(page, telling):
    assert report(finished_comparisons(telling.root)) == page


def test_the_worst_flips_are_those_that_were_surest(finished_store):
    candidate = next(r for r in finished_store.records() if r.run["label"] == "none")
    old = finished_store.predictions(finished_store.read(candidate.run["parents"][0]))
    both = pair(old, finished_store.predictions(candidate))
    flips = worst_flips(both.old, both.new, most=4)
    sure = sorted(both.new.confidence[both.negative], reverse=True)[:4]
    assert [both.new.confidence[both.old.index == i][0] for i in flips.negative] == sure
    assert len(worst_flips(both.old, both.new, most=10**6).positive) == both.positive.sum()


def test_a_gallery_survives_its_file_and_must_fit_together():
    made = Gallery(index=np.array([4, 2]), images=np.zeros((2, 8, 9, 3), np.uint8))
    again = Gallery.from_bytes(made.to_bytes())
    assert (again.index.tolist(), again.images.shape) == ([4, 2], (2, 8, 9, 3))
    with pytest.raises(ValueError, match="gallery: 1 samples, but images"):
        Gallery(index=np.array([4]), images=made.images)


def test_the_command_reports_a_store_without_galleries_too(store, tmp_path, capsys):
    for run in plan(methods=("none",), seeds=(0,)):
        finish(store, run)
    assert main([f"runs={store.root}", f"out={tmp_path / 'report.html'}"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "No record keeps images of its flips." in page


def test_control_characters_and_markup_in_names_reach_neither_page_nor_figures(store, tmp_path, capsys):
    for run in plan(methods=("none",), seeds=(0,)):
        record = finish(store, run)
        predictions = store.predictions(record)
        attempt = store.begin(run.id)
        names = [f"{name}{NASTY}$" for name in NAMES]
        publish(attempt, replace(record, environment={"class_names": names, "host": NASTY}), predictions)
    out = tmp_path / "[red]a[/b]"
    out.mkdir(parents=True)
    assert main([f"runs={store.root}", f"out={out}/report.html"]) == 0
    assert draw_figures([f"runs={store.root}", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "[red]a[/b]" in printed
    for path in out.iterdir():
        if path.suffix != ".png":
            text = without_script(path.read_text(encoding="utf-8"))
            assert all(character.isprintable() or character == "\n" for character in text), path
    for path in out.glob("*.svg"):
        ElementTree.parse(path)


def test_a_mistake_is_one_line_and_exit_code_2(finished_store, tmp_path, capsys):
    assert main([f"runs={tmp_path / 'nowhere'}"]) == 2
    assert main([f"runs={finished_store.root}", f"out={tmp_path}/no/folder/report.html"]) == 2
    assert main([f"runs={finished_store.root}", f"out={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "a folder; name a file in it" in err


def test_a_missing_store_is_named(tmp_path, capsys):
    assert main([f"runs={Store(tmp_path / 'x').root}"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_several_processes_make_the_same_page(store, tmp_path, monkeypatch):
    for epochs in range(2, 6):
        for run in plan(methods=("none",), seeds=(0,), references=0, epochs=epochs):
            finish(store, run)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    out = tmp_path / "report.html"
    assert main([f"runs={store.root}", f"out={out}"]) == 0
    assert out.read_text() == report(finished_comparisons(store.root))
