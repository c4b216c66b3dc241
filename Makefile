# Thin covers of the command line `tandem`; `make` alone lists them.
#
#   make submit-search PRESET=cifar10 PARTITION=gpu WORKERS=10
#   make submit-search PRESET=digits SET="search.eta=4 training.threads=2"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TANDEM := $(BIN)/tandem

# What pip installs beside the program itself; EXTRAS= leaves out what only its development needs.
EXTRAS ?= dev
# Another build of PyTorch: cpu (small), cu126, ... of the pinned version, or a whole version such as 2.13.0+cpu.
TORCH ?=
pinned = $(shell sed -n 's/^$(1)==//p' constraints.txt)
# torchvision has builds of its own for each; beside a whole version of PyTorch, pip chooses it.
TORCH_BUILD := $(if $(findstring +,$(TORCH)),torch==$(TORCH),$(foreach package,torch torchvision,$(package)==$(call pinned,$(package))+$(TORCH)))
OF_TORCH := ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==

PRESET ?= digits
RUN ?=
RESULTS ?= results
SET ?=

# Settings with a short name: each one given on make's command line (not by a variable that happens to be in the
# environment) becomes an override; SET="section.field=value ..." reaches every other.
override_of = $(if $(findstring command,$(origin $(1))),--set '$(2)=$($(1))')
OVERRIDES = $(call override_of,NAME,name) $(call override_of,SEED,seed) $(call override_of,DATA,data.root) \
	$(call override_of,METHOD,search.method) $(call override_of,MIN_BUDGET,search.min_budget) \
	$(call override_of,MAX_BUDGET,search.max_budget) $(call override_of,ETA,search.eta) \
	$(call override_of,ITERATIONS,search.iterations) $(call override_of,PROMOTION,search.promotion) \
	$(call override_of,WORKERS,workers.count) $(call override_of,PARTITION,slurm.partition) \
	$(call override_of,ACCOUNT,slurm.account) $(call override_of,QOS,slurm.qos) \
	$(call override_of,WALLTIME_MIN,slurm.walltime_min) $(call override_of,MASTER,slurm.master) \
	$(foreach setting,$(SET),--set '$(setting)')
SOURCE = --preset '$(PRESET)' $(OVERRIDES)
IN_RESULTS = --results '$(RESULTS)'
THIS_RUN = $(if $(RUN),'$(RUN)') $(IN_RESULTS)

# A misspelt variable would silently start another search than the one that was meant.
KNOWN := PYTHON VENV EXTRAS TORCH PYTHONS TESTS PRESET RUN RUNS CONFIG RESULTS SET NAME SEED DATA METHOD MIN_BUDGET MAX_BUDGET ETA ITERATIONS \
	PROMOTION WORKERS PARTITION ACCOUNT QOS WALLTIME_MIN MASTER SECONDS SEEDS ARGS STYLE FORMAT MAKEFLAGS MFLAGS
UNKNOWN := $(strip $(foreach name,$(filter-out $(KNOWN),$(.VARIABLES)),$(if $(findstring command,$(origin $(name))),$(name))))
$(if $(UNKNOWN),$(error unknown: $(UNKNOWN). `make` lists the variables; SET="section.field=value" reaches every setting))

.DEFAULT_GOAL := help
.PHONY: help install doctor demo data plan submit-search status stop-search resume-search collect-results verify compare \
	watch figures tables \
	baselines retrain-incumbent bench-headline bench-training bench-dispatch bench-proposals bench-search docs lint format test \
	test-unit test-integration test-slurm dist test-python test-all-pythons coverage

help: ## List every target (the default)
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PRESET=digits|fashion_mnist|cifar10|cifar10-as-published|cifar10-fast|cifar100|svhn"
	@echo "  RUN=id, name or path (default: the latest)   CONFIG=id SEEDS=n for the trainings after a search"
	@echo "  NAME SEED DATA METHOD MIN_BUDGET MAX_BUDGET ETA ITERATIONS PROMOTION WORKERS PARTITION ACCOUNT QOS"
	@echo "  WALLTIME_MIN MASTER=login|slurm RESULTS=folder   SET=\"section.field=value ...\" for every other setting"
	@echo "  (SET splits at spaces: give a value that has some with \`tandem ... --set\`, or in a file: PRESET=my.yaml)"

install: $(BIN)/.installed ## Make the environment (.venv) from pinned versions; TORCH=cpu is small

$(BIN)/.installed: setup.cfg constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "Installing the pinned packages (PyTorch is large: a few minutes) ..."
	@grep -v -E '$(if $(TORCH),$(OF_TORCH),^$$)' constraints.txt > $(VENV)/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt \
		$(if $(TORCH),$(TORCH_BUILD)) -e '.$(if $(EXTRAS),[$(EXTRAS)])' $(if $(TORCH),|| { echo \
		"make: pip did not find $(TORCH_BUILD): run it again with PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS" \
		"set to where they are (PyTorch's page on installing it names the index of each build)"; exit 1; })
	@touch $@

demo: install ## A real joint search on this machine: digits, five minutes, with report
	@$(TANDEM) demo $(SOURCE) $(IN_RESULTS)

data: install ## Get and prepare the data of PRESET (on a host with internet)
	@$(TANDEM) data $(SOURCE)

