# make run: the three lessons, on synthetic data.  make study: the study, which loads their networks.
# make test: the tests.  Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run study test maintain browser teach setup notebooks colab colab-rehearsal

run: .venv/installed
	$(BIN)/python -m helpers run --preset quick

study: .venv/installed
	$(BIN)/python -m helpers run study --preset quick

test: .venv/installed
	$(BIN)/python -m pytest

# For a commit: lint, the limits of the code, and whether stored outputs belong to it.
maintain: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -m maintain

# The notebooks in a real JupyterLab, their controls moved by keys; needs chromium and chromedriver.
browser: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest --numprocesses=0 tests/browser

# The lessons as assignments: handed out, handed in, and graded by the real nbgrader.
teach: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e ".[teach]"
	$(BIN)/python -m pytest --numprocesses=0 tests/teach

setup: .venv/installed

# Runs everything and puts the outputs into notebooks/, for a commit.
notebooks: .venv/installed
	$(BIN)/python -m helpers run 1 2 3 study --preset quick
	$(BIN)/python notebooks/store.py reports/quick

# The notebooks as files to upload to Google Colab, into reports/colab/.
colab: .venv/installed
	$(BIN)/python -m helpers colab

# By hand: runs those with Colab's versions, in an environment of their own (3 GB more to download).
colab-rehearsal: .venv/installed
	PYTHON=$(PYTHON) tests/colab/rehearse

# Installed again only when one of these files has changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Downloads about 3 GB, most of it PyTorch with its CUDA libraries, into .venv (6 GB there), once;"
	@echo "a few minutes on a fast line. Stopped in between, the same command goes on with what pip has kept."
	$(MAKE) .venv/constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -c .venv/constraints.txt -e ".[lab,test]"
	touch $@

# The tested versions; but a torch that is in .venv already, such as PyTorch's CPU build, stays as it is.
.PHONY: .venv/constraints.txt
.venv/constraints.txt:
	if $(BIN)/python -m pip show --quiet torch 2>/dev/null; \
	then grep -vE '^torch(vision)?==' constraints.txt; else cat constraints.txt; fi > $@
