"""Every location of the project, absolute, so that chapters and tests run from any directory; and how a file is written."""
from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parent.parent
# A reader's own copy of the tables (see ``add-device``) is used when STUDY_DATA names it.
DATA = Path(os.environ.get("STUDY_DATA") or ROOT / "data").resolve()
FACTS = DATA / "facts"
REGISTRY = DATA / "registry"
TOKENS = DATA / "tokens"
RESULTS = DATA / "results"
CACHE = Path(os.environ.get("STUDY_CACHE") or ROOT / ".cache").resolve()


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A place beside ``path`` to write to: what stands there replaces ``path`` in one step, unless something fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
