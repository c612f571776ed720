"""The site is built without a warning, its links lead somewhere, its reference is complete."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PERSON_SAYS = {
    "I have a GPU, a photo, a voice message and a clip of me gesturing": ("your_photo", "full_scale"),
    "I have 50 hours of video and eight GPUs": ("your_videos", "train_your_model", "cluster"),
    "I compare five systems on my own test set": ("measure_your_videos", "metrics"),
    "I have two cores and no network": ("train_and_align", "training"),
    "I have never used it": ("first_video", "studio"),
}
"""What a reader comes with, as the first page says it -> the pages that are for them."""


class Page(HTMLParser):
    """Addresses and anchors of a built page, and its text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.files, self.anchors, self.words = [], [], set(), []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.files += [given[name] for name in ("src",) if given.get(name)]
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.files.append(given["href"])
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the built site, by name; the build refuses every warning."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-q", "-d", folder / "state"]
    built = subprocess.run([*words, DOCS, folder / "html"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    pages = (folder / "html").rglob("*.html")
    return {path.relative_to(folder / "html").as_posix(): (path, Page(path)) for path in pages}


def inside(page, address):
    """The file that an address of a page means, and the anchor; None: it leads to another site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = page.parent / unquote(parts.path) if parts.path else page
    return target.resolve(), unquote(parts.fragment)


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site):
    by_path = {path.resolve(): page for path, page in site.values()}
    wrong = []
    for name, (path, page) in site.items():
        for address in [*page.links, *page.files]:
            found = inside(path, address)
            if found is None:
                continue
            target, anchor = found
            if not target.is_file() or (
                anchor and target in by_path and anchor not in by_path[target].anchors
            ):
                wrong.append(f"{name}: {address}")
    assert wrong == []
    assert not any(link.startswith("http:") for _, page in site.values() for link in page.links)


@pytest.mark.slow
def test_everybody_is_at_their_page_within_two_clicks(site):
    near, last = {"index.html"}, {"index.html"}
    for _ in range(2):
        targets = (inside(site[name][0], link) for name in last for link in site[name][1].links)
        reached = {found[0] for found in targets if found is not None}
        last = {name for name, (path, _) in site.items() if path.resolve() in reached}
        near |= last
    path, index = site["index.html"]
    first = {found[0].stem for found in (inside(path, link) for link in index.links) if found is not None}
    for words, pages in PERSON_SAYS.items():
        assert words in index.text
        assert set(pages) <= first, words
    for name in ("your_photo", "train_your_model", "dpo_limits", "run_a_study", "new_metric", "leaderboard"):
        assert f"{name}.html" in near, name


WIDER = """[...document.querySelectorAll("table.docutils")]
    .filter((table) => table.scrollWidth > table.parentElement.clientWidth + 1)
    .map((table) => table.querySelector("th").textContent)"""
"""The first headings of tables that are wider than their page."""


@pytest.mark.slow
def test_tables_fit_a_desk_and_pages_fit_a_phone(site, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "studio"))
    browsers = pytest.importorskip("studio_browser")
    if browsers.CHROMIUM is None or browsers.DRIVER is None:
        pytest.skip("there is no Chromium, or no chromedriver, on this machine")
    written = {name: path for name, (path, _) in site.items() if (DOCS / name).with_suffix(".md").is_file()}
    assert len(written) > 40
    with browsers.Browser(1280) as desk, browsers.Browser(390, 844, phone=True) as phone:
        for name, path in written.items():
            desk.driver.get(path.as_uri())
            assert desk.js(WIDER) == [], name
            phone.driver.get(path.as_uri())
            assert phone.js("document.documentElement.scrollWidth <= innerWidth"), name


@pytest.mark.slow
def test_the_reference_has_every_command_and_every_option(site, capsys):
    from test_docs import documented_calls

    from hallo4.cli.front_door import COMMANDS, main

    text = site["generated/command_line.html"][1].text
    for name in {*COMMANDS, *documented_calls()}:
        assert f"hallo4 {name}" in text, name
        assert main([*name.split(), "--help"]) == 0
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
        assert [option for option in options if option not in text] == [], name


@pytest.mark.slow
def test_the_reference_has_the_public_names_with_their_words(site):
    for room, names in {
        "pipelines": ("PortraitAnimator", "animate(", "embedded_models", "Finished windows are kept beside"),
        "evaluation": ("frechet_distance", "EVALUATION_SEEDS"),
        "motion": ("draw_skeleton", "Pictures [T, H, W, 3] uint8 RGB of skeleton"),
        "types": ("Skeleton", "B batch"),
    }.items():
        text = site[f"generated/python_{room}.html"][1].text
        assert [name for name in names if name not in text] == [], room
    assert "window_frames" in site["generated/model_folder.html"][1].text
    assert "ratings.jsonl" in site["generated/files.html"][1].text


@pytest.fixture
def of_docs(monkeypatch):
    """Modules of docs/ by name."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Plain *stars* and a_b | c.", r"Plain \*stars\* and a\_b \| c."),
        ("Code `x * y` stays.", "Code ``x * y`` stays."),
        (
            "Announced::\n\n    a   b\n\n    c\n\nAfter.",
            "Announced:\n\n::\n\n       a   b\n   \n       c\n\nAfter.",
        ),
        (
            "Raises:\n    OneError: this\n        and that.\n    Two: more.",
            "**Raises**\n\n* OneError: this and that.\n* Two: more.",
        ),
        ("* one\n  goes on\n* two", "* one goes on\n* two"),
    ],
)
def test_docstrings_are_plain_text_and_not_markup(of_docs, said, meant):
    lines = of_docs("site_reference").safe_lines(said.splitlines())
    assert "\n".join(lines).strip().replace("   \n", "\n") == meant.replace("   \n", "\n")


def test_help_is_read_into_options_and_their_words(of_docs):
    help_text = "\n".join(
        [
            "usage: hallo4 x [-h] [OPTIONS] A",
            "",
            "Do it.",
            "",
            "╭─ options ───╮",
            "│ -h, --help  show this │",
            "│ --long-name N │",
            "│             what it is, │",
            "│             and more │",
            "╰─────────────╯",
        ]
    )
    usage, described, boxes = of_docs("site_commands").read_help(help_text)
    assert (usage, described) == ("hallo4 x [OPTIONS] A", "Do it.")
    assert boxes == {"options": [("-h, --help", "show this"), ("--long-name N", "what it is, and more")]}


def test_types_are_said_in_words_of_json(of_docs):
    from typing import Annotated, Any, Literal

    from hallo4.ranges import Range

    said = of_docs("site_records").said
    assert said(Annotated[int, Range(1, 5)] | None) == "whole number, 1 to 5 or null"
    assert said(tuple[tuple[int, int], ...]) == "list of (list of 2 x (whole number))"
    assert said(dict[str, Any]) == "object: text → (anything)"
    assert said(Literal["a", "b"]) == "one of `a`, `b`"


def test_pictures_of_the_explanation_are_drawn_by_the_script(of_docs):
    """What the first picture says of frames and latents is what the model's rule says."""
    pytest.importorskip("matplotlib")
    figure = of_docs("explanation_pictures").temporal_motion_modulation()
    words = [text.get_text() for text in figure.axes[0].texts]
    assert [word for word in words if word.isdigit()] == ["0"] * 4 + [str(number) for number in range(1, 13)]
    assert [word for word in words if word.startswith("latent ") and word[-1].isdigit()] == [
        f"latent {number}" for number in range(4)
    ]
