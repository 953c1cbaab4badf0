# Every target sets up what it needs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
# As many tests at once as there are cores, for many of them are of processes that need one; a file's one after the other.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores : 4)))
AT_ONCE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
CLUSTER := PYTHONPATH=tests $(BIN)/python -m cluster.harness
# For `make images`: what builds, what its images are called, and more flags for it (--build-arg BASE=..., --push).
BUILDER ?= $(firstword $(foreach name,docker podman buildah,$(if $(shell command -v $(name)),$(name))) docker)
IMAGE_PREFIX ?=
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILD_FLAGS ?=

# What an engine imports is compiled once: anew in each of the hundred processes of the tests, it would double their time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check unit test-cluster with-a-node with-a-played-kubelet cluster-parts cluster chart images lock bench bench-engine bench-cluster bench-gateway bench-gap bench-perplexity soak fuzz demo-model pictures clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the environment: .venv with everything locked (about 6 GB, torch included)

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml $(wildcard engine/modelengine_kernels/*.cpp engine/modelengine_kernels/*.h engine/modelengine_kernels/build.py)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "error: $(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run it: name server, engine and client on the bundled model, offline
	@$(BIN)/modelengine demo --up

test: check ## Run every check and every test (root and Linux for those on a real Kubernetes)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(AT_ONCE) --ignore=tests/cluster
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --skip-empty
	@$(MAKE) --no-print-directory test-cluster

check: setup ## Lint, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup ## Run the tests that take seconds
	$(PYTEST) -q $(AT_ONCE) tests/unit

test-cluster: cluster-parts ## Run the tests on a real Kubernetes, which this machine brings up
	@echo "Two runs at once, each on a cluster of its own; what they say comes when they end, after 7 and 15 minutes."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target with-a-node with-a-played-kubelet

with-a-node:
	$(PYTEST) tests/cluster --ignore-glob='*/test_operator_*.py'

# A real node would take the pods that these tests play.
with-a-played-kubelet:
	$(PYTEST) tests/cluster/test_operator_*.py

cluster-parts: setup ## Install and build what that Kubernetes consists of, images too (once; about 20 minutes and 15 GB)
	@$(CLUSTER).parts

cluster: cluster-parts ## Bring that Kubernetes up to play with, until Ctrl-C
	@$(CLUSTER).up

chart: setup ## Make what comes from others: the CRD and its page, the chart's copy, plain manifests, the tables of values and metrics
	$(BIN)/python -m modelengine_operator.crd
	$(BIN)/python -m modelengine_operator.reference
	PYTHONPATH=tests $(BIN)/python charts/render.py
	PYTHONPATH=tests $(BIN)/python -m shown_metrics

images: ## Build the two images (BUILDER=docker|podman|buildah, IMAGE_PREFIX=registry.example/me/)
	for name in operator engine; do \
	  $(BUILDER) build $(BUILD_FLAGS) -f $$name/Dockerfile -t $(IMAGE_PREFIX)modelengine-$$name:$(IMAGE_TAG) . || exit 1; \
	done

pictures: setup ## Take the pictures of the chat page in docs/images
	PYTHONPATH=tests $(BIN)/python -m pictures

bench: setup ## Measure: look-ups, start, HTTP layer, throughput; prints a table
	$(BIN)/python -m bench

bench-engine: setup ## Measure our engine beside transformers serve, llama.cpp and OpenVINO (more than an hour; 12 GB once)
	$(BIN)/python -m bench.engine

bench-cluster: cluster-parts ## Measure on a real Kubernetes: apply to first token, kills, a thousand ModelEngines (about 45 minutes)
	PYTHONPATH=tests $(BIN)/python -m bench.cluster

bench-gateway: setup ## Measure the front door beside Go's reverse proxy and a FastAPI proxy (needs go; about 10 minutes)
	$(BIN)/python -m bench.gateway

bench-gap: setup ## Measure how long 8 streams stand still while a prompt of 4,000 tokens is taken in
	$(BIN)/python -m bench.prompt_gap

bench-perplexity: setup ## Measure what weights in 16, 8 and 4 bits cost the demo model in perplexity
	$(BIN)/python -m bench.perplexity

soak: setup ## Send 10,000 requests of every kind to an engine that is frozen now and then; fails where one is hurt
	$(BIN)/python -m bench.soak

fuzz: setup ## Send 100,000 mutated requests and 10,000 broken byte streams to a front door; fails where one hurts it
	PYTHONPATH=tests $(BIN)/python -m bench.fuzz

demo-model: setup ## Train the bundled model anew (resumable; about 90 minutes on 2 cores)
	$(BIN)/python -m demo.tokenizer
	nice -n 19 $(BIN)/python -m demo.train --tokens 24000000 $(if $(wildcard demo/.work/checkpoint.pt),--resume)
	$(BIN)/python -m demo.export
	$(BIN)/python -m demo.evaluate

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
# What an image has is what was tested: the same versions.
LOCK_PART := $(LOCK) --constraint requirements/dev.txt

lock: setup ## Lock the newest allowed dependencies, with hashes and without addresses
	$(LOCK) --upgrade requirements/uv.in -o requirements/uv.txt
	$(LOCK) --upgrade pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(LOCK_PART) pyproject.toml --extra operator --extra gateway -o requirements/operator.txt
	$(LOCK_PART) pyproject.toml --extra engine -o requirements/engine.txt
	$(LOCK_PART) requirements/build.in -o requirements/build.txt
# The peers that our engine is measured beside: transformers as ours has it, OpenVINO with what it wants.
	$(LOCK_PART) bench/engine/peers/transformers.in -o bench/engine/peers/transformers.txt
	$(LOCK) --upgrade bench/engine/peers/openvino.in -o bench/engine/peers/openvino.txt

clean: ## Remove what can be made again
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* dist build
