# The targets people use. Everything here also runs without make: see the README.
LAB_PROFILE ?= default
export LAB_PROFILE
BIN := .venv/bin
LAB := $(BIN)/python -m lab
# For commands that need the Docker engine: also for users outside the group docker.
ENGINE := lab/with-docker
PLAY := $(BIN)/ansible-playbook
STOPPED ?= app,lb,db,control
# Make 4.3 does not export variables to $(shell).
INVENTORY = $(shell LAB_PROFILE=$(LAB_PROFILE) $(LAB) inventory)

.PHONY: help bootstrap tools up down clean status bench drill drills soak alarms url verify backup restore recover alert-test deploy rollback ci-local cuts stopped lost networks lint unit app-test role-test provider-test browser-test vm-test vm-down test

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bootstrap: ## install what a bare Debian machine lacks for the lab
	@lab/bootstrap

tools: ## the part of it that the checks need: no Docker engine
	@lab/bootstrap checks

up: bootstrap ## from a bare Debian 12 machine to the lab fleet serving, verified (LAB_PROFILE=default|single|mongodb-5.0|demand|networks)
	$(ENGINE) $(LAB) up
	$(PLAY) -i $(INVENTORY) playbooks/lab-receivers.yml
	$(PLAY) -i $(INVENTORY) playbooks/site.yml
	$(ENGINE) $(LAB) prepare
	$(PLAY) -i $(INVENTORY) playbooks/verify.yml
	$(PLAY) -i $(INVENTORY) playbooks/status.yml
	@echo "Phoenix serves at $$($(LAB) url) (the lab's certificate is its own: curl --insecure, or accept it in the browser)"

down: bootstrap ## remove this checkout's lab fleet, with its networks, keys and secrets
	$(ENGINE) $(LAB) down

clean: down ## remove the caches too: images, archives, .venv
	$(ENGINE) $(LAB) clean
	rm -rf .cache .venv

.PHONY: .fleet
.fleet:
	@test -f .lab/ssh_config || { echo "This checkout has no fleet: run make up first." >&2; exit 1; }

status url bench drill drills soak alarms verify backup restore recover deploy rollback ci-local alert-test cuts stopped lost networks: | .fleet

status: ## the fleet at a glance
	@$(PLAY) -i $(INVENTORY) playbooks/status.yml

bench: ## the numbers of the design, measured on the running fleet: a table, and bench.json (THEME=saturated MINUTES=60: by name alone)
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) PHOENIX_SERIES=$(SERIES) PHOENIX_MINUTES=$(or $(MINUTES),60) $(ENGINE) $(BIN)/python -m bench $(THEME)

drill: ## rehearse one section of the runbook on the running fleet under load (NAME=switch-balancer; without it, the list; CUT=n kills each of its plays once before, n is a seed)
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(ENGINE) $(BIN)/python -m drills $(if $(CUT),--cut $(CUT)) $(or $(NAME),--list)

drills: ## all of them, one after the other: reports/drills.md, .json and .svg
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(ENGINE) $(BIN)/python -m drills

soak: ## random single faults on the running fleet under load: reports/soak.md, .json and .svg (MINUTES=30, SEED=n)
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(ENGINE) $(BIN)/python -m soak --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

alarms: ## each alarm provoked once, with its message and its end (a quarter of an hour): reports/alarms.md (ALARM=name, or --missing)
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(BIN)/python -m drills.provoke $(ALARM)

url: ## the load balancer's base URL
	@$(LAB) url

verify: ## smoke checks of the running fleet
	$(PLAY) -i $(INVENTORY) playbooks/verify.yml

backup: ## take and verify a dump now, and send the rotated logs and the hosts' state to the store
	$(PLAY) -i $(INVENTORY) playbooks/backup.yml

restore: ## restore the newest good dump, after confirmation (ARGS='-e phoenix_restore_time=2026-11-25T10:00:00Z', '-e phoenix_restore_collection=db.coll')
	$(PLAY) -i $(INVENTORY) playbooks/restore.yml $(ARGS)

recover: ## bring back what is lost, after confirmation: ARGS='-e phoenix_recover=control', database or fleet
	$(PLAY) -i $(INVENTORY) playbooks/recover.yml $(ARGS)

