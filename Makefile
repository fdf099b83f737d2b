# `make run` is all that a first look needs; `make test` and `make lint` add the development tools.

PYTHON ?= python3
PORT ?= 8000
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
LINTS := ruff format types templates migrations deployment arrows

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What `check --deploy` must be content with; nothing is connected to.
PRODUCTION = DEBUG=false HTTPS=true ALLOWED_HOSTS=example.org SITE_URL=https://example.org \
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
	DATABASE_URL=postgres://broadcast@localhost/broadcast REDIS_URL=redis://localhost:6379/0

# Only pyproject.toml says what is needed; the project itself is run from here, not installed.
REQUIREMENTS = import sys, tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], sep="\n"); \
	[print(*project["optional-dependencies"][extra], sep="\n") for extra in sys.argv[1:]]
OLD_PYTHON = Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11

define install
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD_PYTHON)" if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV): once, about a minute ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c '$(REQUIREMENTS)' $(1) > $(VENV)/requirements.txt
	@$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements.txt
endef

.PHONY: run test chaos lint $(LINTS) services services-stop peers clean

run: $(VENV)/runtime
	@DEBUG=$${DEBUG:-true} exec $(BIN)/python manage.py up --port $(PORT)

test: $(VENV)/development
	@$(BIN)/python -m tests.run $(ARGS)

# The long form of what the tests do for half a minute; CHAOS_SEED makes it the same plan again.
chaos: $(VENV)/development
	@CHAOS_SECONDS=$${CHAOS_SECONDS:-60} DATABASE_URL=sqlite://:memory: \
		$(BIN)/python -m pytest --capture=no $(ARGS) tests/test_chaos.py

# One target a tool: `make --keep-going lint` shows what each of them finds.
lint: $(LINTS)
$(LINTS): $(VENV)/development

ruff:
	$(BIN)/ruff check .

format:
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy --explicit-package-bases .

templates:
	find . -name '*.html' -path '*/templates/*' -not -path './$(VENV)/*' -not -path './var/*' \
		-exec $(BIN)/djade --target-version 5.2 --check {} +

migrations:
	DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run

deployment:
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING

arrows:
	$(BIN)/python -m pytest --quiet tests/test_architecture.py

services: $(VENV)/runtime
	@$(BIN)/python -m tests.servers start

services-stop:
	@$(PYTHON) -m tests.servers stop

peers: $(VENV)/development  # what benchmarks measure beside this project
	@$(BIN)/python -c '$(REQUIREMENTS)' peers > $(VENV)/peers.txt
	@$(BIN)/python -m pip install --quiet --requirement $(VENV)/peers.txt
	@mkdir -p var/peers/hub
	@cp benchmarks/peers/mercure/* var/peers/hub
	-cd var/peers/hub && go mod tidy && go build -o ../mercure .
	-GOBIN=$(CURDIR)/var/peers go install github.com/centrifugal/centrifugo/v6@v6.9.1
	@echo "nchan and Pushpin: apt-get install nginx-light libnginx-mod-nchan pushpin"

clean: services-stop  # var/ stays: it holds the database and the secret key
	rm -rf $(VENV) var/services build .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/runtime: pyproject.toml
	$(call install,)
	@touch $@

$(VENV)/development: pyproject.toml
	$(call install,dev)
	@touch $@ $(VENV)/runtime
