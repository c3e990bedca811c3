# `make demo` and `make test` need only python3 (3.11 or later) and make.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS ?= dev
DEMO := out

.PHONY: demo test test-long coverage lint lock site clean

NATIVE := export/CMakeLists.txt $(wildcard export/*.py export/*/*.c export/*/*.h)
.venv/installed: pyproject.toml $(NATIVE)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: .venv/installed  ## prune, export, benchmark and re-attack on the embedded data
	$(BIN)/mobileprune export --sparsity 0.9 --target onnx -o $(DEMO) --force

test: .venv/installed lint  ## linters, types and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-long: .venv/installed  ## what takes minutes: every architecture, 10,000 damaged files
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

coverage: .venv/installed  ## lines and branches that `make test` runs
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report --skip-covered --fail-under=90

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: .venv/installed  ## requirements.lock: every package with the hashes of its files; sbom.json: CycloneDX
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet pip-tools cyclonedx-bom
	.venv/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --unsafe-package mobileprune \
	  --no-emit-index-url --no-emit-find-links --extra dev --output-file requirements.lock pyproject.toml
	.venv/lock/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json .venv

site: .venv/installed  ## README and what it leads to, and the Python API, as pages in site/
	rm -rf site
	$(BIN)/python .ci/pages.py site

clean:
	rm -rf .venv out site
