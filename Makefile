# make test, make demo, ... on any machine with Python 3.11 or newer and its venv module.
PYTHON ?= python3
BUNDLE ?= dim_prostate
WORKERS ?= 2
# A file at a time, in the order of tests/conftest.py: the longest first.
IN_PROCESSES := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
INSTALLED := .venv/.installed
LABEL_BIN := .venv-label/bin
LABEL_INSTALLED := .venv-label/.installed

.DEFAULT_GOAL := help
.PHONY: help demo label label-python test test-label check docs weights zoo clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo: $(INSTALLED) ## train, evaluate and segment synthetic images; also BUNDLE=dim_fundus
	$(BIN)/python -m dim_monai.demo --bundle $(BUNDLE)

label: $(LABEL_INSTALLED) ## serve to MONAI Label clients: STUDIES=DIR; also BUNDLE=dim_fundus
	$(LABEL_BIN)/python -m dim_monai.label --studies "$(STUDIES)" --bundle "$(BUNDLE)"

test: $(INSTALLED) ## run the tests; those on real images need DIM_TEST_DATA
	$(BIN)/python -m pytest -q $(IN_PROCESSES)

# Without what no server does: train by an overlay, publish in the zoo.
test-label: $(LABEL_INSTALLED) ## run laws, bundles and the server with the versions of MONAI Label
	$(LABEL_BIN)/python -m pytest -q $(IN_PROCESSES) tests/laws tests/bundles tests/inference tests/label \
		--ignore tests/bundles/test_overlays.py --ignore tests/bundles/test_zoo_checks.py

check: $(INSTALLED) ## lint, format, types, spelling; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(INSTALLED) ## write docs/reference from the code
	$(BIN)/python -m scripts.reference

weights: $(INSTALLED) ## train the weights of a bundle anew: BUNDLE=dim_fundus, or DATA=DIR of the volumes
	$(BIN)/python benchmarks/weights.py $(BUNDLE) $(if $(DATA),--data "$(DATA)")

zoo: $(INSTALLED) ## check the bundles as the MONAI model zoo does; offline: SCHEMA=FILE
	$(BIN)/python scripts/zoo_checks.py $(if $(SCHEMA),--schema "$(SCHEMA)")

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

# MONAI Label wants versions of its own. torch comes first: sam2, which it requires, imports it while
# it is built, and an isolated build would fetch another torch.
$(LABEL_INSTALLED): pyproject.toml constraints-label.txt
	@$(MAKE) -s label-python
	$(PYTHON) -m venv .venv-label
	$(LABEL_BIN)/python -m pip install -q -c constraints-label.txt setuptools wheel torch torchvision
	SAM2_BUILD_CUDA=0 $(LABEL_BIN)/python -m pip install -q -c constraints-label.txt --no-build-isolation -e ".[label]"
	touch $@

# Ignite 0.4.11, which MONAI Label requires, cannot be imported by Python 3.11.2, the one of Debian 12,
# and a pin wants 3.11.5.
label-python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11, 5) or sys.exit("MONAI Label needs \
	Python 3.11.5 or newer; got " + sys.version.split()[0] + "; name another by PYTHON=")'
