"""The book's pipeline: MyST notebook -> papermill -> checks -> Jupyter Book.

Chapters are text (jupytext). Their executed copies live in ``_run``, never beside the source, and serve again while
nothing that they depend on has changed. A notebook that failed leaves nothing that could be published.
"""
from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

import nbformat
import yaml
from nbformat import NotebookNode

from lib import paths

RUN = paths.ROOT / "_run"
BUILD = paths.ROOT / "_build"
EXPECTED = paths.ROOT / "tests" / "expected"
QUICK = {"quick": True}
CHECKED = "# NBVAL_CHECK_OUTPUT"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TIMEOUT = 1200  # seconds a cell


class ChapterError(Exception):
    """A chapter failed; the message names it and ends with what went wrong."""


@dataclass(frozen=True)
class Book:
    """Sources and destinations of one build."""

    root: Path = paths.ROOT
    run: Path = RUN / "book"
    site: Path = BUILD / "html"
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
        """The pages that are notebooks."""
        return [p for p in self.pages() if is_notebook(self.source / f"{p}.md")]


def quick_book() -> Book:
    """The book that the tests look at: same chapters, less training."""
    return Book(run=RUN / "quick", site=BUILD / "quick", parameters=tuple(QUICK.items()))


def is_notebook(path: Path) -> bool:
    """Whether a Markdown file starts with a jupytext header."""
    return path.read_text().startswith("---\njupytext:")


# ------------------------------------------------------------------------------------------------ execution

