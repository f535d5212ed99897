# Everything a newcomer needs: `make demo`, then `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help demo test e2e check format lint types contracts openapi generated reference bench storm lock clean

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## the main job, end to end, on real input (no account needed)
	@$(BIN)/motion-gateway demo

test: $(READY) ## every test but those of make e2e
	@$(BIN)/pytest

e2e: $(READY) ## with a real Prometheus and a real browser (installs Debian packages, as root)
	@tests/e2e/install.sh
	@$(BIN)/pytest -m e2e -n 0 tests/e2e

check: $(READY) format lint types contracts openapi generated test ## format, lint, types, import contracts, drift, tests

format: $(READY) ## fail on unformatted code
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }

lint: $(READY) ## ruff, every rule but those with a written reason
	@$(BIN)/ruff check --quiet .

types: $(READY) ## mypy and basedpyright, both strict
	@$(BIN)/mypy
	@$(BIN)/basedpyright

contracts: $(READY) ## who may import whom
	@$(BIN)/lint-imports --no-cache

openapi: $(READY) ## fail when openapi/openapi.json is not what the code says
	@$(BIN)/motion-gateway openapi --check

generated: $(READY)
	@$(BIN)/python deploy/generated.py --check

reference: $(READY) ## write deploy/METRICS.md and the Grafana dashboard from the code
	@$(BIN)/python deploy/generated.py

bench: $(READY) ## ours against bare Litestar, and poll pacing against theory; prints ratios
	@$(BIN)/python tests/bench/run.py

storm: $(READY) ## 2,000 jobs on each engine while processes are killed; prints what came of it (10 minutes)
	@$(BIN)/python tests/faults/storm.py

lock: ## renew requirements.lock, and those of the image in deploy/ (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements.lock
	uv pip compile pyproject.toml --extra otel --universal --python-version 3.11 --generate-hashes -c requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o deploy/requirements.txt
	echo hatchling | uv pip compile - --universal --python-version 3.11 --generate-hashes -c requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o deploy/requirements-build.txt

clean: ## remove what was built
	rm -rf .venv demo-output dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv (once, about a minute) ..."
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --clear --python $(PYTHON) .venv \
		&& uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		&& uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		$(PYTHON) -m venv --clear .venv \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@
