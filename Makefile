# Every command works in a fresh clone: the environment is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-faults test-ui test-slow test-engines test-pilot acceptance ui bench calibrate docs docs-build reference lint clean

demo: $(VENV)/.installed
	$(BIN)/ppl-assets demo

ui: $(VENV)/.installed
	$(BIN)/ppl-assets ui

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Processes killed at 210 random points, the web UI's own too, disks filled, clocks set, every kind of change, one model
# more than ninety, and sensors that a daemon runs. It prints how many kill points there were.
test-faults: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile ppl_assets_tests/faults ppl_assets_tests/orchestration/test_reruns.py \
		ppl_assets_tests/orchestration/test_ninety_models.py ppl_assets_tests/orchestration/test_live_sensors.py

# The web UI with its daemon, through GraphQL and in a browser: needs Chromium.
test-ui: $(VENV)/.installed-test
	$(BIN)/python -m pytest ppl_assets_tests/test_ui.py

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

# Steps on Celery, Ray and Kubernetes, runs in PostgreSQL, tables in a bucket.
test-engines: $(VENV)/.installed-engines
	$(BIN)/python -m pytest -m slow ppl_assets_tests/orchestration/test_engines.py \
		ppl_assets_tests/orchestration/test_shared_lake.py

# Pilots through the whole graph, and the demo's with its controls; some ten minutes.
test-pilot: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow ppl_assets_tests/pilot

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m ppl_assets_tests.bench.bench_likelihood
	$(BIN)/python -m ppl_assets_tests.bench.bench_estimation
	$(BIN)/python -m ppl_assets_tests.bench.bench_mixture
	$(BIN)/python -m ppl_assets_tests.bench.bench_filter
	$(BIN)/python -m ppl_assets_tests.bench.bench_pilot
	$(BIN)/python -m ppl_assets_tests.bench.bench_operations

calibrate: $(VENV)/.installed-test
	$(BIN)/python -m ppl_assets_tests.bench.calibrate

clean:
	rm -rf .ppl site .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch first and at the tested version: otherwise the resolver may take a newer build with gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs,s3]'
	# The published package and the reference sampler are oracles: wanted for their functions, not their dependencies.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps perplexity-correlations data-selection
	# Trainers' own parsers read back what `export` writes (29 MB). Their dependencies (cloud clients, codecs, older
	# versions of ours) are not needed for that; the second line is what three of them import and we do not have.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
		megatron-core ai2-olmo-core mosaicml-streaming litdata \
		dataclass-extensions bettermap importlib_resources catalogue lightning-utilities
	touch $@

# The documentation as a site, at http://localhost:8000, anew on every change.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs serve

# The same into site/, where every warning is an error.
docs-build: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/.installed-engines: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[k8s,celery,ray,postgres]'
	touch $@

# Pages of docs/ that are made from code.
reference: $(VENV)/.installed
	$(BIN)/python -m ppl_assets.reference docs

# The demo as a newcomer runs it, twice; some ten minutes.
acceptance: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow ppl_assets_tests/test_acceptance.py
