"""The pipeline: what it refuses, what it leaves behind, what it does not do twice."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lib import book as pipeline
from lib import paths
from tests import promises

TOC = "format: jb-book\nroot: chapters/index\n"
HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

```{code-cell} python
:tags: [parameters]

n = 2
quick = False
```

"""


@pytest.fixture
def small_book(tmp_path: Path) -> pipeline.Book:
    """A book of one good chapter, one that fails and one page of text."""
    source = tmp_path / "chapters"
    source.mkdir()
    (tmp_path / "_toc.yml").write_text(TOC + "chapters:\n- file: chapters/good\n- file: chapters/bad\n")
    (source / "index.md").write_text("# Text\n")
    (source / "good.md").write_text(HEADER + "```{code-cell} python\n# NBVAL_CHECK_OUTPUT\nprint(n + 1)\n```\n")
    (source / "bad.md").write_text(HEADER + "```{code-cell} python\nprint('before')\n[][n]\n```\n")
    return pipeline.Book(root=tmp_path, run=tmp_path / "_run", site=tmp_path / "_build" / "html")


def cell(*outputs, **metadata):
    """One executed code cell."""
    return new_code_cell("x", outputs=list(outputs), metadata=metadata)


def test_pages_and_chapters_in_reading_order(small_book):
    assert small_book.pages() == ["index", "good", "bad"]
    assert small_book.chapters() == ["good", "bad"]


def test_pages_of_parts(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        TOC + "parts:\n- caption: A\n  chapters:\n  - file: chapters/one\n"
        "- caption: B\n  chapters:\n  - file: chapters/two\n")
    assert pipeline.Book(root=tmp_path).pages() == ["index", "one", "two"]


def test_chapter_runs_with_parameters_once_and_a_failure_leaves_nothing_to_publish(small_book):
    book = pipeline.Book(small_book.root, small_book.run, small_book.site, (("n", 40),))
    assert pipeline.execute(book, only=["good"]) == ["good"]
    notebook = nbformat.read(book.run / "good.ipynb", as_version=4)
    assert notebook.cells[-1].outputs[0].text == "41\n"
    assert "papermill" not in json.dumps(notebook) and str(book.root) not in json.dumps(notebook)
    assert pipeline.execute(book, only=["good"]) == []

    (book.source / "good.md").write_text((book.source / "bad.md").read_text())
    with pytest.raises(pipeline.ChapterError) as caught:
        pipeline.execute(book, only=["good"])
    assert str(caught.value).startswith("chapters/good.md failed in code cell 3:")
    assert str(caught.value).endswith("IndexError: list index out of range")
    assert [f for f in book.run.rglob("*") if f.is_file()] == []


def test_fingerprint_follows_source_and_parameters(small_book):
    source = small_book.source / "good.md"
    before = pipeline.fingerprint(source, {})
    assert pipeline.fingerprint(source, {"n": 3}) != before == pipeline.fingerprint(source, {})
    source.write_text(source.read_text() + "\n")
    assert pipeline.fingerprint(source, {}) != before


def test_unknown_parameter_is_refused(small_book):
    book = pipeline.Book(small_book.root, small_book.run, small_book.site, (("m", 40),))
    with pytest.raises(pipeline.ChapterError, match=r"good.md: unknown parameter 'm' \(allowed: n, quick\)"):
        pipeline.execute(book, only=["good"])


def test_unknown_chapter_is_refused(small_book):
    with pytest.raises(pipeline.ChapterError, match=r"no chapter 'gone' \(allowed: good, bad\)"):
        pipeline.execute(small_book, only=["gone"])


IMAGE = new_output("display_data", data={"image/svg+xml": "<svg/>", "text/plain": "x"})


@pytest.mark.parametrize("bad, told", [
    (cell(new_output("error", ename="KeyError", evalue="'a'", traceback=[])), "code cell 1: KeyError: 'a'"),
    (cell(new_output("stream", name="stderr", text="UserWarning: odd\n")), "to stderr: UserWarning: odd"),
    (cell(IMAGE, mystnb={"figure": {"caption": "c"}}), "its figure has no alternative text"),
    (cell(IMAGE, mystnb={"image": {"alt": "a"}}), "its figure has no caption"),
    (cell(new_output("stream", name="stdout", text=f"{paths.ROOT}/data\n")), "shows a path of this machine"),
])
def test_problems_are_found(bad, told):
    found = pipeline.problems(new_notebook(cells=[bad]))
    assert len(found) == 1 and told in found[0]


