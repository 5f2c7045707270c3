# `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := chiasm encoder decoder scheduler bench tools tests

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-unit test-soak gpu-checks aiperf lint bench bench-all train-pupil manifests clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## make .venv and install everything (ACCELERATOR=cpu|gpu overrides what is found)

$(STAMP): pyproject.toml tools/install.py
	$(PYTHON) tools/install.py .venv
	@touch $@

demo: $(STAMP)  ## send pictures through a split cluster and through an unsplit engine; DEMO_EXIT=1 stops at the end
	$(BIN)/chiasm demo $(if $(DEMO_EXIT),--exit)

serve: $(STAMP)  ## serve the built-in model; ARGS="MODEL --encoders 2" for more
	$(BIN)/chiasm serve $(ARGS)

test: test-unit  ## everything but the soak tests, with real engines (half an hour on two cores)
	$(BIN)/pytest -n $$(nproc) -m "slow and not soak and not engine"
	$(BIN)/pytest -m "engine and not soak"

test-unit: $(STAMP)  ## what needs no engine and is quick (a minute on two cores)
	$(BIN)/pytest -n $$(nproc) -m "not soak and not engine and not slow"

test-soak: $(STAMP)  ## long runs (hours)
	$(BIN)/pytest -m soak

gpu-checks: $(STAMP)  ## what only an NVIDIA GPU can show, and the phase signature there (15 minutes); results in build/gpu
	PYTHON=$(BIN)/python tools/gpu_checks.sh build/gpu

aiperf: $(STAMP)  ## install AIPerf for `chiasm bench clients`, in an environment of its own
	$(BIN)/python tools/install_aiperf.py .venv-aiperf

lint: $(STAMP)  ## ruff and mypy --strict
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy

bench: $(STAMP)  ## the headline figures of docs/benchmarks.md, measured again (an hour; goes on where it stopped)
	$(BIN)/python -m bench.document.reproduced

bench-all: $(STAMP) aiperf  ## every figure that needs no GPU, measured again (most of a day; goes on where it stopped)
	$(BIN)/python -m bench.document.reproduced --all

train-pupil: $(STAMP)  ## train the built-in model anew, and examine it (hours on two cores)
	$(BIN)/python -m chiasm.models.training.train --out build/pupil
	$(BIN)/python -m chiasm.models.training.export build/pupil/settling.pt chiasm/models/pupil
	$(BIN)/chiasm bench pupil --json bench/results/pupil.json --card chiasm/models/README.md

manifests: $(STAMP)  ## make k8s/ again, of the cluster.yaml of each overlay and of alerts and dashboard
	for file in k8s/overlays/*/cluster.yaml; do folder=$$(dirname $$file); \
	  $(BIN)/chiasm render --config $$file --stealing $$folder/stealing.yaml --overlay $$(basename $$folder) -o k8s || exit 1; \
	done

clean:  ## remove .venv and caches
	rm -rf .venv .venv-aiperf .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
