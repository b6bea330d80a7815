# Each target sets up what it needs in .venv, is incremental, and is safe to repeat.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
READY := .venv/.ready

# One thread a process: chapters and tests run in parallel, and results do not depend on the machine's core count.
export OMP_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: book test bench lab sweep clean help
.DELETE_ON_ERROR:

book: $(READY)  ## execute the chapters and build the book
	@$(PY) -m lib.book build

test: $(READY)  ## unit, property and book tests, then every chapter under nbval
	@$(PY) -m lib.book build --quick
	@$(PY) -m tests.promises reference
	@$(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile --nbval-lax --nbval-current-env \
		--nbval-cell-timeout 900 --nbval-sanitize-with tests/sanitize.cfg _run/nbval tests

bench: $(READY)  ## speed of the parts, beside their peers
	@$(PY) -m tests.benchmarks

lab: $(READY)  ## JupyterLab with the chapters as notebooks
	@$(PY) -m jupyterlab chapters

# Without CHAPTER: the full comparison of rankers (hours; resumes, see lib/sweep.py).
# make sweep CHAPTER=05_fusion GRID="seed=0,1,2 quick=true"
sweep: $(READY)  ## the full comparison of rankers, or one chapter over a grid of parameters
	@$(if $(CHAPTER),$(PY) -m lib.book sweep $(CHAPTER) $(GRID),$(PY) -m lib.sweep)

clean:  ## remove everything that was built, but not .venv
	@rm -rf _build _run .cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

# The .pth file makes `lib` importable in every notebook of .venv; its path is relative, so the folder may move.
$(READY): requirements.txt constraints.txt .binder/overrides.json
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	@echo "Setting up .venv (a few minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements.txt
	@echo ../../../.. > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/study.pth"
	@mkdir -p .venv/share/jupyter/lab/settings
	@cp .binder/overrides.json .venv/share/jupyter/lab/settings/overrides.json
	@touch $@
