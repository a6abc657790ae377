# make train: a captioner on the built-in scenes.   make test: lint, types, tests.   Both set up .venv first.
PYTHON ?= python3
VENV := .venv/bin
export PYTHONDONTWRITEBYTECODE :=

.PHONY: train app web test test-whole test-long test-jax test-torch test-ray test-hf bench clean

train: .venv/installed
	$(VENV)/python train.py --dataset scenes --overwrite

app: .venv/installed
	$(VENV)/python app_gradio.py

web: .venv/installed  # needs Node.js; writes web/dist, a folder for any static host
	$(VENV)/python -m web.build

test: .venv/developer
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/python -m pytest -n 2 --dist loadfile

test-whole: .venv/developer  # programs that take a minute each
	$(VENV)/python -m pytest -n 2 --dist load -m whole

LONG := -p tests.ledger --ledger tests/RESULTS.md
test-long: .venv/developer  # kill sweeps, hostile bytes, load: over an hour; what they count goes to tests/RESULTS.md
	rm -f tests/RESULTS.md
	failed=0; \
	$(VENV)/python -m pytest -m slow tests/app tests/serving $(LONG) || failed=1; \
	$(VENV)/python -m pytest -m slow --ignore=tests/app --ignore=tests/serving -n 2 --dist loadfile $(LONG) || failed=1; \
	exit $$failed

TRAINER := tests/training/test_trainer.py
SEARCH := tests/decoder/test_search.py
test-jax: .venv/developer  # what may differ on a second backend: the network, its training, resuming, compiled search
	KERAS_BACKEND=jax $(VENV)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu" \
		tests/decoder/test_model.py tests/runtime/test_devices.py tests/training/test_trainer_[ce]*.py \
		$(TRAINER)::test_killed_and_resumed $(TRAINER)::test_the_loss_falls_and_every_epoch_has_a_row \
		$(TRAINER)::test_the_same_seed_is_the_same_model $(TRAINER)::test_mixed_precision_keeps_float32_weights \
		$(SEARCH)::test_the_compiled_search_finds_the_same $(SEARCH)::test_the_compiled_search_obeys_a_prefix \
		$(SEARCH)::test_a_scripted_sentence_is_spelled

test-torch: .venv/developer  # pip install torch first; its CPU build will do
	KERAS_BACKEND=torch $(VENV)/python -m pytest -m "not slow and not gpu" tests/decoder/test_model.py tests/training/test_trainer*.py tests/decoder/test_search*.py tests/inference/test_captioner.py tests/decoder/test_ensemble.py

test-ray: .venv/developer  # pip install '.[ray]' first
	$(VENV)/python -m pytest tests/extras/test_ray_engine.py tests/serving/test_ray_serve.py -m "slow or not slow"

test-hf: .venv/developer  # pip install '.[hf,lora]' first, with the CPU build of torch
	HF_HUB_OFFLINE=1 $(VENV)/python -m pytest tests/extras -m hf

bench: .venv/developer  # BENCH=--write puts the results into benchmarks/README.md
	for name in training first_step features decoding one_photo engines startup app memory gpu; do \
		$(VENV)/python -m benchmarks.$$name $(BENCH) || exit; done

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/developer: .venv/installed pyproject.toml
	$(VENV)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
