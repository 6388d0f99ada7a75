# `make run` and `make test` do all their set-up themselves.
PYTHON ?= python3
VENV := .venv
PROTO_VENV := .venv-protos
FUZZ_VENV := .venv-fuzz
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS_READY := $(PROTO_VENV)/.ready
NODE_READY := tests/node/node_modules/.package-lock.json
OPINIONS := tests/second_opinions
OPINIONS_VENV := .venv-second-opinions
AUDIT_VENV := .venv-audit
AUDIT_READY := $(AUDIT_VENV)/.ready
CREWAI_VENV := .venv-crewai
CLIENT_VENV := .venv-client
FUZZ_READY := $(FUZZ_VENV)/.ready
SECONDS ?= 60
SEEDS ?= 1000
JOBS ?= 2

.PHONY: help
help: ## Show what there is to make.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: run
run: $(READY) ## Start everything here: Redis, policy server, sidecar, and without STRIPE_SECRET_KEY a simulated Stripe.
	@$(BIN)/spendgate up

.PHONY: test
test: $(READY) $(PROTOS_READY) ## Run the tests.
	@$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: check
check: $(READY) $(PROTOS_READY) ## Check style, types and the contract.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --allow-subclassing-any examples/*.py
	@cd examples/naive && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --strict *.py
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@sh protos/breaking.sh $(BIN)/buf

.PHONY: audit-dependencies
audit-dependencies: $(AUDIT_READY) ## Ask which pinned dependencies have known weaknesses, where the network allows.
	@.ci/audit-dependencies $(AUDIT_VENV)/bin/pip-audit constraints.txt constraints-protos.txt

.PHONY: simulate
simulate: $(READY) ## Tell SEEDS (1000) histories in which anything may break, or that of SEED again.
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED) --show,--seeds $(SEEDS) --jobs $(JOBS)) \
	  $(if $(FAULTS),--faults $(FAULTS)) $(if $(AGENTS),--agents $(AGENTS))

.PHONY: bench
bench: $(READY) ## Measure the whole path beside a bare proxy, and reading, the archive and memory by themselves.
	@$(BIN)/python -m bench.reading
	@$(BIN)/python -m bench.archive
	@$(BIN)/python -m bench.memory
	@$(BIN)/python -m bench

.PHONY: fuzz
fuzz: $(FUZZ_READY) ## Fuzz what reads requests, SECONDS (60) for each target; on Linux.
	@PYTHONPATH=clients/python/src $(FUZZ_VENV)/bin/python -m fuzz --seconds $(SECONDS)

.PHONY: generate
generate: $(READY) $(PROTOS_READY) ## Write the Python code of the contract, and the page on Stripe.
	@protos/generate.sh $(CURDIR)/$(PROTO_VENV) $(CURDIR)/clients/python/src
	@$(BIN)/python -m sidecar.stripe.catalogue > docs/stripe.md

.PHONY: release-contract
release-contract: $(READY) ## Keep the contract as it is for the check on breaking changes.
	@$(BIN)/buf build -o protos/released.binpb

.PHONY: setup
setup: $(READY) $(PROTOS_READY) ## Only set up.

.PHONY: grpcurl
grpcurl: .tools/bin/grpcurl ## Build grpcurl, for its tests, where Go is installed.

.PHONY: node
node: $(NODE_READY) ## Install Stripe's SDK for Node, for its tests, where npm is installed.

.PHONY: second-opinions
second-opinions: ## Get the emulators of others that some tests ask: those that Go, npm and a network give.
	@for emulator in .tools/bin/stripe-mock $(OPINIONS)/node_modules/.package-lock.json $(OPINIONS_VENV)/.ready; do \
	  $(MAKE) --silent $$emulator || echo "could not get $$emulator: the tests that ask it are skipped"; \
	done

.PHONY: crewai
crewai: $(CREWAI_VENV)/.ready ## Install CrewAI, for its tests, in a virtual environment of its own.

.PHONY: fresh-client
fresh-client: $(CLIENT_VENV)/.ready ## Install the client alone with its extras, and the suite, for the tests that run the examples.

.PHONY: constraints
constraints: ## Pin the newest versions; needs uv.
	@uv pip compile -q constraints.in --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-package spendgate --no-emit-package spendgate-server \
	  --upgrade -o constraints.txt
	@uv pip compile -q constraints-protos.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o constraints-protos.txt
	@uv pip compile -q constraints-second-opinions.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o constraints-second-opinions.txt
	@uv pip compile -q constraints-crewai.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o constraints-crewai.txt
	@uv pip compile -q fuzz/constraints.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o fuzz/constraints.txt
	@uv pip compile -q constraints-audit.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o constraints-audit.txt

.PHONY: clean
clean: ## Remove what set-up made; the data in .spendgate stays.
	@rm -rf $(VENV) $(PROTO_VENV) $(AUDIT_VENV) $(OPINIONS_VENV) $(CREWAI_VENV) $(CLIENT_VENV) $(FUZZ_VENV) .fuzz .tools
	@rm -rf tests/node/node_modules $(OPINIONS)/node_modules

$(READY): constraints.txt pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Spendgate needs Python 3.11 or newer")'
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

$(PROTOS_READY): constraints-protos.txt
	@$(PYTHON) -m venv $(PROTO_VENV)
	@$(PROTO_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r constraints-protos.txt
	@touch $@

$(FUZZ_READY): fuzz/constraints.txt
	@$(PYTHON) -m venv $(FUZZ_VENV)
	@$(FUZZ_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r fuzz/constraints.txt
	@touch $@

$(AUDIT_READY): constraints-audit.txt
	@$(PYTHON) -m venv $(AUDIT_VENV)
	@$(AUDIT_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

.tools/bin/grpcurl:
	@mkdir -p .tools/bin
	@GOBIN=$(CURDIR)/.tools/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4

%/node_modules/.package-lock.json: %/package-lock.json
	@cd $* && npm ci --ignore-scripts
	@touch $@

.tools/bin/stripe-mock:
	@mkdir -p .tools/bin
	@GOBIN=$(CURDIR)/.tools/bin go install github.com/stripe/stripe-mock@v0.203.0

$(CREWAI_VENV)/.ready: constraints-crewai.txt
	@$(PYTHON) -m venv $(CREWAI_VENV)
	@$(CREWAI_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(CLIENT_VENV)/.ready: $(READY)
	@$(PYTHON) -m venv $(CLIENT_VENV)
	@sed -E '/^ +--hash=/d; s/ \\$$//' constraints.txt > $(CLIENT_VENV)/constraints.txt
	@$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w $(CLIENT_VENV)/wheel clients/python .
	@$(CLIENT_VENV)/bin/python -m pip install -q --disable-pip-version-check -c $(CLIENT_VENV)/constraints.txt \
	  "$$(echo $(CLIENT_VENV)/wheel/spendgate-*.whl)[stripe,pydantic-ai,langchain,mcp]" langgraph
	@$(PYTHON) -m venv $(CLIENT_VENV)/suite
	@$(CLIENT_VENV)/suite/bin/python -m pip install -q --disable-pip-version-check -c $(CLIENT_VENV)/constraints.txt \
	  --find-links $(CLIENT_VENV)/wheel 'spendgate[pytest,pydantic-ai]'
	@touch $@

$(OPINIONS_VENV)/.ready: constraints-second-opinions.txt
	@$(PYTHON) -m venv $(OPINIONS_VENV)
	@$(OPINIONS_VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@
