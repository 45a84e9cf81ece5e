# Thin lines: what runs is in flows/, tasks/ and flywheel/. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
# The stamp's name holds what was installed, so a checkout that only touches the files installs nothing.
STAMP := $(VENV)/.installed-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)

# Parameters of the flow, given as `make run EPOCHS=3`. Only what stands on the command line counts, never what the
# shell happens to export; the value reaches the program through the environment, so spaces and quotes are safe.
# `exec`: a signal to make must reach the program, not end with the shell between them.
PARAMETERS := SOURCE SUBSET SUBSET_SEED SIZE FILTER LARGEST_QUARANTINE_SHARE LARGEST_LEAK_SHARE \
	MODEL PRETRAINED WEIGHTS STEM EPOCHS HEAD_EPOCHS BATCH_SIZE OPTIMIZER LEARNING_RATE LAYER_DECAY WEIGHT_DECAY \
	SCHEDULE WARMUP LABEL_SMOOTHING MIXUP CUTMIX EMA \
	FLIP SHIFT CUTOUT BOTH_SIDES SEED THREADS DEVICE \
	LIFT_OVER_MAJORITY WORST_CLASS_RECALL LARGEST_ECE SMALLEST_EVALUATION_SET \
	MARGIN PROMOTE_NON_INFERIOR WRONG_PROMOTION_BUDGET PLANNED_GATES DISAGREEMENT SMALLEST_POWER \
	LARGEST_SLICE_DROP SMALLEST_SLICE SLICE_ERROR LARGEST_ROBUSTNESS_LOSS LARGEST_LATENCY_RATIO LARGEST_SIZE_RATIO
WATCHED := FEWEST_IMAGES MOST_IMAGES SILENCE_HOURS LARGEST_RATE_CHANGE LARGEST_REPEATED_SHARE FALSE_ALARM_BUDGET \
	LARGEST_LOSS LARGEST_BLANK_SHARE CLOSEST_MATCH SMALLEST_NEW_SHARE LABELS_ASKED
REHEARSED := SCENARIO RATE WINDOW_ANSWERS CLEAN_LOOKS MOST_LOOKS LABELS_SENT PATIENCE_SECONDS KEEP
RETRAINED := DECISION CAUSE LABELS_NEEDED COOLDOWN_HOURS RETRAIN_EPOCHS LEARNING_RATE_SHARE RETRAIN_EMA \
	IMPLAUSIBLE_LEVEL FEWEST_JUDGED MOST_LABELS \
	JUDGING_SHARE REFERENCE_SHARE REPLAY REPLAY_SEED DRIFTED_LEVEL
given = $(foreach v,$(1),$(if $(findstring command line,$(origin $(v))),--$(v) "$$$(v)"))

# A misspelt name would otherwise change nothing, and say nothing.
KNOWN := PRESET $(PARAMETERS) $(WATCHED) $(RETRAINED) $(REHEARSED) IMAGE IMAGES FILE URL PREDICTION SHARE TASK REASON BENTO PORT NAME VENV POLICY PEER_EASEML PEER_TIMM
MISSPELT := $(filter-out $(KNOWN),$(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $(v))),$(v))))
ifneq ($(MISSPELT),)
$(error $(MISSPELT): no such variable. These are known: $(KNOWN))
endif

# two processes, a file each at a time: many tests wait for a server more than for a core
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

export UV_COMPILE_BYTECODE = 1

.PHONY: help install run data train up down monitor labels retrain rehearse status predict visualize serve champion history decisions gate-plan replay explain rollback promote canary shadow end-trial \
	verify-ledger migrate bench lock test test-all check docs format clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## install everything from the lock into .venv

$(STAMP): requirements.txt pyproject.toml
	@sh .ci/install "$(VENV)" "$(STAMP)"

run: $(STAMP) ## the main job: data, training, evaluation, gate, Bento, release (SOURCE= SUBSET= MODEL= EPOCHS= ...)
	@exec $(PYTHON) -m flows.run $(call given,PRESET $(PARAMETERS))

data: $(STAMP) ## fetch, index and validate the images, and make the dataset version (SOURCE= SUBSET= ...)
	@exec $(PYTHON) -m flows.run --until data $(call given,PRESET $(PARAMETERS))

train: $(STAMP) ## all of `make run` but the release: the champion stays (SOURCE= MODEL= EPOCHS= ...)
	@exec $(PYTHON) -m flows.run --until train $(call given,PRESET $(PARAMETERS))

up: $(STAMP) ## start the Prefect server, a worker, all deployments and the reports on 127.0.0.1; says where
	@exec $(PYTHON) -m deployments.up

down: $(STAMP) ## end what `make up` started
	@exec $(PYTHON) -m deployments.down

monitor: $(STAMP) ## one look at what the champion answered: drift, estimated accuracy, what to do (TASK= FALSE_ALARM_BUDGET= ...)
	@exec $(PYTHON) -m flows.look $(call given,TASK $(WATCHED))

