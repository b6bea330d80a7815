"""Every location of the project, absolute, so that chapters and tests run from any directory."""
from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A reader's own copy of the tables (see ``add-device``) is used when STUDY_DATA names it.
DATA = Path(os.environ.get("STUDY_DATA") or ROOT / "data").resolve()
FACTS = DATA / "facts"
REGISTRY = DATA / "registry"
TOKENS = DATA / "tokens"
RESULTS = DATA / "results"
CHAPTERS = ROOT / "chapters"
CACHE = Path(os.environ.get("STUDY_CACHE") or ROOT / ".cache").resolve()
