"""Every chapter: what its source must have, what its quick run must give, what its page must offer a reader.

The cells marked ``# NBVAL_CHECK_OUTPUT`` are compared by nbval (``make test``), which executes each chapter
anew.
"""
from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
import nbformat
import pytest

from lib import book as pipeline
from tests import promises

BOOK = pipeline.QUICK
CHAPTERS = BOOK.chapters()
NUMBERED = [c for c in CHAPTERS if re.match(r"\d\d_", c)]
GLUE = re.compile(r"\{glue:\w*\}`[^`]*`")
#: A number of its own: not part of a name (int8, RQ1), a term (top-1, hit@3) or an identifier in code.
NUMBER = re.compile(r"(?<![\w@.\-–−])[\d]+(?:[.,]\d+)*(?![\w\-])")


def source(chapter: str) -> nbformat.NotebookNode:
    """The chapter's text as a notebook."""
    return jupytext.read(BOOK.source / f"{chapter}.md")


def section(text: str, title: str) -> str:
    """Text under a heading, up to the next heading of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def typed_numbers(text: str) -> list[str]:
    """Numbers in a text that were typed by hand, not glued."""
    text = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    for pattern in (GLUE, re.compile(r"\{\w+\}`[^`]*`"), re.compile(r"`[^`]*`"), re.compile(r"\]\([^)]*\)")):
        text = pattern.sub("", text)
    return NUMBER.findall(text)


# ------------------------------------------------------------------------------------------------ sources

def test_every_page_is_in_the_table_of_contents():
    assert sorted(p.stem for p in BOOK.source.glob("*.md")) == sorted(BOOK.pages())


def test_numbered_chapters_are_notebooks_in_reading_order():
    numbered = [p for p in BOOK.pages() if re.match(r"\d\d_", p)]
    assert numbered == sorted(numbered) == NUMBERED


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_header_names_the_kernel_and_its_language(chapter):
    assert dict(source(chapter).metadata.kernelspec) == {
        "display_name": "Python 3", "language": "python", "name": "python3"}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_one_parameters_cell_with_a_quick_switch(chapter):
    cells = [c for c in source(chapter).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    pipeline.check_parameters(source(chapter), {"quick": True}, chapter)


@pytest.mark.parametrize("chapter", NUMBERED)
def test_findings_are_glued_not_typed(chapter):
    findings = section((BOOK.source / f"{chapter}.md").read_text(), "Findings")
    assert GLUE.search(findings), "a Findings section needs at least one glued number"
    assert typed_numbers(findings) == []


def test_typed_numbers_are_told_from_names():
    assert typed_numbers("tau of 0.87 on 5 boards, 1,024 and 30 %") == ["0.87", "5", "1,024", "30"]
    assert typed_numbers("% a comment: 5\n{glue:text}`x` int8 RQ1 top-1 hit@3 `n = 4` {numref}`fig-2` [page](a_1.md) v2") == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_some_output_is_promised(chapter):
    promised = promises.read(chapter)
    assert len(promised["outputs"]) == len(promises.checked_cells(source(chapter))) > 0
    assert all(promised["outputs"]), "a checked cell gives no output"


# ------------------------------------------------------------------------------------------------ quick run

@pytest.fixture(scope="module")
def site() -> Path:
    """Folder of the built quick pages; nothing is done if they are up to date."""
    return pipeline.build(BOOK).parent


@pytest.fixture(params=CHAPTERS)
def executed(request, site) -> nbformat.NotebookNode:
    """One executed chapter."""
    notebook = nbformat.read(BOOK.run / f"{request.param}.ipynb", as_version=4)
    notebook.metadata.chapter = request.param
    return notebook


def test_executed_chapter_may_be_published(executed):
    assert pipeline.problems(executed) == []


def test_glued_texts_are_as_promised(executed):
    promised = promises.read(executed.metadata.chapter)
    glued = pipeline.glued(executed)
    assert glued.keys() == promised["glued"].keys()
    wrong = {name: (text, promised["glued"][name]) for name, text in glued.items()
             if not promises.agrees(text, promised["glued"][name], promised["tolerance"])}
    assert wrong == {}


def test_every_glued_text_is_used(executed, site):
    pages = "\n".join(p.read_text() for p in BOOK.source.glob("*.md"))
    used = {key.split("::")[-1].split(":")[0] for key in re.findall(r"\{glue:\w*\}`([^`]*)`", pages)}
    assert set(pipeline.glued(executed)) <= used


# ------------------------------------------------------------------------------------------------ pages

class Page(HTMLParser):
    """What the checks need of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[str | None] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.language = ""
        self._article = False
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        self._article |= tag == "article"
        if tag == "html":
            self.language = values.get("lang") or ""
        if tag in ("script", "img") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if self._article:
            self.tags.append(tag if tag != "table" else f"table.{values.get('class', '')}")
            if tag == "img":
                self.images.append(values.get("alt"))

    def handle_endtag(self, tag):
        self._article &= tag != "article"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    """Every page of the table of contents."""
    return {p: Page(p) for p in sorted((site / "chapters").glob("*.html"))}


def test_every_page_was_built(pages):
    assert {p.stem for p in pages} == set(BOOK.pages())


def test_pages_say_their_language_and_have_one_title(pages):
    assert [p.name for p, page in pages.items() if page.language != "en" or page.tags.count("h1") != 1] == []


def test_every_image_has_a_text(pages):
    assert [p.name for p, page in pages.items() if not all(page.images)] == []


def test_pages_load_nothing_from_elsewhere(pages):
    away = {(p.name, url) for p, page in pages.items() for url in page.loaded if urlsplit(url).netloc}
    assert away == set()


def test_links_inside_the_book_lead_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].ids if target in pages else None
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and known is not None and anchor not in known):
                lost.append((path.name, link))
    assert lost == []


def test_tables_are_made_for_readers(pages):
    raw = [p.name for p, page in pages.items() if any(t.startswith("table.dataframe") for t in page.tags)]
    assert raw == [], "use lib.figures.show_table"


def test_no_page_shows_a_traceback(pages):
    assert [p.name for p, page in pages.items() if "Traceback (most recent call last)" in page.text] == []
