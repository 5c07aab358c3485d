PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-slow gpu check docs package clean

install: .venv/installed

# The sizes of PyTorch 2.14's wheels for Linux, which bring CUDA's libraries along, and of the others; those for other
# systems are far smaller (estimated).
ifeq ($(shell uname -s),Linux)
DOWNLOAD := 3.4 GB, most of it PyTorch and CUDA; 7 GB on disk
else
DOWNLOAD := 0.5 GB; 2 GB on disk
endif

# What is there already is left as it is: the environment, pip if it is new enough, packages that fit, and files that
# pip has downloaded before.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"xt needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: run make PYTHON=python3.12 install")'
	@if test -e $@; then echo "pyproject.toml has changed: .venv gets what is new in it"; \
	else echo "Once: an environment in .venv, with the packages of pyproject.toml. To download: about $(DOWNLOAD)."; \
	echo "What an interrupted download has finished is not downloaded again. Minutes, as fast as the network is."; fi
	@test -x $(BIN)/python || { echo "1 of 3: .venv, with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "2 of 3: pip"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet "pip>=25.1"
	@echo "3 of 3: the packages; after the downloads, a minute or more of unpacking"
	@$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

demo: demo/results.json
	@echo "demo/report.html shows it. To make it anew: rm -r demo, then make demo"

# Not again because the environment is newer.
demo/results.json: | install
	$(BIN)/xt demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -m slow

# With whatever Python has torch there: a machine with a GPU may have no network to install from.
gpu:
	PYTHONPATH=$(CURDIR) $(shell test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) benchmarks/gpu.py

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site in site/, strictly: a warning, such as a link that leads nowhere, is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# In an empty environment of each Python that is found, deleted afterwards; needs uv (pip install uv) and gigabytes.
package:
	$(PYTHON) scripts/test_package.py

clean:
	rm -rf .venv build dist *.egg-info demo site
