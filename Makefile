# Every target sets up what it needs by itself; the second run starts at once.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
CHIP ?= tiny
JOBS ?= 2
export PATH := $(BIN):$(PATH)

# Debian packages that no wheel replaces: a C++ compiler and Perl for Verilator, Icarus, a compiler cache, a browser.
APT_TOOLS := g++:g++ perl:perl iverilog:iverilog ccache:ccache chromium:chromium chromedriver:chromium-driver

.PHONY: help setup test lint cocotb verify verify-full waves bench-levels formal mutate verilog synth sim report bench bench-engine bench-hb bench-pe bench-dram bench-runtime bench-elastic bench-gpu study lossless bench-trace train evaluate-model verify-loaders clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python must be 3.11 or newer; give one with make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { $(call apt,python3-venv) && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e .[dev]
	@touch $@

# apt-get as root or through passwordless sudo; otherwise one line says what to install.
define apt
{ run=; [ "$$(id -u)" = 0 ] || run="sudo -n"; \
  { [ -z "$$run" ] || sudo -n true 2>/dev/null; } && command -v apt-get >/dev/null && \
  $$run apt-get -qq update >/dev/null && DEBIAN_FRONTEND=noninteractive $$run apt-get -qq install -y --no-install-recommends $(1) >/dev/null 2>&1; } || \
{ echo "please install: $(1)"; exit 2; }
endef

$(VENV)/.system: $(VENV)/.dev
	@missing=; for pair in $(APT_TOOLS); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	  if [ -n "$$missing" ]; then echo "installing:$$missing"; $(call apt,$$missing); fi
	@touch $@

$(VENV)/.train: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -e .[train]
	@touch $@

setup: $(VENV)/.system ## create .venv with everything the other targets use

lint: $(VENV)/.dev ## ruff and the import contracts
	@ruff check . && ruff format --check . && lint-imports

test: $(VENV)/.system lint ## every check that CI runs
	@pytest -n $(JOBS) --durations=10 -m "not full"

verify-full: $(VENV)/.system ## exhaustive and full-size checks, on demand
	@pytest -n $(JOBS) --durations=10 -m full --timeout 3600

verilog: $(VENV)/.base ## export every block for tiny, fpga-small and 4gb to build/verilog
	@for chip in tiny fpga-small 4gb; do elmoe3d verilog --block all --chip $$chip || exit $$?; done

synth: $(VENV)/.dev ## cost of the idea in cells, area and depth; LIBERTY=file maps to a cell library
	@elmoe3d synth --chip $(if $(filter command line,$(origin CHIP)),$(CHIP),4gb) $(if $(LIBERTY),--liberty $(LIBERTY))

BOARD ?= ulx3s
fpga: $(VENV)/.dev ## bitstream for a board and what it takes: BOARD=name; EXPLORE=1 finds the largest array
	@elmoe3d fpga build --board $(BOARD) $(if $(EXPLORE),--explore)

BLOCK ?= all
SIM ?= icarus
cocotb: $(VENV)/.system ## cocotb tests of exported Verilog: BLOCK=name CHIP=tiny SIM=icarus|verilator WAVES=1
	@python -m verification.bench.cocotb_runner --block $(BLOCK) --chip $(CHIP) --sim $(SIM) $(if $(WAVES),--waves)

verify: $(VENV)/.system ## per block and for whole programs: items compared, mismatches, coverage; VERILOG="tiny 4gb" compiles those
	@python -m verification.verify $(if $(VERILOG),--verilog $(VERILOG))

waves: $(VENV)/.system ## waves of an expert on the PE and a picture of them: build/waves
	@python -m verification.waves

formal: $(VENV)/.dev ## prove the array's arithmetic and streams with a solver; PROPERTY=name for some
	@python -m verification.formal --jobs $(JOBS) $(PROPERTY)

mutate: $(VENV)/.dev ## inject faults and count what the tests notice; BLOCK=name COUNT=50 SEED=1
	@python -m verification.faults --jobs $(JOBS) $(if $(BLOCK),--block $(BLOCK)) $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

sim: $(VENV)/.base ## text on the shipped model, Qwen3-30B-A3B on every machine, the report; arguments in SIM_ARGS
	@elmoe3d compare --suite sim --text --out build/sim --jobs $(JOBS) $(SIM_ARGS)

report: $(VENV)/.base ## the whole comparison suite and its report, in build/compare; continues where it was stopped
	@elmoe3d compare --suite paper --jobs $(JOBS)

train: $(VENV)/.train ## train the shipped models again: hours on a CPU; resumes where it was stopped
	@python -m sw_stack.models.training.train moe
	@python -m sw_stack.models.training.train dense
	@python -m sw_stack.models.training.train eagle

evaluate-model: $(VENV)/.train ## quality and routing of the shipped model beside 5-gram Kneser-Ney and published figures
	@python -m sw_stack.models.training.evaluate

verify-loaders: $(VENV)/.base ## checkpoint loading against transformers (installs torch on demand)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .[verify]
	@python -m verification.golden.verify_loaders

bench: bench-hb bench-pe bench-dram bench-engine bench-runtime bench-trace bench-elastic bench-levels ## every benchmark

bench-hb: $(VENV)/.base ## HB transfers simulated per CPU-second, exact and fast, and their ratio
	@python bench/bench_hb.py

bench-levels: $(VENV)/.dev ## cycles per second of functional, fast, exact and RTL on whole experts
	@python bench/bench_levels.py

bench-pe: $(VENV)/.base ## slice MACs per cycle that the published PE sustains on 16, 64 and 256 tokens, beside its peak
	@python bench/bench_pe.py

bench-dram: $(VENV)/.base ## LPDDR5 reads simulated per CPU-second, exact and stream mode, beside the targets
	@python bench/bench_dram.py

bench-engine: $(VENV)/.base ## decode steps of a 30 B model through the whole-model engine, ms beside the targets
	@python bench/bench_engine.py

bench-runtime: $(VENV)/.base ## tokens per second of the bit-exact runtime, prefill, decode, draft and trees
	@python bench/bench_runtime.py

bench-trace: $(VENV)/.base ## trace generation, statistics and cache replay, token-layers per second
	@python bench/bench_trace.py

bench-elastic: $(VENV)/.base ## tokens per second of every drafting method beside plain decoding
	@python bench/bench_elastic.py

bench-gpu: $(VENV)/.base ## one MoE layer on a real GPU beside its roofline (needs a GPU and PyTorch; not part of bench)
	@python bench/bench_gpu_moe.py

study: $(VENV)/.base ## acceptance, perplexity and hit rates of the shipped model, with figures: build/study (minutes; resumes)
	@elmoe3d study

lossless: $(VENV)/.base ## text of every drafting method against plain decoding, 1 000 prompts of 64 tokens (resumes)
	@python -m verification.stack.lossless_run

clean: ## delete products; keeps .venv
	@rm -rf build
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
