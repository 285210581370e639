# make fuse [A=mri.png B=ct.png] [OUT=fused] [TASK=ct_mri]   fuse a pair; without A and B the project's own phantom
# make view [OUT=fused] [TASK=t2_flair]                      the phantom fused, and its page opened in the browser
# make test                                                  set up and run the quick tests
# make test-slow | make test-hour | make test-cases | make lint | make setup   the rest, the table of odd inputs, the style
# make deploy STUDY=dicom [OUT=fused] [RULES=rules.json]     fuse a DICOM study by the MONAI Deploy application
# make deploy APP=glioma_grading MODEL=RUN STUDY=dicom [...]  grade its glioma by the training in the folder RUN
# make label STUDIES=images [MODEL=RUN]                      start the MONAI Label server on this machine
# make test-deploy | make test-label                         set up each in an environment of its own and test it
# make test-triton                                           the CUDA scan in Triton's interpreter, and compiled
# make test-view                                             the page in a headless Chromium
# make docs                                                  build the documentation's site in docs/_build/html, offline
# make packages                                              build the sdist and the wheel in dist
# make coverage                                              quick tests, with the share of the package's lines that they run
# make picture                                               draw docs/phantom.png and docs/volume_phantom.png anew
# make screenshots                                           draw docs/page_ct_mri.jpg and docs/page_pet_mri.jpg anew: pages of computed studies in Chromium
# make results EVALUATIONS='"CT-MRI=out/ct" "PET-MRI=out/pet"'  put the tables of evaluations into README and model card
# make peers DATA=aanlib [OUT=fused] [MINUTES=30] [TASKS="ct_mri"]  train and score ours and the comparison networks; stop and repeat it at will

PYTHON ?= python3
VENV ?= .venv
OUT ?= fused
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEPLOY_VENV ?= .venv-deploy
LABEL_VENV ?= .venv-label
DEPLOY_STAMP := $(DEPLOY_VENV)/.installed
LABEL_STAMP := $(LABEL_VENV)/.installed
PIP_INSTALL := -m pip install --disable-pip-version-check
NATIVE := $(wildcard setup.py clinicalfmamba_nets/ops/native/src/*)

# The examples of the docstrings; of the kernels only the public name, for the others are compiled or need a GPU.
DOCTESTS := $(filter-out %/ops/ %/cli/ %/bundles/ %/__pycache__/,$(wildcard clinicalfmamba_nets/*/)) clinicalfmamba_nets/errors.py \
	clinicalfmamba_nets/ops/selective_scan.py

