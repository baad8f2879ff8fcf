# Bare `make` explains the targets; each sets up what it needs by itself.
SHELL := /bin/bash
PYTHON := .venv/bin/python
# Three for each processor: a test waits more than it computes.
WORKERS := $(shell n=$$((3 * $$(getconf _NPROCESSORS_ONLN))); echo $$((n > 8 ? 8 : n)))
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-score demo up test drill coverage check bench score docs site lock dist release bundle

help: ## Explain the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Set up .venv and say which programs are missing (the others do this by themselves)
	@tools/setup.sh

setup-test:
	@tools/setup.sh --test

setup-score:
	@tools/setup.sh --score

demo: setup ## Convert a PDF through the whole platform, with progress and event history
	$(PYTHON) -m switchyard.services.cli.demo

up: setup ## Run everything in one process until Ctrl-C; options: make up ARGS="--port 8081"
	.venv/bin/switchyard up $(ARGS)

# Hundreds of the programs that the tests start import the same modules: where bytecode is not to be written,
# each of them, and each process of the tests, would compile all of it again.
test drill: export PYTHONDONTWRITEBYTECODE :=

test: setup-test ## Run the tests against a real broker; a part: make test ARGS=tests/broker/test_topology.py
	$(PYTHON) -m pytest $(or $(ARGS),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

drill: setup-test ## Run the drills at full size, an hour or so; a part: make drill ARGS="tests/system/test_chaos.py"
	$(PYTHON) -m pytest -m "drill or hypothesis" --hypothesis-profile=full -n0 -s $(or $(ARGS),tests)

coverage: setup ## Run the tests of events/ and fail where they leave a branch of it out
	$(PYTHON) -m coverage run -m pytest -n0 $(or $(ARGS),tests/events tests/ledger)
	$(PYTHON) -m coverage report

check: setup ## Run the linter, the format check and the type checker
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: setup ## Measure floors and ours beside each other
	$(PYTHON) -m benchmarks $(ARGS)

score: setup-score ## Convert the test documents and print how near it comes; others: make score ARGS=directory
	$(PYTHON) -m benchmarks.score $(ARGS)

docs: setup ## Write the generated documents
	$(PYTHON) -m tools.docs

site: setup ## Build the pages as a site, into .tools/site
	$(PYTHON) -m tools.site

lock: setup ## Write requirements.lock from pyproject.toml
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate --all-extras --group dev --group site pyproject.toml -o requirements.lock

dist: setup ## Build wheel, sdist and checksums of what is committed into dist/
	$(PYTHON) -m tools.release build

bundle: setup ## Build one file in dist/ that is a whole worker and runs offline; options: ARGS="--extra documents"
	$(PYTHON) -m tools.bundle $(ARGS)

release: setup ## Cut the changelog, build all that is published into dist/, commit and tag; options: ARGS=--image
	$(PYTHON) -m tools.release release $(ARGS)
