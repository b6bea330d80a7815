"""Shared by all tests: notebooks import lib, and no test leaves files in the working tree's data or cache."""
from __future__ import annotations

import os

from lib import paths

os.environ["PYTHONPATH"] = str(paths.ROOT)  # for the kernels that nbval starts
os.environ.setdefault("OMP_NUM_THREADS", "1")
