# Segue's commands, for people and for CI. Needs Python 3.11 or later and make; the rest is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MEMBERS := contracts read-model chassis adapter-kit services/gateway services/orchestrator services/fal-adapter \
	services/replicate-adapter services/log-sink sandbox cli chaos

PYTHON ?= python3
# A uv of our own, in .tools, where there is none.
UV ?= $(shell command -v uv || echo .tools/bin/uv)
PYTEST_ARGS ?=
CHAOS_ARGS = $(if $(FULL),--full) $(foreach one,ROUNDS JOBS KILLS RATE SEED ROWS EARLIER,$(if $($(one)),--$(shell echo $(one) | tr A-Z a-z) $($(one))))

# A demo starts nine Python processes, each in half the time with its bytecode at hand.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install ## Show one job from start to end: refused by fal, made by Replicate (no keys, no cost)
	@$(BIN)/segue demo

.PHONY: up
up: install ## Run all of Segue here until Ctrl-C; ARGS="--port 9000 --providers live"
	@$(BIN)/segue up $(ARGS)

# On a slow or busy machine SEGUE_TEST_PATIENCE=5, in the environment or here, gives every test five times as long.
.PHONY: test
test: install ## Run the tests that need neither a JVM nor the whole system; SEGUE_TEST_PATIENCE=5 on a slow machine
	$(BIN)/pytest -m "not kafka and not e2e and not k8s and not store and not dashboards" -n 4 --dist loadfile $(PYTEST_ARGS)

.PHONY: test-e2e
test-e2e: install ## Run the tests that start commands, services, or all of Segue, as processes
	$(BIN)/pytest -m e2e -n 3 --dist loadfile $(PYTEST_ARGS)

.PHONY: check
check: install ## Format, lint, types, import rules, contract drift, dead code, dependencies, Dockerfile, Kubernetes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	.ci/types
	$(BIN)/lint-imports
	$(BIN)/python -m contracts.documents.generate --check
	$(BIN)/python -m contracts.documents.diagram --check
	$(BIN)/python docs/reference.py --check
	$(BIN)/python deploy/grafana/generate.py --check
	$(BIN)/python deploy/k8s/generate.py --check
	$(BIN)/python deploy/k8s/validate.py
	$(BIN)/vulture
	.ci/dependencies
	$(BIN)/hadolint deploy/Dockerfile

.PHONY: test-kafka
test-kafka: install ## Run the tests that need a real Apache Kafka (Java and Maven)
	@for tool in java mvn; do command -v $$tool >/dev/null || \
		{ echo "make test-kafka needs Java and Maven: there is no $$tool on the PATH" >&2; exit 1; }; done
	$(BIN)/pytest -m kafka -n 2 --dist loadfile $(PYTEST_ARGS)

# The programs of its control plane are built once, into the user's cache: eight minutes.
.PHONY: test-k8s
test-k8s: install ## Run the tests that apply the manifests to a control plane of Kubernetes (Go 1.26; skipped without)
	$(BIN)/python deploy/k8s/cluster/programs.py
	$(BIN)/pytest -m k8s $(PYTEST_ARGS) tests/k8s

# Root, and a node of Kubernetes on this machine until it ends: docs/operations/kubernetes.md. KEDA=1 scales with KEDA too.
.PHONY: k8s-node
k8s-node: install ## Prove the image on a real kubelet and containerd, as root; IMAGE=… BEFORE=… JOBS=200 KEDA=1 PARTS="upgrade restart keda"
	PYTHONPATH=deploy/k8s:deploy/k8s/cluster $(BIN)/python deploy/k8s/node/node_proof.py --image localhost/$(IMAGE) \
		$(if $(BEFORE),--before $(BEFORE)) $(if $(JOBS),--jobs $(JOBS)) $(if $(PARTS),--parts $(PARTS)) $(if $(KEDA),--keda)

# Jaeger is built once, into the user's cache: nine minutes.
.PHONY: test-traces
test-traces: install ## Run the test that sends a job's trace to Jaeger and asks it back (Go 1.26; skipped without)
	PYTHONPATH=.:deploy/k8s/cluster $(BIN)/python tests/traces/jaeger.py
	$(BIN)/pytest -m store $(PYTEST_ARGS) tests/traces

