# make test, make demo, ... on any machine with Python 3.11 or newer and its venv module.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: $(INSTALLED) ## train, evaluate and segment synthetic prostates, then write a report
	$(BIN)/python -m dim_monai.demo

test: $(INSTALLED) ## run the tests; those on real images need DIM_TEST_DATA
	$(BIN)/python -m pytest -q

check: $(INSTALLED) ## lint, format, types, spelling; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

clean: ## remove what the tools wrote; the environment and results stay
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find bundles dim_monai tests -name __pycache__ -prune -exec rm -rf {} +

# Made again when the requirements change. The build runs outside of pip's isolation because only
# there the constraints hold for the build backend too.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt setuptools
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e ".[dev,tracking]"
	touch $@
