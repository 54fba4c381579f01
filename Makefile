# Three tiers of tests: `make check`, `make test`, `make nightly`; see CONTRIBUTING.md. `make demo` shows the package.
# Each makes .venv if it is not there, and uses it again if it is.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
# Tests run in as many processes as there are cores, at most four, each with one thread.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal
# Which tests `make test` runs, in pytest's words.
MARKS := not nightly

.PHONY: demo lint check test nightly format bench claims coverage docs site release clean

demo: .venv/demo.stamp
	@$(BIN)/saywhy demo out/demo

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

check: lint
	$(TESTS) -m "not slow and not nightly and not browser" -q

test: .venv/dev.stamp
	$(TESTS) -m "$(MARKS)"

nightly: .venv/dev.stamp
	$(TESTS) -m nightly

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev.stamp
	$(BIN)/python -m research.benchmarks.cost --out docs/benchmarks.md
	$(BIN)/python -m research.benchmarks.perturbation --out docs/benchmarks-perturbation.md
	$(BIN)/python -m research.benchmarks.language --out docs/benchmarks-language.md
	$(BIN)/python -m research.benchmarks.checking --out docs/benchmarks-checking.md
	$(BIN)/python -m research.benchmarks.certainty --out docs/benchmarks-certainty.md
	$(BIN)/python -m research.benchmarks.decoding --out docs/benchmarks-decoding.md
	$(BIN)/python -m research.benchmarks.hints --out docs/benchmarks-hints.md
	$(BIN)/python -m research.benchmarks.counting --out docs/benchmarks-counting.md
	$(BIN)/python -m research.benchmarks.studio --out docs/benchmarks-studio.md

claims: .venv/dev.stamp
	$(BIN)/python -m research.claims.language --out docs/claims-language.md
	$(BIN)/python -m research.claims.trust --out docs/claims-trust.md
	$(BIN)/python -m research.claims.vision --out docs/claims-vision.md
	$(BIN)/python -m research.claims.ucam --out docs/claims-ucam.md
	$(BIN)/python -m research.claims.hint --out docs/claims-hint.md
	$(BIN)/python -m research.claims.fix --out docs/claims-fix.md
	$(BIN)/python -m research.claims.counting --out docs/claims-counting.md
	$(BIN)/python -m research.claims.diverse_captions --out docs/claims-diverse-captions.md
	$(BIN)/python -m research.claims.diverse_questions --out docs/claims-diverse-questions.md
	$(BIN)/python -m research.claims.translation --out docs/claims-translation.md

coverage: .venv/dev.stamp
	$(BIN)/python -m research.benchmarks.coverage --out docs/coverage.md

docs: .venv/dev.stamp
	$(BIN)/saywhy methods --markdown > docs/methods.md
	$(BIN)/saywhy metrics --markdown > docs/metrics.md
	$(BIN)/python -m research.benchmarks.parity_ledger --out docs/parity.md
	$(BIN)/python -m docs.readme
	$(BIN)/python -m docs.pictures
	$(BIN)/python -m docs.gallery

site: .venv/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet  # into out/site

release: .venv/dev.stamp
	PYTHON=$(BIN)/python scripts/release.sh

clean:
	rm -rf .venv out

.venv/bin/python:
	@echo "making .venv (torch is large: a few minutes, once)"
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install -e .
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install -e '.[dev]'
	@touch $@