.PHONY: chaos
chaos: install ## Prove the promises: faults on a real cluster, and a checker; ROUNDS=20 JOBS=500 KILLS=25 SEED=1 ROWS=all FULL=1
	$(BIN)/python -m chaos $(CHAOS_ARGS)

.PHONY: chaos-short
chaos-short: install ## The five minutes of it that fit into every run
	$(BIN)/python -m chaos --rows 3,4,6 --rounds 1 --jobs 150 --kills 8 $(if $(SEED),--seed $(SEED))

# Half an hour for all of them. What was seen is kept in build/alerts.json, and the table is of all of it.
.PHONY: alerts-table
alerts-table: install ## Print which alerts each fault raises, on a real cluster and Prometheus: FAULTS=no-kafka,no-balance
	$(BIN)/python -m chaos.alerts $(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

.PHONY: drill
drill: install ## Practise being on call: something breaks on a real cluster, and alerts and runbooks lead to it; TIMES=3
	$(BIN)/python -m chaos.alerts.drill $(if $(TIMES),--times $(TIMES))

# Virtual environments of the systems that Segue is compared with are made below build/, with this uv.
.PHONY: bench
bench: install ## Measure Segue beside Celery and LiteLLM, on Apache Kafka (Java and Maven): bench/RESULTS.md; ARGS="--kafka embedded"
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-short
bench-short: install ## One round of its ratios, on the embedded cluster, in a few minutes
	$(BIN)/python -m bench --kafka embedded --short $(ARGS)

# What draws them is installed below deploy/grafana/render: 430 MB.
.PHONY: test-dashboards
test-dashboards: install ## Run the test that no panel of the dashboards stays empty (Prometheus, Node, Chromium; skipped without)
	$(BIN)/pytest -m dashboards $(PYTEST_ARGS) tests/deploy

.PHONY: dashboards-pictures
dashboards-pictures: install ## Draw the dashboards, with data of a Segue that runs (Prometheus, Node, Chromium): docs/dashboards; ARGS=--redraw
	$(BIN)/python deploy/grafana/picture.py $(ARGS)

ENGINE ?= $(shell command -v docker || command -v buildah)
IMAGE ?= segue:dev
IMAGE_ARGS ?=
.PHONY: image
image: ## Build the image of all services with docker or buildah: IMAGE=segue:dev BASE=python:3.13-slim-bookworm
	@test -n "$(ENGINE)" || { echo "make image needs docker or buildah: there is neither on the PATH" >&2; exit 1; }
	$(ENGINE) build -f deploy/Dockerfile -t $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) \
		$(if $(findstring buildah,$(ENGINE)),--ignorefile deploy/Dockerfile.dockerignore) $(IMAGE_ARGS) .

.PHONY: docs
docs: install ## Write what is generated: schemas, the AsyncAPI document, the README's diagram, docs/logs.md, docs/metrics.md, dashboards, manifests
	$(BIN)/python -m contracts.documents.generate
	$(BIN)/python -m contracts.documents.diagram
	$(BIN)/python docs/reference.py
	$(BIN)/python deploy/grafana/generate.py
	$(BIN)/python deploy/k8s/generate.py

.PHONY: lock
lock: $(UV) ## Resolve anew, and write requirements.lock, and of it requirements-runtime.lock for the image
	$(UV) lock
	$(UV) export --frozen --all-packages --no-emit-workspace --format requirements-txt -o requirements.lock
	$(UV) export --frozen --package segue-cli --no-dev --no-emit-workspace --format requirements-txt \
		-o requirements-runtime.lock

.PHONY: clean
clean: ## Remove what was installed and cached; .segue, which has your data, stays
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.segue/*' -prune -exec rm -rf {} +

.PHONY: install
install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml $(MEMBERS:%=%/pyproject.toml) | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet $(VENV)
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(MEMBERS:%=--editable ./%)
	@touch $@

.tools/bin/uv:
	@echo "Installing uv into .tools"
	@rm -rf .tools
	@{ $(PYTHON) -m venv .tools 2>/dev/null && .tools/bin/python -m pip install --quiet 'uv>=0.13,<0.14'; } || \
		{ rm -rf .tools && $(PYTHON) -m pip install --quiet --target .tools 'uv>=0.13,<0.14'; } || \
		{ echo "make needs uv, and pip could not install it: install uv yourself, or pip for $(PYTHON)" >&2; exit 1; }