def test_clean_notebook_has_no_problems():
    good = cell(IMAGE, mystnb={"figure": {"caption": "c"}, "image": {"alt": "a"}})
    hidden = cell(IMAGE, tags=["remove-output"])
    assert pipeline.problems(new_notebook(cells=[good, hidden, cell(new_output("stream", text="1\n"))])) == []


def test_glued_texts_are_read():
    output = new_output("display_data", metadata={"scrapbook": {"name": "tau", "mime_prefix": "a"}},
                        data={"application/papermill.record/text/plain": "'0.87 (0.84 to 0.90)'"})
    assert pipeline.glued(new_notebook(cells=[cell(output)])) == {"tau": "0.87 (0.84 to 0.90)"}


@pytest.mark.parametrize("text, promised, same", [
    ("0.87 (0.84 to 0.90)", "0.88 (0.84 to 0.92)", True),
    ("0.87 (0.84 to 0.90)", "0.97 (0.84 to 0.90)", False),
    ("−0.40", "0.40", False),
    ("12 boards", "12 boards", True),
    ("12 boards", "14 boards", False),
    ("1\u202f024", "1\u202f030", True),
    ("Fusion", "Shadow", False),
    ("Fusion", None, True),
    ("3 of 5", "3", False),
])
def test_glued_texts_agree_within_tolerance(text, promised, same):
    assert promises.agrees(text, promised, 0.05) is same


def test_promises_are_stored_and_put_into_the_notebooks_for_nbval(small_book, tmp_path):
    small_book.run.mkdir()
    executed = jupytext.read(small_book.source / "good.md")
    executed.cells[-1].outputs = [new_output("stream", text="3\n")]
    nbformat.write(executed, small_book.run / "good.ipynb")
    promises.write(small_book, ["good"], tmp_path / "expected")
    book = pipeline.Book(small_book.root, small_book.run, small_book.site, (("quick", True),))
    good, other = (nbformat.read(p, as_version=4)
                   for p in promises.reference(book, tmp_path / "nbval", tmp_path / "expected"))
    assert promises.checked_cells(good)[0].outputs[0].text == "3\n"
    assert "quick = True" in json.dumps(good)
    assert all(not c.get("outputs") for c in other.cells)


def test_nbval_refuses_a_broken_promise(small_book, tmp_path):
    """The gate itself: a promised output that the chapter no longer gives fails under nbval."""
    (tmp_path / "expected").mkdir()
    wrong = {"outputs": [[{"output_type": "stream", "name": "stdout", "text": "4\n"}]], "glued": {}}
    (tmp_path / "expected" / "good.json").write_text(json.dumps(wrong))
    # Of the other chapter nothing was promised.
    (small_book.source / "bad.md").write_text((small_book.source / "good.md").read_text())
    promises.reference(small_book, tmp_path / "nbval", tmp_path / "expected")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax",
               "--nbval-current-env", "--color=no", "--rootdir", tmp_path, "-c", "/dev/null", tmp_path / "nbval"]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "2 failed, 4 passed" in result.stdout, result.stdout
    assert "assert reference_output == test_output failed" in result.stdout


def test_failed_pages_keep_the_old_site(small_book):
    (small_book.source / "bad.md").unlink()
    (small_book.root / "_toc.yml").write_text(TOC)
    (small_book.root / "_config.yml").write_text("title: T\nonly_build_toc_files: true\n")
    index = pipeline.build(small_book)
    assert index.exists()
    (small_book.source / "index.md").write_text("# Text\n\nSee {ref}`nowhere`.\n")
    with pytest.raises(pipeline.ChapterError, match=r"chapters/index.md:3: WARNING: undefined label: 'nowhere'"):
        pipeline.build(small_book)
    assert index.exists()
    (small_book.source / "index.md").write_text("# Text\n")
    assert pipeline.build(small_book) == index


def test_grid_is_read_and_bad_words_are_refused():
    assert pipeline.parse_grid(["seed=0,1", "quick=true"]) == {"seed": [0, 1], "quick": [True]}
    for bad in ("seed", "seed=", "=1", "a b=1"):
        with pytest.raises(pipeline.ChapterError, match="is not of the form name=value"):
            pipeline.parse_grid([bad])


def test_command_line_says_what_is_wrong(capsys):
    assert pipeline.main(["sweep", "no_such_chapter", "seed=0"]) == 1
    assert "no chapter 'no_such_chapter'" in capsys.readouterr().err
