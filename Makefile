# Every target sets up what it needs; `make` lists the targets.
PYTHON ?= python3
PY := .venv/bin/python
DEMO := runs/demo
SEED := 2022
SIZE := demo
WHEELS_PYTHON ?= 3.12
PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 any
WHEELS := segmentation-models-pytorch|imagecodecs|nvidia-ml-py|safetensors|timm|huggingface-hub|pandas|python-dateutil|tifffile
# Two processes that compute with one core each. If both used all cores, they would wait for each other
PYTEST_OPTIONS := -n 2 --dist loadfile
test test-all test-lowest: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo try test test-all test-lowest lint reference bundle bench gpu wheels lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: pyproject.toml requirements.lock
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing requirements.lock into .venv (torch with CUDA, about 6 GB, about two minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: .venv/installed ## the way from toy data (of SIZE=demo or tiny) to the leaderboard, in runs/demo
	rm -rf $(DEMO)
	$(PY) starting_kit/make_toy_dataset.py $(DEMO)/data --size $(SIZE) --seed $(SEED)
	$(PY) starting_kit/train.py --data $(DEMO)/data --config demo --output $(DEMO)/train
	$(PY) starting_kit/package.py $(DEMO)/train -o $(DEMO)/submission.zip
	$(PY) starting_kit/most_frequent.py $(DEMO)/data -o $(DEMO)/most_frequent.zip
	$(PY) starting_kit/evaluate.py $(DEMO)/most_frequent.zip $(DEMO)/submission.zip --data $(DEMO)/data --output $(DEMO)/results
	$(PY) scoring_program/rank.py $(DEMO)/results/* --output $(DEMO)/leaderboard.html
	@echo "$(CURDIR)/$(DEMO)/results/submission/detailed_results.html"

try: .venv/installed ## SUBMISSION=... on DATA=... as on the platform: in the image IMAGE=..., else in an imitation
	@test -n "$(SUBMISSION)" -a -n "$(DATA)" || { echo "error: say which submission and which data: make try" \
	  "SUBMISSION=runs/first.zip DATA=/path [IMAGE=NAME] [OPTIONS='--split val --subset 500']" >&2; exit 2; }
	$(PY) starting_kit/try_out.py $(SUBMISSION) --data $(DATA) $(if $(IMAGE),--image $(IMAGE)) $(OPTIONS)

test: .venv/installed ## tests that take seconds each
	$(PY) -m pytest $(PYTEST_OPTIONS) -m "not long"

test-all: .venv/installed ## all tests, also those that take minutes
	$(PY) -m pytest $(PYTEST_OPTIONS)

# A submission or an environment in the folder of the clone is not ours to check
lint: .venv/installed ## ruff and mypy, on the files that git tracks
	git ls-files -z '*.py' '*.ipynb' | xargs -0 $(PY) -m ruff check --force-exclude
	git ls-files -z '*.py' '*.ipynb' | xargs -0 $(PY) -m ruff format --check --force-exclude
	$(PY) -m mypy

reference: .venv/installed ## train the paper's U-T&T on DATA=... and put its weights into reference_submission/
	@test -n "$(DATA)" || { echo "error: say where the FLAIR #2 archives are: make reference DATA=/path" >&2; exit 2; }
	$(PY) starting_kit/train.py --data $(DATA) --config utt_best --output runs/reference --resume
	cp runs/reference/model.safetensors reference_submission/weights.safetensors

bundle: .venv/installed ## dist/bundle.zip for the platform, with the test set of DATA=... if given
	$(PY) bundle/build.py $(if $(DATA),--data $(DATA)) $(if $(IMAGE),--image $(IMAGE)) -o dist/bundle.zip \
	  $(if $(wildcard reference_submission/weights.safetensors),,--untrained-reference)

bench: .venv/installed ## benchmarks; append to benchmarks/RECORD.md
	$(PY) benchmarks/scoring.py
	$(PY) benchmarks/scoring.py --scale full
	$(PY) benchmarks/ingestion.py
	$(PY) benchmarks/reading_order.py
	$(PY) benchmarks/loading.py
	$(PY) benchmarks/inference.py
	$(PY) benchmarks/training_step.py
	$(PY) benchmarks/toy_learning.py
	$(PY) benchmarks/toy_learning.py options
	$(PY) benchmarks/planner.py
	$(PY) benchmarks/architectures.py
	$(PY) benchmarks/significance.py
	$(PY) benchmarks/ranking.py
	$(PY) benchmarks/full_scale.py
	$(PY) benchmarks/demo.py

# On a machine without network: `make wheels` elsewhere, install them there, then `make gpu PY=python3`
gpu: $(if $(filter .venv/%,$(PY)),.venv/installed) ## what needs a GPU, as much as fits into 9 minutes; without one, what a CPU can do
	$(PY) benchmarks/gpu.py

# Where the lock has two versions of a package, the second is for newer Pythons
wheels: .venv/installed ## in wheels/, the packages that a Python with PyTorch may lack, for Python $(WHEELS_PYTHON)
	$(PY) -m pip download --quiet --no-deps --only-binary :all: --python-version $(WHEELS_PYTHON) \
	  $(addprefix --platform ,$(PLATFORMS)) -d wheels \
	  $$(grep -oE '^($(WHEELS))==[^ ]+' requirements.lock | tac | sort -u -t= -k1,1)

lock: ## pin the newest versions that pyproject.toml allows
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile pyproject.toml --extra train --extra dev --universal --python-version 3.11 --quiet \
	  --no-header --upgrade -o requirements.lock

test-lowest: ## tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip compile pyproject.toml --extra train --extra dev --resolution lowest-direct --quiet \
	  --python-version 3.11 -o .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet -r .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet --no-deps --editable .
	.venv-lowest/bin/python -m pytest $(PYTEST_OPTIONS) -m "not long"

clean: ## remove everything that make has written
	rm -rf .venv .venv-lowest runs dist build wheels *.egg-info
