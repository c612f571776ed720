# make demo   on a fresh machine: .venv, install, animate the bundled portrait, print the video's path
# make test   on a fresh machine: .venv, install with the test extras, ruff, all tests
#
# Variables: PYTHON (3.11 or newer), VENV, TEST_WORKERS, FUZZ, KILLS, CASES (folders for benchmark-parity).

PYTHON ?= python3
VENV ?= .venv
TEST_WORKERS ?= 2
FUZZ ?= 20
KILLS ?= 20
CASES ?= $(wildcard ../shared/golden/dit_*)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
DEMO_VIDEO := demo/out/demo.mp4
# What an installation depends on; the code itself is installed in place and needs no new run of pip.
PACKAGING := pyproject.toml constraints.txt

# Networks of the light pose estimator, for the tests; never part of the repository. Where the servers of the
# catalogue cannot be reached, npm may have a mirror.
POSE_FETCH := $(BIN)/hallo4 weights fetch pose-light -o .cache/weights/pose
POSE_NETWORKS = { $(POSE_FETCH) || { mkdir -p .cache && \
	npm pack @mediapipe/holistic@0.5.1675471629 --pack-destination .cache && $(POSE_FETCH) --from .cache; }; } \
	>/dev/null 2>&1

.PHONY: help demo test docs fuzz kills lint file-tree benchmark-parity clean
.DELETE_ON_ERROR:

help:
	@echo "make demo              animate the bundled portrait with the bundled speech; prints the video's path"
	@echo "make test              ruff and all tests"
	@echo "make docs              the pages as a site, with the generated reference, in docs/build; prints its path"
	@echo "make fuzz              damaged and strange files for a while (FUZZ=times as many cases as in make test)"
	@echo "make kills             every long command killed and begun again (KILLS=times two kills of each)"
	@echo "make lint              ruff check and format check only"
	@echo "make file-tree         rewrite the file tree of docs/architecture.md from the docstrings"
	@echo "make benchmark-parity  compare with the golden cases of the released architecture (CASES=folders)"
	@echo "make clean             remove .venv, caches and the demo's output"

demo: $(VENV)/.installed
	@mkdir -p $(dir $(DEMO_VIDEO))
	$(BIN)/hallo4 animate demo/portrait.png demo/speech.wav --motion demo/keypoints.json -o $(DEMO_VIDEO)
	@echo "The video is here: $(abspath $(DEMO_VIDEO))"

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	@$(POSE_NETWORKS) || echo "tests that need the networks of pose-light are skipped: they cannot be fetched here"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -b html -q docs docs/build
	@echo "The site is here: $(abspath docs/build/index.html)"

fuzz: $(VENV)/.installed-test
	HALLO4_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) tests/test_fuzz.py

kills: $(VENV)/.installed-test
	HALLO4_KILLS=$(KILLS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cli/test_kills.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

file-tree:
	$(PYTHON) docs/file_tree.py

benchmark-parity: $(VENV)/.installed
	@test -n "$(CASES)" || { echo "no golden case found; run: make benchmark-parity CASES='DIR ...'"; exit 2; }
	@for case in $(CASES); do echo "$$case"; $(BIN)/python benchmarks/parity.py "$$case" || exit 1; done

clean:
	rm -rf $(VENV) docs/build docs/generated build dist *.egg-info .pytest_cache .ruff_cache demo/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hallo4 needs Python 3.11 or newer, and $(PYTHON) is not; run: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(PACKAGING)
	@echo "Installing into $(VENV); on a fresh machine this takes a few minutes."
	$(PIP) --quiet -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.created $(PACKAGING)
	@echo "Installing into $(VENV) with the test extras; on a fresh machine this takes a few minutes."
	$(PIP) --quiet -e '.[test]'
	@touch $(VENV)/.installed $@