doctor: install ## Check the site before the first submission: versions, storage, Slurm, network, devices
	@$(TANDEM) doctor $(SOURCE) $(IN_RESULTS)

plan: install ## What the search of PRESET would take: evaluations, GPU-hours, time with how many workers
	@$(TANDEM) plan $(SOURCE)

submit-search: install ## Start the search of PRESET here or on Slurm
	@$(TANDEM) submit-search $(SOURCE) $(IN_RESULTS)

status: install ## What the run is doing (live on a terminal)
	@$(TANDEM) status $(THIS_RUN)

stop-search: install ## End a run in order: workers checkpoint and leave
	@$(TANDEM) stop-search $(THIS_RUN)

resume-search: install ## Go on with a stopped, killed or finished run (ITERATIONS=n extends it)
	@$(TANDEM) resume-search $(THIS_RUN) $(if $(ITERATIONS),--iterations $(ITERATIONS))

collect-results: install ## Merge what is there into results.h5, tables, figures and report.html
	@$(TANDEM) collect-results $(THIS_RUN)

watch: install ## A page (live.html in the run folder) that renews itself until the run ends
	@$(TANDEM) watch --page $(THIS_RUN)

figures: install ## The report's figures for a paper: STYLE=single|double|slides FORMAT=pdf|png, one file per panel
	@$(TANDEM) figures --style '$(or $(STYLE),single)' --format '$(or $(FORMAT),pdf)' $(THIS_RUN)

tables: install ## The report's tables as LaTeX
	@$(TANDEM) tables --latex $(if $(RUN),--run '$(RUN)') $(IN_RESULTS)

verify: install ## Re-derive every proposal and promotion of a run from its files
	@$(TANDEM) verify $(THIS_RUN)

compare: install ## Several runs on the same axes: RUNS="a b c"
	@$(TANDEM) compare $(RUNS) $(IN_RESULTS)

baselines: install ## Train the paper's baselines for the full budget of RUN (or PRESET) with several seeds
	@$(TANDEM) baselines $(if $(RUN),--run '$(RUN)' $(OVERRIDES),$(SOURCE)) $(if $(SEEDS),--seeds $(SEEDS)) $(IN_RESULTS)

retrain-incumbent: install ## Train the run's incumbent (CONFIG=id: another) on training plus validation data with several seeds
	@$(TANDEM) retrain-incumbent $(if $(CONFIG),--config '$(CONFIG)') $(if $(SEEDS),--seeds $(SEEDS)) $(THIS_RUN)

bench-headline: install ## Tandem and stock BOHB in the same time on two cores (resumes; SECONDS=1800 SEEDS=5: a night)
	@$(BIN)/python -m benchmarks.headline $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

bench-training: install ## Training speed against a reference of the authors' way
	@$(BIN)/python -m benchmarks.training

bench-dispatch: install ## Evaluations a second, joins and latency against stock hpbandster
	@$(BIN)/python -m benchmarks.dispatch

bench-proposals: install ## What a proposal and a result cost the master, beside stock hpbandster
	@$(BIN)/python -m benchmarks.proposals --stock

bench-search: install ## Search methods and their peers on the same problems (resumes; ARGS="--quick")
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search $(ARGS)

docs: install ## The documentation as a site: build/docs/index.html
	@$(BIN)/python -m sphinx -b html -q -W --keep-going docs build/docs
	@echo "Open build/docs/index.html in a browser; it needs no server and no network."

lint: install ## ruff, mypy and shellcheck (where it is installed)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@if command -v shellcheck >/dev/null; then shellcheck slurm/*.sh .ci/run; else echo "shellcheck is not installed: skipped"; fi

format: install ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

test: install ## Everything that this machine can test
	@$(BIN)/python -m tests

test-unit: install ## The fast tests alone: two minutes
	@$(BIN)/python -m pytest tests/unit -m "not slow"

test-integration: install ## Real processes on this machine
	@$(BIN)/python -m pytest tests/integration

test-slurm: install ## A real Slurm cluster on this machine (root, Debian or Ubuntu)
	@$(BIN)/python -m pytest tests/slurm

dist: install ## Build the wheel and the source archive into dist/
	@$(BIN)/python -m build --quiet --outdir dist .
	@ls dist/*-"$$($(TANDEM) --version | cut -d' ' -f2)"*

test-python: ## The unit tests on another Python, in an environment of its own: PYTHON=python3.12
	@command -v '$(PYTHON)' >/dev/null || { echo "make: there is no $(PYTHON) here; PYTHON=... names one (a command or a path)"; exit 1; }
	@version=$$('$(PYTHON)' -c 'import sys; print("%d.%d" % sys.version_info[:2])') && echo "Python $$version" && \
		$(MAKE) --no-print-directory test-unit VENV=".venv-$$version" PYTHON='$(PYTHON)'

PYTHONS ?= python3.11 python3.12 python3.13
test-all-pythons: ## The unit tests on every Python that setup.cfg promises, as far as this machine has it
	@for python in $(PYTHONS); do \
		if command -v $$python >/dev/null; then $(MAKE) --no-print-directory test-python PYTHON=$$python || exit 1; \
		else echo "$$python is not here: skipped"; fi; \
	done

TESTS ?= tests/unit tests/integration
coverage: install ## What no test reaches, by lines: TESTS="tests/unit" for fewer tests
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest -q $(TESTS); status=$$?; \
		$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report && exit $$status