labels: $(STAMP) ## true labels from a file: judged, and what is sound goes to the prediction log (FILE=labels.csv TASK=)
	@exec $(PYTHON) -m tasks.label_file $(call given,FILE TASK)

retrain: $(STAMP) ## retrain the champion now, with the labels that came since its release
	@exec $(PYTHON) -m flows.relearn $(call given,TASK $(RETRAINED) DEVICE)

rehearse: $(STAMP) ## play the whole loop on real servers in minutes: drift, alarm, labels, retraining, swap (SCENARIO=mix)
	@exec $(PYTHON) -m flows.rehearse $(call given,TASK SEED SOURCE $(REHEARSED))

status: $(STAMP) ## processes, champion and service, last look, deployments, last and next runs
	@exec $(PYTHON) -m deployments.status

predict: $(STAMP) ## the champion's answer: IMAGE=file for a top-5, IMAGES=folder for a CSV (MODEL= for another, URL= of a service)
	@exec $(PYTHON) -m tasks.predict $(call given,IMAGE IMAGES MODEL TASK URL)

visualize: $(STAMP) ## draw a model's figures and report again from its records (MODEL=, else the champion)
	@exec $(PYTHON) -m tasks.visualize $(call given,MODEL)

serve: $(STAMP) ## serve the champion's Bento on 127.0.0.1 (PORT=3000)
	@exec $(PYTHON) -m tasks.serve $(call given,PORT)

champion: $(STAMP) ## who is champion, since when, by which decision
	@$(PYTHON) -m flywheel.commands champion $(call given,TASK)

history: $(STAMP) ## the champions of a task, in order
	@$(PYTHON) -m flywheel.commands history $(call given,TASK)

decisions: $(STAMP) ## the ledger's decisions, the newest first
	@$(PYTHON) -m flywheel.commands decisions

gate-plan: $(STAMP) ## what a gate policy (POLICY=file.yaml) can tell with IMAGES= frozen images
	@$(PYTHON) -m flywheel.commands gate-plan $(call given,POLICY IMAGES)

replay: $(STAMP) ## judge all recorded gates again, under their own policy or POLICY=file.yaml
	@$(PYTHON) -m flywheel.commands replay $(call given,POLICY)

explain: $(STAMP) ## what came from what, each thing checked by its hash (MODEL=, IMAGE= or PREDICTION=, else the champion)
	@$(PYTHON) -m flywheel.commands explain $(call given,MODEL IMAGE PREDICTION TASK)

rollback: $(STAMP) ## bring the champion before the current one back (REASON="..." TASK=)
	@$(PYTHON) -m flywheel.commands rollback $(call given,REASON TASK)

promote: $(STAMP) ## make a model champion past its gate, by your own decision (MODEL= REASON="..." BENTO=)
	@$(PYTHON) -m flywheel.commands promote $(call given,MODEL REASON BENTO)

canary: $(STAMP) ## let a model that passed answer a share of a service's requests (MODEL= SHARE=0.1)
	@$(PYTHON) -m flywheel.commands canary $(call given,MODEL SHARE REASON)

shadow: $(STAMP) ## let a model look at a share of the images; its answers go to the prediction log (MODEL= SHARE=1)
	@$(PYTHON) -m flywheel.commands shadow $(call given,MODEL SHARE REASON)

end-trial: $(STAMP) ## give all requests back to the champion
	@$(PYTHON) -m flywheel.commands end-trial $(call given,TASK REASON)

verify-ledger: $(STAMP) ## tell whether any row of the ledger was changed, removed or slipped in
	@$(PYTHON) -m flywheel.commands verify-ledger

migrate: $(STAMP) ## bring the ledger's database to this version's schema; SQLite does so by itself
	@$(PYTHON) -m flywheel.commands migrate

bench: $(STAMP) ## run the benchmark NAME= and keep its result; without a name, list all claims
	@exec $(PYTHON) -m benchmarks.$(if $(NAME),$(NAME),results) $(call given,WEIGHTS SOURCE PEER_EASEML PEER_TIMM)

lock: ## make requirements.txt again from pyproject.toml
	@uv=$$(command -v uv || echo $(VENV)/bin/uv); \
	"$$uv" pip compile --universal --generate-hashes --group dev pyproject.toml -o requirements.txt -q

test: $(STAMP) ## the tests
	@$(PYTHON) -m pytest $(SIDE_BY_SIDE) -m "not slow and not gpu and not browser and not network"

test-all: $(STAMP) ## the tests, the slow ones included
	@$(PYTHON) -m pytest $(SIDE_BY_SIDE) -m "not gpu and not network"

check: $(STAMP) ## what CI runs: lint, types, the import law, the tests
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(MAKE) --no-print-directory test

docs: $(STAMP) ## build the documentation into docs/_build/html, offline
	@$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build/html

format: $(STAMP) ## format the code and mend what lint can mend
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

clean: ## remove caches; data, models, reports and the ledger stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .tox build dist docs/_build
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
