# The one-machine stack and its checks. `make help` lists the targets.

# The first Python that the pinned packages run on. `make PYTHON=...` chooses another one.
PYTHON ?= $(firstword $(shell for p in python3 python3.12 python3.11 python3.10 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p; done; true) python3)
VENV := target/local/venv
# -B writes no bytecode beside the sources. PYTHONPATH finds infra/local/stack, for the demo and the tests.
RUN := PYTHONPATH=infra/local $(VENV)/bin/python -B
# sam sends usage data and looks for newer versions. The proxy, which doesn't exist, prevents both.
SAM := SAM_CLI_TELEMETRY=0 HTTPS_PROXY=http://127.0.0.1:9 AWS_DEFAULT_REGION=eu-west-1 target/local/sam/bin/sam

.DEFAULT_GOAL := help
.PHONY: help demo up down logs test scale lint bench client cargo-lambda bootstrap clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)

demo: bootstrap ## run the demo: back up, lose data, restore, compare every row
	@$(RUN) infra/local/demo.py

up: bootstrap ## start the stack and leave it running (target/stack.json, target/stack.env)
	@$(RUN) -m stack up

down: ## stop the stack that `make up` started
	@if [ -x $(VENV)/bin/python ]; then $(RUN) -m stack down; else echo "Nothing is up."; fi

logs: bootstrap ## show the logs of the running stack's functions
	@$(RUN) -m stack logs

test: bootstrap ## run all tests, including the end-to-end tests on a separate stack
	cargo test --workspace
	$(RUN) -m pytest -n 2 --dist loadfile tests/e2e

scale: bootstrap ## measure time and memory of a restore of 200 collections, and of metering 100,000 backups
	$(RUN) -m pytest -s tests/e2e/scale_restores.py tests/e2e/scale_usage.py

lint: ## check formatting, clippy with warnings denied, the structure, dependencies, the templates
	@$(MAKE) --no-print-directory bootstrap WITH=lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(RUN) tests/structure.py
	target/local/cargo-deny/bin/cargo-deny --all-features check licenses bans sources
	$(SAM) validate --lint -t infra/template.yaml
	target/local/sam/bin/cfn-lint infra/snapshot-bucket.yaml
	target/local/checkov/bin/checkov --quiet --compact --skip-download --framework cloudformation \
		-f infra/template.yaml -f infra/snapshot-bucket.yaml

bench: ## measure backups on a model of S3, beside rclone and s5cmd; restores of many partitions (16 minutes), and on the real server beside its own imports (15 minutes); size and start of each function
	@$(MAKE) --no-print-directory bootstrap WITH=bench
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo bench -q -p milvault-bench --bench backup
	@cargo bench --profile dev -q -p milvault-fake-milvus --bench restores
	@PYTHONPATH=infra/local:tests/e2e $(VENV)/bin/python -B tests/bench/restores.py
	@$(RUN) tests/bench/functions.py

client: ## build the command-line client: target/release/milvault
	cargo build --release -p milvault-client

cargo-lambda: ## install cargo-lambda, to invoke functions by hand (PATH=$PWD/target/local/venv/bin:$PATH)
	@$(MAKE) --no-print-directory bootstrap WITH=lambda

bootstrap:
	@$(PYTHON) -B infra/local/bootstrap.py $(WITH)

clean: down ## stop the stack and remove all build output
	rm -rf target
