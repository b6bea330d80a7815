"""The book's pipeline: MyST notebook -> papermill -> checks -> Jupyter Book.

Chapters are text (jupytext). Their executed copies live in ``_run``, never beside the source, and serve again
while nothing that they depend on has changed. A notebook that failed leaves nothing that could be published.
"""
from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

import jupytext
import nbformat
import papermill
import yaml
from joblib import Parallel, delayed
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from lib import paths

ANSI = re.compile(r"\x1b\[[0-9;]*m")
CELL_SECONDS = 1200


class ChapterError(Exception):
    """A chapter failed; the message names it and ends with what went wrong."""


@dataclass(frozen=True)
class Book:
    """Sources, destinations and papermill parameters of one build."""

    root: Path = paths.ROOT
    run: Path = paths.ROOT / "_run" / "book"
    site: Path = paths.ROOT / "_build" / "html"
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def source(self) -> Path:
        """Folder of the chapters."""
        return self.root / "chapters"

    def pages(self) -> list[str]:
        """Every page of the table of contents, in reading order."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text())
        entries = [toc, *toc.get("chapters", []), *(c for p in toc.get("parts", []) for c in p["chapters"])]
        return [Path(e.get("file") or e["root"]).name for e in entries]

    def chapters(self) -> list[str]:
        """The pages that are notebooks: those with a jupytext header."""
        return [p for p in self.pages() if (self.source / f"{p}.md").read_text().startswith("---\njupytext:")]


#: The book that the tests look at: the same chapters with less training.
QUICK = Book(paths.ROOT, paths.ROOT / "_run" / "quick", paths.ROOT / "_build" / "quick", (("quick", True),))


# ------------------------------------------------------------------------------------------------ execution

def digest(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents."""
    lines = [f"{f.name} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.cache
def inputs_digest() -> str:
    """Digest of what every chapter depends on: code, data, pinned packages."""
    code = [f for f in (paths.ROOT / "lib").rglob("*.py") if f.name != "book.py"]
    data = [f for f in paths.DATA.rglob("*") if f.is_file()]
    return digest([paths.ROOT / "requirements.txt", paths.ROOT / "constraints.txt", *code, *data])


def fingerprint(source: Path, parameters: Mapping[str, Any]) -> str:
    """What an executed chapter depends on, as one digest."""
    parts = [digest([source]), inputs_digest(), sorted(parameters.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def execute(book: Book, only: Iterable[str] | None = None, jobs: int | None = None) -> list[str]:
    """Execute the chapters that are out of date, in parallel, longest first; return their names.

    ChapterError of the first chapter that fails; the others are stopped.
    """
    known = book.chapters()
    chapters = list(only or known)
    if unknown := [c for c in chapters if c not in known]:
        raise ChapterError(f"no chapter '{unknown[0]}' (allowed: {', '.join(known)})")
    marks = {c: fingerprint(book.source / f"{c}.md", dict(book.parameters)) for c in chapters}
    last = {c: json.loads(r.read_text()) if (r := book.run / f"{c}.json").exists() else {} for c in chapters}
    stale = [c for c in chapters if last[c].get("mark") != marks[c]]
    stale.sort(key=lambda c: -last[c].get("seconds", float("inf")))
    if len(stale) < len(chapters):
        print(f"{len(chapters) - len(stale)} of {len(chapters)} chapters are up to date", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # chapters run side by side, one core each
    workers = Parallel(jobs or min(os.cpu_count() or 1, 4), return_as="generator_unordered")
    for chapter, seconds in workers(delayed(run_chapter)(book, c, marks[c]) for c in stale):
        print(f"  {chapter:<28} {seconds:6.0f} s", flush=True)
    return stale


def run_chapter(book: Book, chapter: str, mark: str) -> tuple[str, float]:
    """Execute one chapter and store it if it may be published; return its name and the seconds it took."""
    source, target = book.source / f"{chapter}.md", book.run / f"{chapter}.ipynb"
    record = target.with_suffix(".json")  # written last: without it the notebook does not count
    target.unlink(missing_ok=True)
    record.unlink(missing_ok=True)
    start = time.monotonic()
    notebook = run_notebook(source, dict(book.parameters))
    seconds = round(time.monotonic() - start, 1)
    if found := problems(notebook):
        raise ChapterError(f"chapters/{source.name} ran, but cannot be published:\n  " + "\n  ".join(found))
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    record.write_text(json.dumps({"mark": mark, "seconds": seconds}))
    return chapter, seconds


def run_notebook(source: Path, parameters: dict[str, Any]) -> NotebookNode:
    """Run one MyST notebook through papermill; return it without run times and paths.

    ChapterError if a parameter is unknown or a cell failed: chapter, cell and the end of the traceback.
    """
    notebook = jupytext.read(source)
    check_parameters(notebook, parameters, source.name)
    os.environ |= {"PYTHONPATH": str(paths.ROOT), "LOKY_MAX_CPU_COUNT": "1"}  # for the kernel
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it does not understand every comment behind a parameter
    try:
        executed = papermill.execute_notebook(notebook, None, parameters, kernel_name="python3", cwd=source.parent,
                                              progress_bar=False, execution_timeout=CELL_SECONDS,
                                              extra_arguments=["--log-level=CRITICAL"])
    except PapermillExecutionError as error:
        trace = ANSI.sub("", "\n".join(error.traceback)).splitlines()[-12:]
        raise ChapterError(f"chapters/{source.name} failed in code cell {error.exec_count}:\n" + "\n".join(trace)) from None
    except Exception as error:  # the kernel died, or a cell took too long
        raise ChapterError(f"chapters/{source.name} failed:\n{error}") from None
    for part in (executed, *executed.cells):
        part.metadata.pop("papermill", None)
        part.metadata.pop("execution", None)
    return executed


def check_parameters(notebook: NotebookNode, parameters: Iterable[str], name: str) -> None:
    """Refuse a parameter that the chapter does not have: papermill would only warn."""
    cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    allowed = re.findall(r"^(\w+)\s*(?::[^=]+)?=", "\n".join(cells), re.MULTILINE)
    for key in parameters:
        if key not in allowed:
            raise ChapterError(f"{name}: unknown parameter '{key}' (allowed: {', '.join(allowed) or 'none'})")


def problems(notebook: NotebookNode) -> list[str]:
    """Why an executed notebook must not be published; empty if it may.

    An error output, text on stderr, a figure without caption or alternative text, a path of this machine.
    """
    found = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        shown = cell.metadata.get("mystnb", {})
        hidden = {"remove-cell", "remove-output"} & set(cell.metadata.get("tags", []))
        told = []
        for output in cell.outputs:
            if output.output_type == "error":
                told.append(f"{output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                told.append(f"writes to stderr: {output.text.strip().splitlines()[-1]}")
            elif not hidden and any(kind.startswith("image/") for kind in output.get("data", {})):
                told += [] if shown.get("image", {}).get("alt") else ["its figure has no alternative text"]
                told += [] if shown.get("figure", {}).get("caption") else ["its figure has no caption"]
            if str(paths.ROOT) in json.dumps(output):
                told.append("shows a path of this machine")
        found += [f"code cell {number}: {text}" for text in told]
    return found


def glued(notebook: NotebookNode) -> dict[str, str]:
    """Name -> text of everything that a chapter glues."""
    outputs = [o for c in notebook.cells for o in c.get("outputs", []) if "scrapbook" in o.get("metadata", {})]
    return {o.metadata.scrapbook.name: text.strip("'\"") for o in outputs for kind, text in o.data.items()
            if kind.endswith("text/plain")}


# ------------------------------------------------------------------------------------------------ the site

def stage(book: Book, target: Path) -> str:
    """Lay out what Jupyter Book reads, executed notebooks in place of their sources; return its digest."""
    import mathjax

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(book.source, target / "chapters", ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    for chapter in book.chapters():
        (target / "chapters" / f"{chapter}.md").unlink()
        shutil.copy(book.run / f"{chapter}.ipynb", target / "chapters")
    # Pages may show the data card, code, or how to cite.
    for name in ("_config.yml", "_toc.yml", "CITATION.cff", "data", "lib"):
        if (book.root / name).exists():
            (target / name).symlink_to(book.root / name)
    mark = digest([*(target / "chapters").rglob("*.*"), *target.glob("*.*")]) + inputs_digest()
    (target / "chapters/_static").mkdir(exist_ok=True)
    script = Path(mathjax.__path__[0], "static/mathjax/es5/tex-svg.js")  # beside the pages: formulas need no network
    shutil.copy(script, target / "chapters/_static/mathjax.js")
    return mark


def build(book: Book) -> Path:
    """Execute what is out of date, then build the site; the old site stays if the new one fails.

    Returns the path of the built index; ChapterError if a chapter failed or a page gave a warning.
    """
    execute(book)
    index, record = book.site / "index.html", book.site / ".built-from"
    staged, work = book.site.with_suffix(".source"), book.site.with_suffix(".work")
    mark = stage(book, staged)
    if record.exists() and record.read_text() == mark:
        print("the pages are up to date")
        return index
    # Every page anew: a kept environment would hide the warnings of pages that it does not read again.
    shutil.rmtree(work, ignore_errors=True)
    start = time.monotonic()
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(staged),
               "--path-output", str(work), "-n", "-W", "--keep-going", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        text = ANSI.sub("", result.stdout + result.stderr).replace(f"{staged}/", "").splitlines()
        told = [line for line in text if "WARNING" in line or "ERROR" in line] or text[-15:]
        raise ChapterError("the pages could not be built:\n  " + "\n  ".join(told))
    shutil.rmtree(book.site, ignore_errors=True)
    shutil.move(work / "_build" / "html", book.site)
    shutil.rmtree(work)
    record.write_text(mark)
    print(f"  {'pages':<28} {time.monotonic() - start:6.0f} s")
    return index


# ------------------------------------------------------------------------------------------------ commands

def parse_grid(words: Iterable[str]) -> dict[str, list[Any]]:
    """Read ``seed=0,1 quick=true`` as lists of values; refuse anything else (ChapterError)."""
    grid = {}
    for word in words:
        name, _, values = word.partition("=")
        if not name.isidentifier() or not values:
            raise ChapterError(f"'{word}' is not of the form name=value[,value...]")
        grid[name] = [yaml.safe_load(v) for v in values.split(",")]
    return grid


def sweep(chapter: str, grid: Mapping[str, list[Any]]) -> Path:
    """Run one chapter with every combination of parameters, on a Dask cluster if one is set.

    Returns the path of the table of glued texts; the executed notebooks lie beside it.
    """
    import pandas as pd

    from lib.evaluation import parallel

    folder = paths.ROOT / "_run" / "sweep" / chapter

    def one(parameters: dict[str, Any]) -> dict[str, Any]:
        name = ",".join(f"{k}={v}" for k, v in parameters.items()) or "defaults"
        execute(Book(run=folder / name, parameters=tuple(parameters.items())), only=[chapter], jobs=1)
        return {**parameters, **glued(nbformat.read(folder / name / f"{chapter}.ipynb", as_version=4))}

    combinations = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    with parallel():
        rows = Parallel()(delayed(one)(c) for c in combinations)
    table = folder / "glued.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def main(argv: list[str] | None = None) -> int:
    """Command line of the make targets."""
    parser = argparse.ArgumentParser(prog="python -m lib.book", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="execute the chapters, build the pages")
    command.add_argument("--quick", action="store_true", help="little training: what the tests look at")
    command = commands.add_parser("sweep", help="one chapter with every combination of parameters")
    command.add_argument("chapter")
    command.add_argument("grid", nargs="*", metavar="name=value[,value...]")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "build":
            print(build(QUICK if arguments.quick else Book()))
        else:
            print(sweep(arguments.chapter, parse_grid(arguments.grid)))
    except ChapterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    from lib import book  # worker processes must find its functions by this name

    sys.exit(book.main())
