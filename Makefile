# `make demo` is the whole way in on a fresh Debian 12 with make, git and Python 3.11.

BIN := .venv/bin
# nft and sysctl are here, where Debian does not let an ordinary user look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
INPUTS := debian-packages.txt pyproject.toml scripts/setup
BENCHES := bench/check.py bench/online.py bench/certificate.py bench/interchange.py bench/sim.py bench/agent.py bench/target.py bench/guest.py bench/compare.py bench/explore.py

.PHONY: help setup demo test lint bench prove prove-checker mutate-checker scenarios soak-smoke pictures policies doctor clean

help:
	@echo "make demo    three tests on real guests: a control, the case of 2006, and the same on a stock server"
	@echo "make test    run all tests, as many side by side as there are processors; some of them start real guests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure the checker, the guest's I/O and a comparison"
	@echo "make prove   prove-checker, and the demo under 20 seeds with what was in flight at each migration"
	@echo "make prove-checker   the checker against a search over all orders of 5 million histories; part of prove"
	@echo "make scenarios  ten exact interleavings that lose a write, each ten times with the end that it has to have"
	@echo "make soak-smoke  200 random fault schedules on a storage that is right and 200 on one that is not; goes on where it was"
	@echo "make mutate-checker  break the checker in every small way and see that a test notices"
	@echo "make pictures  make the definitions and pictures of docs/anomalies.md anew"
	@echo "make policies  make the truth table of docs/policies.md anew from comparisons, SIM and LABS"
	@echo "make doctor  say what this machine lacks"
	@echo "make setup   install Debian packages (as root or by sudo) and make .venv; the others do it too"
	@echo "make clean   remove .venv and caches; the store and its runs stay"

# A stamp for each extent, so that the demo does not wait for what only the tests need.
.venv/ready-run: $(INPUTS)
	@scripts/setup run
	@touch $@

.venv/ready-all: $(INPUTS)
	@scripts/setup all
	@touch .venv/ready-run $@

setup: .venv/ready-all

demo: .venv/ready-run
	@$(BIN)/jepsen-blk demo

doctor: .venv/ready-run
	@$(BIN)/jepsen-blk doctor

test: .venv/ready-all
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

lint: .venv/ready-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	MYPYPATH=tests:bench $(BIN)/mypy --strict --scripts-are-modules bench/*.py

bench: .venv/ready-all
	@set -e; for bench in $(BENCHES); do echo "== $$bench"; $(BIN)/python $$bench; done

prove: prove-checker
	$(BIN)/python bench/prove.py

prove-checker: .venv/ready-run
	$(BIN)/python bench/prove_checker.py

scenarios: .venv/ready-run
	$(BIN)/jepsen-blk scenarios --all --times 10

soak-smoke: .venv/ready-run
	$(BIN)/python bench/soak_smoke.py

pictures: .venv/ready-all
	$(BIN)/python -m jepsen_blk.report.kinds_page docs

SIM ?= comparisons/truth-table
LABS ?= comparisons/lab-table comparisons/stock-table
policies: .venv/ready-run
	$(BIN)/python -m jepsen_blk.report.comparison.policies_page "$(SIM)" $(LABS) docs/policies.md

mutate-checker: .venv/ready-all
	$(BIN)/python bench/mutate_checker.py

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis ./*.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
