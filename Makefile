# make run: the three notebooks, on drawn data.  make test: lint and tests.  Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test browser setup notebooks

run: .venv/installed
	$(BIN)/python -m helpers run --preset quick

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The notebooks in a real JupyterLab, their controls moved by keys; needs chromium and chromedriver.
browser: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest --numprocesses=0 tests/browser

setup: .venv/installed

# Runs everything and puts the outputs into notebooks/, for a commit.
notebooks: .venv/installed
	$(BIN)/python -m helpers run --preset quick --store

# Installed again only when one of these files has changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[lab,test]"
	touch $@
