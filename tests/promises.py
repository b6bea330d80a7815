"""What each chapter's quick run must give, kept in tests/expected/<chapter>.json.

``outputs`` of the cells marked ``# NBVAL_CHECK_OUTPUT`` are compared exactly, by nbval. ``glued`` texts are
compared word by word, their numbers within ``tolerance``; a text of null may be anything.

    python -m tests.promises write [CHAPTER...]   store what the quick run gives now
    python -m tests.promises reference            write the notebooks that nbval runs, to _run/nbval
"""
from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Iterable

import jupytext
import nbformat
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from lib import paths
from lib.book import QUICK, Book, execute, glued

EXPECTED = paths.ROOT / "tests" / "expected"
NUMBER = re.compile(r"[−-]?\d+(?:\u202f\d+)*(?:\.\d+)?")


def checked_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells whose outputs nbval compares."""
    return [c for c in notebook.cells if c.cell_type == "code" and "# NBVAL_CHECK_OUTPUT" in c.source]


def read(chapter: str, folder: Path = EXPECTED) -> dict[str, Any]:
    """What was promised of a chapter; nothing if there is no file."""
    path = folder / f"{chapter}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    return {"tolerance": 0.05, "outputs": [], "glued": {}, **stored}


def write(book: Book, chapters: Iterable[str], folder: Path = EXPECTED) -> None:
    """Promise what the executed chapters give; texts that may be anything stay so."""
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in chapters:
        notebook = nbformat.read(book.run / f"{chapter}.ipynb", as_version=4)
        outputs = [[{**o, "execution_count": None} if "execution_count" in o else o for o in cell.outputs]
                   for cell in checked_cells(notebook)]
        before = read(chapter, folder)
        free = {name for name, text in before["glued"].items() if text is None}
        texts = {name: None if name in free else text for name, text in glued(notebook).items()}
        promise = {"tolerance": before["tolerance"], "outputs": outputs, "glued": texts}
        (folder / f"{chapter}.json").write_text(json.dumps(promise, indent=1, ensure_ascii=False) + "\n")


def agrees(text: str, promised: str | None, tolerance: float) -> bool:
    """Whether two texts say the same: equal words, numbers within tolerance or two units of the last digit."""
    if promised is None:
        return True
    if NUMBER.sub("#", text) != NUMBER.sub("#", promised):
        return False
    for new, old in zip(NUMBER.findall(text), NUMBER.findall(promised)):
        x, y = (float(n.replace("\u202f", "").replace("−", "-")) for n in (new, old))
        last = 10.0 ** -len(old.partition(".")[2]) if "." in old else 0.0
        if abs(x - y) > tolerance * abs(y) + 2 * last:
            return False
    return True


def reference(book: Book, target: Path, folder: Path = EXPECTED) -> list[Path]:
    """Write every chapter, not executed, with its promised outputs: what nbval runs and compares."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    written = [target / f"{chapter}.ipynb" for chapter in book.chapters()]
    for path in written:
        jupytext.write(jupytext.read(book.source / f"{path.stem}.md"), path)
        notebook = parameterize_notebook(load_notebook_node(str(path)), dict(book.parameters))
        promised = read(path.stem, folder)["outputs"]
        for cell, outputs in itertools.zip_longest(checked_cells(notebook), promised):
            if cell:  # a count marks it as run, so that nbval also compares a cell of which nothing was promised
                cell.execution_count, cell.outputs = 1, [nbformat.from_dict(o) for o in outputs or []]
        nbformat.write(notebook, path)
    return written


if __name__ == "__main__":
    if sys.argv[1:2] == ["reference"]:
        reference(QUICK, paths.ROOT / "_run" / "nbval")
    elif sys.argv[1:2] == ["write"]:
        chosen = sys.argv[2:] or QUICK.chapters()
        execute(QUICK, only=chosen)
        write(QUICK, chosen)
    else:
        sys.exit(__doc__)