.PHONY: setup fuse view test test-slow test-hour test-cases lint deploy label setup-deploy setup-label setup-triton setup-view setup-browser \
	test-deploy test-label test-triton test-view docs setup-docs packages coverage picture screenshots results peers
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml $(NATIVE)
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info < (3, 10) and sys.exit("error: Python: expected 3.10 or newer, found " + v + "; name another one: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV): the first time downloads 0.6 GB (3 GB where pip's index offers torch for CUDA alone) and takes minutes"
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $(STAMP)

fuse: $(STAMP)
	@$(BIN)/clinicalfmamba fuse $(if $(A)$(B),"$(A)" "$(B)",--phantom) --output "$(OUT)" $(if $(TASK),--task $(TASK)) --overwrite

view: setup-view
	@$(BIN)/clinicalfmamba fuse --phantom --task $(or $(TASK),t2_flair) --output "$(OUT)" --overwrite
	@$(BIN)/clinicalfmamba view "$(OUT)" --open

test: $(STAMP)
	$(BIN)/python -m pytest -q --doctest-modules $(DOCTESTS)
	$(BIN)/python -m pytest -q -m "not slow and not hour"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow --ignore tests/cases

test-hour: $(STAMP)
	$(BIN)/python -m pytest -q -m hour

test-cases: $(STAMP)
	$(BIN)/python -m pytest -q -m slow tests/cases

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(DEPLOY_STAMP): deploy/monai_deploy/requirements.txt requirements.txt pyproject.toml
	@test -x $(DEPLOY_VENV)/bin/python || $(PYTHON) -m venv $(DEPLOY_VENV)
	@echo "setting up $(DEPLOY_VENV): the first time downloads 0.7 GB (MONAI Deploy, Holoscan, torch) and takes minutes"
	$(DEPLOY_VENV)/bin/python $(PIP_INSTALL) --quiet --requirement deploy/monai_deploy/requirements.txt
	$(DEPLOY_VENV)/bin/python $(PIP_INSTALL) --quiet --no-deps --editable .
	@touch $(DEPLOY_STAMP)

$(LABEL_STAMP): $(wildcard deploy/monai_label/requirements*.txt) pyproject.toml
	@test -x $(LABEL_VENV)/bin/python || $(PYTHON) -m venv $(LABEL_VENV)
	@echo "setting up $(LABEL_VENV): the first time downloads 0.6 GB (MONAI Label, torch) and takes minutes"
	$(LABEL_VENV)/bin/python $(PIP_INSTALL) --quiet --requirement deploy/monai_label/requirements.txt
	$(LABEL_VENV)/bin/python $(PIP_INSTALL) --quiet --no-deps --requirement deploy/monai_label/requirements-no-deps.txt \
		./deploy/monai_label/torchvision_stand_in --editable .
	@touch $(LABEL_STAMP)

setup-deploy: $(DEPLOY_STAMP)

setup-label: $(LABEL_STAMP)

deploy: $(DEPLOY_STAMP)
	@$(DEPLOY_VENV)/bin/python deploy/monai_deploy --input "$(STUDY)" --output "$(OUT)" $(if $(RULES),--rules "$(RULES)") \
		$(if $(APP),--app $(APP)) $(if $(MODEL),--model "$(MODEL)")

label: $(LABEL_STAMP)
	@$(LABEL_VENV)/bin/python -m monailabel.main start_server --app deploy/monai_label --studies "$(STUDIES)" --host 127.0.0.1 \
		$(if $(MODEL),--conf grading_model "$(MODEL)")

test-deploy: $(DEPLOY_STAMP)
	$(DEPLOY_VENV)/bin/python -m pytest -q tests/deploy/test_monai_deploy.py

# Triton comes with torch's CUDA builds; a CPU needs it for these tests alone.
setup-triton: $(STAMP)
	@$(BIN)/python -c "import triton" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet triton==3.9.0

test-triton: setup-triton
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -q tests/ops/test_triton_scan.py tests/ops/test_triton_compile.py

# The 3D view of a page needs one file of nilearn, and nothing that nilearn itself needs.
setup-view: $(STAMP)
	@$(BIN)/python -c "import importlib.metadata as m; m.version('nilearn')" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet --no-deps nilearn==0.14.1

# Playwright drives the Chromium of the system, which only root can install.
setup-browser: setup-view
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet playwright==1.65.2
	@command -v chromium || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

test-view: setup-browser
	$(BIN)/python -m pytest -q tests/engine/pictures/test_page_in_browser.py

test-label: $(LABEL_STAMP)
	$(LABEL_VENV)/bin/python -m pytest -q tests/deploy/test_monai_label.py

# The site's tools go beside what the docstrings and the notebook import. A broken link between pages is an error.
setup-docs: $(STAMP)
	@$(BIN)/python -c "import sphinx, myst_nb, furo" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet --requirement docs/requirements.txt

docs: setup-docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

packages: $(STAMP)
	@$(BIN)/python -c "import build" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet build==1.6.1
	@rm -rf dist
	$(BIN)/python -m build --outdir dist
	@for wheel in dist/*.whl; do $(BIN)/python -m zipfile -l "$$wheel" | grep -q 'native/lib/.*\.so' || { \
		echo "error: $$wheel: expected the native kernels, found none; install a C++ compiler and build again" >&2; exit 1; }; done

coverage: $(STAMP)
	@$(BIN)/python -c "import coverage" 2>/dev/null || $(BIN)/python $(PIP_INSTALL) --quiet coverage==7.17.3
	$(BIN)/python -m coverage run --source clinicalfmamba_nets --omit '*/ops/triton_*' -m pytest -q -m "not slow and not hour"
	$(BIN)/python -m coverage report --skip-covered

picture: $(STAMP)
	@mkdir -p docs
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	$(BIN)/clinicalfmamba fuse --phantom --task ct_mri --output "$$out" && cp "$$out/phantom_preview.png" docs/phantom.png && \
	$(BIN)/clinicalfmamba fuse --phantom --task t2_flair --output "$$out/volume" && \
	cp "$$out/volume/phantom_preview.png" docs/volume_phantom.png

# Pages of computed studies, as a browser shows them; Chromium refuses its sandbox to root.
screenshots: setup-browser
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && for second in ct pet; do \
	$(BIN)/python -c "from clinicalfmamba_nets.data import write_phantom_study as w; w('$$out/$$second', '$$second')" && \
	$(BIN)/clinicalfmamba fuse "$$out/$$second" --task $${second}_mri --output "$$out/fused_$$second" --weights-map --scores \
		--window-b "$$([ $$second = ct ] && echo brain || echo suv 0-6)" $$([ $$second = ct ] || echo --palette hot_iron) && \
	$(BIN)/clinicalfmamba view "$$out/fused_$$second" --anonymous && \
	chromium --headless $$([ $$(id -u) != 0 ] || echo --no-sandbox) --virtual-time-budget=20000 --window-size=1200,780 \
		--screenshot="$$out/page.png" "$$out/fused_$$second/view.html" 2>/dev/null && \
	$(BIN)/python -c "from PIL import Image; Image.open('$$out/page.png').convert('RGB').save('docs/page_$${second}_mri.jpg', quality=85)" \
	|| exit 1; done

results: $(STAMP)
	$(BIN)/python -m clinicalfmamba_nets.engine.evaluation.markdown --short README.md $(EVALUATIONS)
	$(BIN)/python -m clinicalfmamba_nets.engine.evaluation.markdown bundles/fusion_2d/docs/README.md $(EVALUATIONS)

# MINUTES of CPU for each network and task: 7 networks and 3 tasks of 30 minutes are half a day.
peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers --dataset_dir "$(DATA)" --output "$(OUT)" --minutes $(or $(MINUTES),30) \
		$(if $(TASKS),--tasks $(TASKS)) --document docs/explanation/comparison.md