deploy: ## roll out phoenix_source, or the release in V: a canary first, with automatic rollback
	$(PLAY) -i $(INVENTORY) playbooks/deploy.yml $(if $(V),-e phoenix_version=$(V))

rollback: ## roll back to the previous release, or to V
	$(PLAY) -i $(INVENTORY) playbooks/rollback.yml $(if $(V),-e phoenix_version=$(V))

ci-local: ## from three git pushes in the lab, the first with malicious code, to one rolled-out release; a failing test must stop the last
	$(PLAY) -i $(INVENTORY) playbooks/ci.yml
	$(BIN)/python -m lab.ci $(INVENTORY)

alert-test: ## one real alarm through every channel of the running fleet
	$(PLAY) -i $(INVENTORY) playbooks/alert-test.yml

lint: tools ## yamllint, ansible-lint, ruff, mypy, secret scan
	tests/lint

unit: tools ## unit tests of filters, templates, inputs
	@# Both empty: where the environment says so, each worker and each program under test would compile its files again, and
	@# Python would read a module that Ansible pipes to it byte by byte.
	@# A worker that is done takes over half of what the other has left: by modules, the longest could be the last.
	PYTHONDONTWRITEBYTECODE= PYTHONUNBUFFERED= $(BIN)/pytest -q --numprocesses=auto --dist=worksteal tests/unit

app-test: tools ## tests with real MongoDB, Node.js and nginx but no fleet: applications of many kinds, the backup of any data, serving
	$(LAB) archives
	tests/app/run
	@# More processes than cores: each waits most of the time. In the order of tests/database/conftest.py, not by the number of tests.
	$(BIN)/pytest -q --numprocesses=4 --dist=loadfile --no-loadscope-reorder tests/database tests/apps tests/serving

cuts: ## on the running fleet: plays killed at twelve seeded moments under load (half an hour; SEED=n)
	PHOENIX_CUTS=12 PHOENIX_CUT_SEED=$(or $(SEED),1) PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(BIN)/pytest -q -s tests/e2e/test_cuts.py

stopped: ## on the running fleet: deploy, rollback, scale and site.yml with a stopped host of each group, under load (half an hour)
	PHOENIX_STOPPED=$${STOPPED:-app,lb,db,control} PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(BIN)/pytest -q -s tests/e2e/test_stopped_hosts.py

lost: ## on the running fleet: the hosts of control, the database, and all removed and made again, then recovered (LOST=fleet for one; half an hour)
	PHOENIX_LOST=$${LOST:-control,database,fleet} PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(ENGINE) $(BIN)/pytest -q -s tests/e2e/test_lost.py

networks: LAB_PROFILE = networks
networks: ## on the running fleet of LAB_PROFILE=networks: who reaches whom, by which kind of address, and a lost balancer at each
	PHOENIX_INVENTORY=$(INVENTORY) PHOENIX_URL=$$($(LAB) url) $(BIN)/pytest -q -s tests/e2e/test_networks.py

role-test: bootstrap ## one role in a container of its own, in minutes: molecule's scenario nginx, mongodb, hosts or jenkins (ROLE=nginx)
	$(ENGINE) tests/molecule $(or $(ROLE),nginx)

.PHONY: .scenarios
.scenarios: bootstrap
	$(ENGINE) tests/molecule hosts jenkins

provider-test: ## what makes hosts, against real containers, libvirt's stand-in and a script, with its own network
	@lab/bootstrap providers
	$(ENGINE) $(BIN)/pytest -q tests/provider

vm-test: ## the inventory single on a virtual machine with a kernel of its own, without Docker (an hour where it is emulated): reports/vm
	@lab/bootstrap checks machine
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m lab.vm test

vm-down: ## remove the machine that a failed vm-test left
	$(BIN)/python -m lab.vm remove

browser-test: ## the status page in a real headless browser
	@lab/bootstrap checks browser
	$(BIN)/pytest -q tests/browser

.PHONY: .images
.images: bootstrap
	$(ENGINE) $(LAB) images
	$(LAB) archives

test: bootstrap ## everything: checks, unit tests, the application's tests, the browser's, molecule with the end-to-end tests (of LAB_PROFILE's fleet)
	@# What comes over the network arrives meanwhile.
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint unit .images
	@# All three wait for their servers and hosts most of the time.
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=line app-test browser-test .scenarios
	$(ENGINE) tests/molecule default
