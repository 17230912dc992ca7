# demo and test each make their own virtual environment; they need only Python >= 3.11 and make.
#   make test VENV=/somewhere/else     another place for the environment
#   make demo PYTHON=python3.12        another interpreter
#   make test ARGS='tests/compiler -x' arguments for pytest
# The package is installed as users install it, and installed again when a source file is newer.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done)
DEMO_VENV := $(abspath $(or $(VENV),.venv/demo))
TEST_VENV := $(abspath $(or $(VENV),.venv/test))
DEMO_OUTPUT ?= build/demo
FOLDERS := prunec compiler passes frontends runtime tools
SOURCES := setup.cfg pyproject.toml constraints.txt README.md LICENSE \
	$(shell find $(FOLDERS) -name '*.py' -o -name '*.onnx' -o -name '*.npz' -o -name py.typed)

# $(call install,VENV,EXTRAS). Modules deleted since the last build would survive in build/lib.
define install
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'prunec needs Python >= 3.11; name one: make ... PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	@test -x $(1)/bin/python || '$(PYTHON)' -m venv $(1)
	@rm -rf build/lib build/bdist.*
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[$(2)]'
	@touch $@
endef

.PHONY: help demo test lint types layers bench check clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo     prune an embedded network, show accuracy and latency before and after'
	@echo 'make test     run the tests'
	@echo 'make lint     ruff: rules and format'
	@echo 'make types    mypy --strict on the installed package'
	@echo 'make layers   import-linter: who may import whom'
	@echo 'make bench    the benchmarks of tools/bench that need no model files'
	@echo 'make check    test, lint, types and layers'
	@echo 'make clean    remove environments, builds and caches'

demo: $(DEMO_VENV)/.demo
	@mkdir -p '$(DEMO_OUTPUT)'
	@$(DEMO_VENV)/bin/python -P -m prunec.tools.demo '$(DEMO_OUTPUT)'

test: $(TEST_VENV)/.test
	$(TEST_VENV)/bin/pytest $(ARGS)

lint: $(TEST_VENV)/.dev
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .

# Outside the tree: here the folder prunec/ would hide the installed package.
types: $(TEST_VENV)/.dev
	cd $(TEST_VENV) && bin/mypy --config-file '$(CURDIR)/setup.cfg' --strict -p prunec

layers: $(TEST_VENV)/.dev
	cd $(TEST_VENV) && bin/lint-imports --config '$(CURDIR)/setup.cfg'

bench: $(TEST_VENV)/.test
	@for script in startup memory resnet20 criteria; do \
		echo "== $$script"; $(TEST_VENV)/bin/python -P tools/bench/$$script.py || exit; done

check: test lint types layers

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find $(FOLDERS) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO_VENV)/.demo: $(SOURCES)
	$(call install,$(DEMO_VENV),cpu$(,)highs)

$(TEST_VENV)/.test: $(SOURCES)
	$(call install,$(TEST_VENV),test)

$(TEST_VENV)/.dev: $(SOURCES)
	$(call install,$(TEST_VENV),dev)

, := ,
