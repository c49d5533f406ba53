"""report.html as text: what stands in it, what does not, and that names stay names."""

import dataclasses
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from data.label_space import LabelSpace
from fewshot.evaluation.report.formatting import (
    cell,
    duration,
    percent,
    plural,
    show_all_characters,
)
from fewshot.evaluation.report.page import write_report
from tests.helpers.report_arguments import CLASSES, HOSTILE, IMAGES, arguments, picture

ALWAYS = {"routing", "least-certain", "views", "time", "settings", "unreadable"}
LABELLED = {"accuracy", "end-to-end", "parts", "domains", "calibration", "pairs"}
EMPTY = {"meta", "img", "br", "link", "base", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text between them; refuses crossed tags."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in EMPTY else [tag]

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.tags if attribute in found]

    @property
    def sections(self) -> set[str]:
        return {found["id"] for tag, found in self.tags if tag == "section"}

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def page_of(tmp_path):
    def write(**given) -> Page:
        write_report(tmp_path / "report.html", **given)
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    """The page of the kit's outcome with all that can be known of it."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, **arguments())
    return Page(path.read_text(encoding="utf-8"))


def test_same_arguments_same_bytes(tmp_path):
    write_report(tmp_path / "first", **arguments())
    with matplotlib.rc_context(
        {"axes.grid": True, "font.size": 30, "svg.fonttype": "path", "svg.hashsalt": "x"}
    ):
        write_report(tmp_path / "second", **arguments())
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_sections_follow_from_what_is_known(page, page_of):
    assert page.sections == ALWAYS | LABELLED
    assert page_of(**arguments(labels=False)).sections == ALWAYS
    known = arguments(base=len(CLASSES))
    assert page_of(**known).sections == (ALWAYS | LABELLED) - {"routing", "end-to-end"}
    assert page_of(**arguments(views=1)).sections == (ALWAYS | LABELLED) - {"views"}
    bare = arguments() | {"picture": None, "seconds": {}, "settings": {}}
    page = page_of(**bare)
    assert page.sections == (ALWAYS | LABELLED) - {"views", "time", "settings"}
    assert not page.values("src")
    one_domain = arguments()
    one_domain["label_space"] = dataclasses.replace(one_domain["label_space"], has_domains=False)
    assert page_of(**one_domain).sections == (ALWAYS | LABELLED) - {"domains"}


def test_labels_of_base_images_alone(page_of):
    given = arguments()
    given["truth"] = given["truth"] % 6
    given["scores"] |= {"end_to_end": {}}
    page = page_of(**given)
    assert page.sections == (ALWAYS | LABELLED) - {"end-to-end"}
    assert "AUROC" not in page.text and "harmonic mean –" not in page.text


def test_a_page_that_loads_nothing_and_runs_nothing(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "input"}
    assert not tags & {"b", "i", "u", "s", "em"}, "a name became a tag"
    names = {name for _, found in page.tags for name in found}
    assert not [name for name in names if name.startswith("on") or name == "autofocus"]
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href")} <= set(ids)


def test_headings_alternatives_and_language(page):
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all(found.get("alt") for tag, found in page.tags if tag == "img")
    assert all(found.get("aria-label") for tag, found in page.tags if tag == "svg")
    assert ("html", {"lang": "en"}) in page.tags


def test_hostile_names_are_shown_as_they_are(page):
    for name in HOSTILE[:5]:
        assert name in page.texts, name
    assert "שלום \\u202egpj.exe" in page.texts
    assert "Grüße \U0001f600 \\udcff\\udcfe.jpg" in page.texts
    for words in ("<script>alert(4)</script>", "\"soup\" & 'bread'", "<i>Cars</i>", "<s>Food</s>"):
        assert words in page.texts, words
    assert "is <b>cut off</b>" in page.texts


def test_numbers_on_the_page_are_those_of_the_arrays(page):
    given = arguments()
    truth, guess = given["truth"], given["predictions"].ids[:, 0]
    right = guess == truth
    base, new = right[truth < 6].mean(), right[truth >= 6].mean()
    kinds = f"{(truth < 6).sum()} images new classes {percent(new)} %"
    assert f"base classes {percent(base)} % {kinds}" in page.text
    assert f"harmonic mean {percent(2 * base * new / (base + new))} %" in page.text
    assert f"all classes {percent(right.mean())} % {IMAGES} images" in page.text
    assert "12,345" in page.text and "1 min 15 s" in page.text and "resumed" not in page.text
    assert "Report on 60 test images" in page.text and "1 image could not be read" in page.text


def test_the_heat_map_and_the_route_table_count_images(page):
    given = arguments()
    is_base = np.delete(given["truth"] < 6, 8)
    routed = np.delete(given["predictions"].routed_to_base, 8)
    kept, lost = (is_base & routed).sum(), (is_base & ~routed).sum()
    assert f"base {kept} {lost} {percent(kept / (kept + lost))}" in page.text
    domain = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    true, guess = domain[given["truth"]], domain[given["predictions"].ids[:, 0]]
    row = " ".join(str(((true == 0) & (guess == d)).sum()) for d in range(3))
    assert f"Animal {row}" in page.text


def test_unreadable_images_are_never_pictured(page_of):
    asked = []

    def noted(index, view):
        asked.append((index, view))
        return picture(index, view)

    page_of(**arguments() | {"picture": noted})
    assert len(asked) == 24 and 8 not in [index for index, _ in asked]
    assert sorted(asked[:8]) == [(index, 0) for index in range(8)]  # the kit's least sure ones


def test_all_images_unreadable(page_of):
    given = arguments()
    broken = [(name, "is empty") for name in given["predictions"].names]
    page = page_of(
        **given | {"predictions": dataclasses.replace(given["predictions"], skipped=broken)}
    )
    assert not page.sections & {"routing", "calibration", "least-certain", "views"}


def test_one_image_and_extreme_scores(page_of):
    given = arguments()
    pick = [20]
    fields = {
        name: getattr(given["predictions"], name)[pick]
        for name in ("ids", "probabilities", "routed_to_base", "view_weights")
    }
    predictions = dataclasses.replace(
        given["predictions"],
        names=["one.jpg"],
        ood_log_odds=np.array([np.inf], np.float32),
        skipped=[],
        top1_among={},
        **fields,
    )
    given |= {"predictions": predictions, "truth": given["truth"][pick], "threshold": -np.inf}
    assert "Report on 1 test image" in page_of(**given).text


def test_a_page_for_a_contest_stays_small(tmp_path):
    draw, count, classes = np.random.RandomState(0), 5000, 403
    given = arguments()
    names = tuple(f"D{k % 5}_{k}_{'x' * 40}" for k in range(classes))
    label_space = LabelSpace(names, tuple(range(374)), has_domains=True)
    ids = np.argsort(draw.rand(count, classes), axis=1)[:, :5].astype(np.int32)
    predictions = dataclasses.replace(
        given["predictions"],
        names=[f"image_{i}.jpg" for i in range(count)],
        ids=ids,
        probabilities=np.sort(draw.rand(count, 5), axis=1)[:, ::-1],
        ood_log_odds=draw.randn(count),
        routed_to_base=draw.rand(count) < 0.5,
        view_weights=draw.dirichlet(np.ones(64), count),
        skipped=[],
        top1_among={},
    )
    truth = draw.randint(0, classes, count)
    write_report(
        tmp_path / "page",
        **given | {"label_space": label_space, "predictions": predictions, "truth": truth},
    )
    assert (tmp_path / "page").stat().st_size < 3e6


def test_an_error_leaves_the_old_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")

    def vanished(index, view):
        raise FileNotFoundError("image_3.jpg")

    with pytest.raises(FileNotFoundError):
        write_report(path, **arguments() | {"picture": vanished})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truth": np.zeros(3, int)}, r"truth: is int64\[3\]"),
        ({"truth": np.zeros(IMAGES)}, "truth: is float64"),
        ({"truth": np.full(IMAGES, 8)}, "truth: 8 is no class id; there are 0 to 7"),
        ({"truth": np.full(IMAGES, -1)}, "truth: -1 is no class id"),
        ({"threshold": float("nan")}, "threshold: is NaN"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_report(tmp_path / "page", **arguments() | change)
    assert not list(tmp_path.iterdir())


def test_words_and_numbers():
    assert percent(0.75404) == "75.40" and percent(float("nan")) == "–"
    assert [cell(x) for x in (None, 1234, 0.5, np.int32(1), 1.0)] == [
        "–",
        "1,234",
        "50.00",
        "1",
        "100.00",
    ]
    spans = {0.034: "0.03 s", 0.996: "1 s", 3.21: "3.2 s", 9.96: "10 s", 59.7: "1 min 00 s"}
    spans |= {203: "3 min 23 s", 7500: "2 h 05 min"}
    assert {value: duration(value) for value in spans} == spans
    assert plural(1, "image") == "1 image" and plural(1200, "class", "classes") == "1,200 classes"
    assert (
        show_all_characters("a\nb\u2066\ufeff") == "a\\u000ab\\u2066\\ufeff"
        and show_all_characters(7) == 7
    )
