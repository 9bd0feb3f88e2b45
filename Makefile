# make demo and make test each work alone on a fresh machine with Python and pip.
#   make demo    set up, then segment unseen photographs and write a picture
#   make test    set up, then run the tests
#   make serve   the demo's index behind a page on this machine
#   make abuse   abusive inputs for an hour, and what came of them; ABUSE="--minutes 5", "--inputs 500 --seed 1"
#   make check   formatting, lint and types
#   make bench   the quick form of all benchmarks, under ten minutes; DATA=FOLDER for other images
#   make bench-full   the tracked tables, with the peers; hours
#   make clean   remove the environment and everything built or cached

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
ABUSE ?= --minutes 60
DATA ?= ../shared/data/camvid
EXTRAS := faiss-cpu,offline,demo,qdrant,text,audio,coco,geo,serve,dev
STAMP := $(VENV)/.mycelia-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test abuse check format bench bench-full clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

# The stamp is younger than pyproject.toml exactly when its dependencies are installed.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Mycelia needs Python 3.10 or newer; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --editable '.[$(EXTRAS)]'
	@touch $@

demo: setup
	@$(BIN)/mycelia demo

DEMO := out/demo/fungi.index

$(DEMO)/manifest.json: | setup
	@$(BIN)/mycelia demo

serve: setup $(DEMO)/manifest.json
	@$(BIN)/mycelia serve $(DEMO) --open

# One thread a worker: two workers with a thread per core each would wait for one another.
test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses 2

abuse: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.abuse $(ABUSE)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@tools/page/check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks quick --data $(DATA)

bench-full: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --editable '.[$(EXTRAS),bench]'
	$(BIN)/python -m benchmarks full --data $(DATA) --out benchmarks/results

clean:
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
