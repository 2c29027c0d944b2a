# Everything from a fresh clone with python3 (>= 3.11) and make:
#
#   make demo       the main job on real data
#   make test       the tests, without those marked slow
#   make test-all   all tests
#   make test-minimum   the tests with the oldest releases that pyproject.toml allows (Python 3.11)
#   make test-terratorch, test-torchgeo-bench   those of other programs, in environments of their own
#   make style      ruff, mypy and the import contracts
#   make docs       the documentation, as web pages in docs/_build/html
#   make clean      remove what these made
#
# The first call installs into .venv-<version>; later calls reuse it. Another Python, or arguments:
#
#   make test PYTHON=python3.13 PYTEST_ARGS='tests/test_bands.py -x'
#   make demo DEMO_ARGS='--help'

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("{}.{}".format(*sys.version_info))' 2>/dev/null)
VENV := .venv-$(VERSION)
RUN := $(VENV)/bin/python
# One process a core with one thread each: most tests are too small for several threads.
IN_PARALLEL := -m pytest -n auto --maxprocesses 4 --dist worksteal
PYTEST := OMP_NUM_THREADS=1 $(RUN) $(IN_PARALLEL)
EXTRAS := .[style,tests]

.PHONY: demo test test-all test-minimum test-terratorch test-torchgeo-bench style docs clean check-python

demo: $(VENV)/.installed
	$(RUN) -m torchgeo_aom demo $(DEMO_ARGS)

test: $(VENV)/.installed
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: $(VENV)/.installed
	$(PYTEST) $(PYTEST_ARGS)

test-minimum: .venv-minimum/.installed
	OLDEST=1 OMP_NUM_THREADS=1 .venv-minimum/bin/python $(IN_PARALLEL) -m 'not slow' $(PYTEST_ARGS)

# Programs whose requirements differ from ours; torchgeo-bench needs Python 3.12 or newer.
test-terratorch: .venv-terratorch/.installed
	OMP_NUM_THREADS=2 .venv-terratorch/bin/python -m pytest tests/clients/test_terratorch.py $(PYTEST_ARGS)

test-torchgeo-bench: .venv-torchgeo-bench/.installed
	OMP_NUM_THREADS=2 .venv-torchgeo-bench/bin/python -m pytest tests/clients/test_torchgeo_bench.py \
	    tests/clients/test_geobenchv2.py $(PYTEST_ARGS)

style: $(VENV)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

# Any warning is an error: a reference that leads nowhere, a page in no menu, a notebook that fails.
docs: $(VENV)/.documented
	OMP_NUM_THREADS=1 $(RUN) -m sphinx -W --keep-going -q -b html $(DOCS_ARGS) docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf .venv-* build dist docs/_build docs/_generated *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "torchgeo_aom needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || echo missing)." >&2; \
	    echo "Name another one: make PYTHON=/path/to/python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	    exit 2; }

# $(call install,VENV,EXTRAS AND OPTIONS): pip says nothing but errors; a line every 20 s says that it
# is alive.
define install
	@echo "Installing torchgeo_aom and its dependencies (PyTorch, TorchGeo, ...) into $(1)"
	@start=$$(date +%s); \
	( while sleep 20 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do \
	    echo "  still installing: $$(( $$(date +%s) - start )) s, $$(du -sm $(1) | cut -f1) MiB"; done ) & \
	beat=$$!; trap 'kill $$beat 2>/dev/null' EXIT; trap 'exit 130' INT TERM HUP; \
	$(1)/bin/python -m pip install -qq --disable-pip-version-check --no-input -e $(2) && \
	echo "Installed in $$(( $$(date +%s) - start )) s" && touch $@
endef

$(VENV)/.installed: pyproject.toml | check-python
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(call install,$(VENV),'$(EXTRAS)')

$(VENV)/.documented: $(VENV)/.installed
	$(call install,$(VENV),'.[docs]')

.venv-minimum/.installed: pyproject.toml tests/oldest.txt | check-python
	@test $(VERSION) = 3.11 || { echo "tests/oldest.txt is for Python 3.11; '$(PYTHON)' is $(VERSION)." >&2; exit 2; }
	@$(PYTHON) -m venv --clear .venv-minimum
	$(call install,.venv-minimum,'.[tests]' -c tests/oldest.txt)

# A layer over $(VENV): only what differs is installed, everything else is found there. PyTorch, the
# largest by far, stays the one below.
.venv-terratorch/.installed .venv-torchgeo-bench/.installed: .venv-%/.installed: $(VENV)/.installed
	@$(PYTHON) -m venv --clear .venv-$*
	@$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > .venv-$*/below.pth
	@cp .venv-$*/below.pth "$$(.venv-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@$(RUN) -m pip freeze --all | grep -E '^(torch|torchvision)==' > .venv-$*/constraints.txt
	$(call install,.venv-$*,'.[$*]' -c .venv-$*/constraints.txt)