@functools.cache
def inputs_digest() -> str:
    """Digest of all that every chapter depends on: code, data, pinned packages."""
    files = [paths.ROOT / "requirements.txt", paths.ROOT / "constraints.txt"]
    files += [f for f in (paths.ROOT / "lib").rglob("*.py") if f.name != "book.py"]
    files += [f for f in paths.DATA.rglob("*") if f.is_file()]
    return digest(files)


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def fingerprint(source: Path, parameters: Mapping[str, Any]) -> str:
    """What an executed chapter depends on, as one digest."""
    text = json.dumps([digest([source]), inputs_digest(), sorted(parameters.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def read_record(run: Path, chapter: str) -> dict[str, Any]:
    """Fingerprint and seconds of the last good run; empty if there is none."""
    record, notebook = run / f"{chapter}.json", run / f"{chapter}.ipynb"
    return json.loads(record.read_text()) if record.exists() and notebook.exists() else {}


def execute(book: Book, jobs: int | None = None, only: Iterable[str] | None = None) -> list[str]:
    """Execute the chapters that are out of date, in parallel, longest first.

    Returns
    -------
    The chapters that were executed.

    Raises
    ------
    ChapterError
        The first chapter that fails; the others are stopped.
    """
    parameters = dict(book.parameters)
    known = book.chapters()
    chapters = list(only or known)
    for chapter in chapters:
        if chapter not in known:
            raise ChapterError(f"no chapter '{chapter}' (allowed: {', '.join(known)})")
    marks = {c: fingerprint(book.source / f"{c}.md", parameters) for c in chapters}
    last = {c: read_record(book.run, c) for c in chapters}
    stale = [c for c in chapters if last[c].get("fingerprint") != marks[c]]
    stale.sort(key=lambda c: -last[c].get("seconds", float("inf")))
    if len(stale) < len(chapters):
        print(f"{len(chapters) - len(stale)} of {len(chapters)} chapters are up to date", flush=True)
    if not stale:
        return []
    jobs = jobs or min(os.cpu_count() or 1, 4)
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run_chapter, book, c, marks[c], parameters, running): c for c in stale}
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    print(f"  {futures[future]:<28} {future.result():6.0f} s", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()  # its kernel notices and leaves
            raise
    return stale


def run_chapter(book: Book, chapter: str, mark: str, parameters: Mapping[str, Any],
                running: set[subprocess.Popen[bytes]]) -> float:
    """Execute one chapter and store it, checked; return the seconds it took."""
    source, target = book.source / f"{chapter}.md", book.run / f"{chapter}.ipynb"
    work = book.run / "unfinished"
    work.mkdir(parents=True, exist_ok=True)
    for old in (target, target.with_suffix(".json")):
        old.unlink(missing_ok=True)
    start = time.monotonic()
    notebook = papermill(source, work / f"{chapter}.ipynb", parameters, running)
    seconds = time.monotonic() - start
    found = problems(notebook)
    if found:
        raise ChapterError(f"{source.relative_to(book.root)} ran, but cannot be published:\n  " + "\n  ".join(found))
    nbformat.write(notebook, work / f"{chapter}.clean")
    os.replace(work / f"{chapter}.clean", target)
    target.with_suffix(".json").write_text(json.dumps({"fingerprint": mark, "seconds": round(seconds, 1)}))
    return seconds


def papermill(source: Path, work: Path, parameters: Mapping[str, Any],
              running: set[subprocess.Popen[bytes]] | None = None) -> NotebookNode:
    """Run one MyST notebook through papermill and return it without run times and paths.

    Raises
    ------
    ChapterError
        A cell failed: chapter, cell and the end of the traceback; or a parameter is unknown.
    """
    import jupytext

    notebook = jupytext.read(source)
    check_parameters(notebook, parameters, source.name)
    raw = work.with_suffix(".in.ipynb")
    nbformat.write(notebook, raw)
    environment = {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1", **os.environ, "PYTHONPATH": str(paths.ROOT)}
    command = [sys.executable, "-m", "papermill", raw, work, "--no-progress-bar", "--cwd", source.parent,
               "--execution-timeout", str(TIMEOUT), "-k", "python3", "-y", json.dumps(dict(parameters))]
    process = subprocess.Popen([str(c) for c in command], env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    if running is not None:
        running.add(process)
    errors = process.communicate()[1].decode(errors="replace")
    if running is not None:
        running.discard(process)
    raw.unlink()
    if process.returncode:
        raise ChapterError(f"{source.parent.name}/{source.name} failed{explain(work, errors)}")
    executed = nbformat.read(work, as_version=4)
    work.unlink()
    return without_run_times(executed)


def check_parameters(notebook: NotebookNode, parameters: Mapping[str, Any], name: str) -> None:
    """Refuse a parameter that the chapter does not have: papermill would only warn."""
    cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    allowed = re.findall(r"^(\w+)\s*(?::[^=]+)?=", "\n".join(cells), re.MULTILINE)
    for key in parameters:
        if key not in allowed:
            raise ChapterError(f"{name}: unknown parameter '{key}' (allowed: {', '.join(allowed) or 'none'})")


def explain(executed: Path, errors: str, lines: int = 12) -> str:
    """Where a run failed and the end of its traceback; papermill's own words if no cell says so."""
    if executed.exists():
        cells = [c for c in nbformat.read(executed, as_version=4).cells if c.cell_type == "code"]
        executed.unlink()
        for number, cell in enumerate(cells, 1):
            for output in cell.outputs:
                if output.output_type == "error":
                    trace = ANSI.sub("", "\n".join(output.traceback)).splitlines()[-lines:]
                    return f" in code cell {number}:\n" + "\n".join(trace)
    return ":\n" + "\n".join(errors.strip().splitlines()[-lines:])


def without_run_times(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs from run to run or names the machine: papermill's times and paths."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return notebook


# ------------------------------------------------------------------------------------------------ checks

def problems(notebook: NotebookNode) -> list[str]:
    """Why an executed notebook must not be published; empty if it may.

    An error output, text on stderr, a figure without caption or alternative text, a path of this machine.
    """
    found = []
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        shown = cell.metadata.get("mystnb", {})
        hidden = {"remove-cell", "remove-output"} & set(cell.metadata.get("tags", []))
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"code cell {number}: {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                found.append(f"code cell {number}: writes to stderr: {output.text.strip().splitlines()[-1]}")
            elif not hidden and any(kind.startswith("image/") for kind in output.get("data", {})):
                for what, text in (("alternative text", shown.get("image", {}).get("alt")),
                                   ("caption", shown.get("figure", {}).get("caption"))):
                    if not text:
                        found.append(f"code cell {number}: its figure has no {what}")
            if str(paths.ROOT) in json.dumps(output):
                found.append(f"code cell {number}: shows a path of this machine")
    return found


def glued(notebook: NotebookNode) -> dict[str, str]:
    """Name -> text of everything that a chapter glues."""
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            for kind, text in output.get("data", {}).items():
                if name and kind.endswith("text/plain"):
                    texts[name] = text.strip("'\"")
    return texts


def checked_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells whose outputs nbval compares."""
    return [c for c in notebook.cells if c.cell_type == "code" and CHECKED in c.source]


def reference(book: Book, target: Path, expected: Path = EXPECTED) -> list[Path]:
    """Write every chapter, not executed, with the outputs that were promised: what nbval runs and compares."""
    import jupytext
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    written = []
    for chapter in book.chapters():
        path = target / f"{chapter}.ipynb"
        jupytext.write(jupytext.read(book.source / f"{chapter}.md"), path)
        notebook = without_run_times(parameterize_notebook(load_notebook_node(str(path)), dict(book.parameters)))
        promised = read_expected(chapter, expected)["outputs"]
        for cell, outputs in zip(checked_cells(notebook), promised):
            cell.outputs = [nbformat.from_dict(o) for o in outputs]
        nbformat.write(notebook, path)
        written.append(path)
    return written


def read_expected(chapter: str, folder: Path = EXPECTED) -> dict[str, Any]:
    """Committed outputs and glued texts of a chapter's quick run; empty if none were promised."""
    path = folder / f"{chapter}.json"
    return json.loads(path.read_text()) if path.exists() else {"outputs": [], "glued": {}}


def promise(book: Book, chapters: Iterable[str], folder: Path = EXPECTED) -> None:
    """Store the checked outputs and glued texts of executed chapters as what must hold from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in chapters:
        notebook = nbformat.read(book.run / f"{chapter}.ipynb", as_version=4)
        outputs = [[dict(o, execution_count=None) if o.output_type == "execute_result" else o for o in c.outputs]
                   for c in checked_cells(notebook)]
        text = json.dumps({"outputs": outputs, "glued": glued(notebook)}, indent=1, ensure_ascii=False)
        (folder / f"{chapter}.json").write_text(text + "\n")


# ------------------------------------------------------------------------------------------------ the site

def stage(book: Book, target: Path) -> str:
    """Lay out what Jupyter Book reads, executed notebooks in place of their sources; return its digest."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(book.source, target / "chapters", ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    for chapter in book.chapters():
        (target / "chapters" / f"{chapter}.md").unlink()
        shutil.copy(book.run / f"{chapter}.ipynb", target / "chapters")
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        if (book.root / name).exists():
            shutil.copy(book.root / name, target)
    for name in ("data", "lib"):  # pages may include the data card or show code
        if (book.root / name).exists():
            (target / name).symlink_to(book.root / name)
    copy_mathjax(target / "chapters" / "_static")
    return digest(f for f in target.rglob("*") if f.is_file()) + inputs_digest()


def copy_mathjax(static: Path) -> None:
    """Put the one-file MathJax beside the pages: formulas show without a network."""
    import mathjax

    static.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(mathjax.__path__[0]) / "static" / "mathjax" / "es5" / "tex-svg.js", static / "mathjax.js")


def build(book: Book) -> Path:
    """Execute what is out of date, then build the site; the old site stays if the new one fails.

    Returns
    -------
    Path of the built index.

    Raises
    ------
    ChapterError
        A chapter failed, or a page gave a warning.
    """
    execute(book)
    index, record = book.site / "index.html", book.site.with_suffix(".json")
    staged, work = book.site.with_name(f"{book.site.name}.source"), book.site.with_name(f"{book.site.name}.work")
    mark = stage(book, staged)
    if index.exists() and record.exists() and json.loads(record.read_text()) == mark:
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
    record.unlink(missing_ok=True)
    shutil.rmtree(book.site, ignore_errors=True)
    shutil.move(work / "_build" / "html", book.site)
    shutil.rmtree(work)
    record.write_text(json.dumps(mark))
    print(f"  {'pages':<28} {time.monotonic() - start:6.0f} s")
    return index


# ------------------------------------------------------------------------------------------------ commands

def parse_grid(words: Iterable[str]) -> dict[str, list[Any]]:
    """Read ``seed=0,1 quick=true`` as lists of values.

    Raises
    ------
    ChapterError
        A word that is not of the form name=value[,value...].
    """
    grid = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not name.isidentifier() or not equals or not values:
            raise ChapterError(f"'{word}' is not of the form name=value[,value...]")
        grid[name] = [yaml.safe_load(v) for v in values.split(",")]
    return grid


def sweep(chapter: str, grid: Mapping[str, list[Any]]) -> Path:
    """Run one chapter with every combination of parameters; glued texts go to one table.

    Returns
    -------
    Path of the table; the executed notebooks lie beside it.
    """
    import pandas as pd
    from joblib import Parallel, delayed, parallel_config

    folder = RUN / "sweep" / chapter
    combinations = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]

    def one(parameters: dict[str, Any]) -> dict[str, Any]:
        name = ",".join(f"{k}={v}" for k, v in parameters.items()) or "defaults"
        book = Book(run=folder / name, parameters=tuple(parameters.items()))
        execute(book, jobs=1, only=[chapter])
        return {**parameters, **glued(nbformat.read(book.run / f"{chapter}.ipynb", as_version=4))}

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        from distributed import Client

        Client(address)
    with parallel_config("dask" if address else "threading", n_jobs=-1):
        rows = Parallel()(delayed(one)(c) for c in combinations)
    table = folder.parent / f"{chapter}.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def main(argv: list[str] | None = None) -> int:
    """Command line of the make targets."""
    parser = argparse.ArgumentParser(prog="python -m lib.book", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("build", help="execute the chapters, build the pages")
    add.add_argument("--quick", action="store_true", help="little training: what the tests look at")
    commands.add_parser("reference", help="write the notebooks that nbval runs")
    add = commands.add_parser("expect", help="store what a chapter's quick run gives as what must hold")
    add.add_argument("chapters", nargs="*")
    add = commands.add_parser("sweep", help="one chapter with every combination of parameters")
    add.add_argument("chapter")
    add.add_argument("grid", nargs="*", metavar="name=value[,value...]")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "build":
            print(build(quick_book() if arguments.quick else Book()))
        elif arguments.command == "reference":
            reference(quick_book(), RUN / "nbval")
        elif arguments.command == "expect":
            chapters = arguments.chapters or quick_book().chapters()
            execute(quick_book(), only=chapters)
            promise(quick_book(), chapters)
        else:
            print(sweep(arguments.chapter, parse_grid(arguments.grid)))
    except ChapterError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
