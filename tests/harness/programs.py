"""Phoenix's own commands, as the tests call them on the fleet's hosts. No other module names any."""

from __future__ import annotations

VERSION = "phoenixctl --version"
# With Phoenix's package.
PYTHON = "PYTHONPATH=/usr/local/bin/phoenixctl python3"

# The fleet's lock, on control. acquire: --holder NAME --purpose WHAT --lease SECONDS, prints a token;
# release: --token TOKEN.
LOCK_ACQUIRE = "phoenixctl lock acquire"
LOCK_RELEASE = "phoenixctl lock release"
LOCK_SHOW = "phoenixctl lock show"
LOCK_BREAK = "phoenixctl lock break --yes"

# The fleet's desired state, on control.
STATE_SHOW = "phoenixctl state show --json"

# The history of deploys, on control: --last NUMBER --json.
DEPLOYS_SHOW = "phoenixctl deploys show"

# The instances of an application host, as JSON.
INSTANCES_STATUS = "phoenixctl instances status"

# The backup's repository, on control. plan, verify: an order as JSON on standard input; accept: a dump's name.
BACKUP_LIST = "phoenixctl backup list"
BACKUP_STATUS = "phoenixctl backup status"
BACKUP_ACCEPT = "phoenixctl backup accept"
BACKUP_PLAN = "phoenixctl backup plan"
BACKUP_VERIFY = "phoenixctl backup verify"

# One of the fleet's plays, from control: PLAYBOOK -e NAME=VALUE.
PLAY = "phoenixctl play"

# The firewall's loader, on every host: load, try SECONDS, confirm.
FIREWALL_LOAD = "/usr/local/sbin/phoenix-firewall load"
FIREWALL_TRY = "/usr/local/sbin/phoenix-firewall try"
FIREWALL_CONFIRM = "/usr/local/sbin/phoenix-firewall confirm"

# The forced command of the pipeline's key on control.
PIPELINE = "phoenixctl pipeline serve"
