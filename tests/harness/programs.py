"""Phoenix's own programs as the tests call them on the fleet's hosts. No other module names one."""

from __future__ import annotations

_LIBRARY = "/usr/local/lib/phoenix"

# The fleet's lock, on control. acquire: --holder NAME --purpose WHAT --lease SECONDS, prints a token;
# release: --token TOKEN.
LOCK_ACQUIRE = f"{_LIBRARY}/phoenix_lock.py acquire"
LOCK_RELEASE = f"{_LIBRARY}/phoenix_lock.py release"
LOCK_SHOW = f"{_LIBRARY}/phoenix_lock.py show"

# The history of deploys, on control: --last NUMBER --json.
DEPLOYS_SHOW = f"{_LIBRARY}/phoenix_deploys.py show"

# The instances of an application host, as JSON.
INSTANCES_STATUS = f"{_LIBRARY}/phoenix_instances.py status"

# The backup's repository, on control. plan, verify: an order as JSON on standard input; accept: a dump's name.
BACKUP_LIST = "phoenix-backup list"
BACKUP_ACCEPT = "phoenix-backup accept"
BACKUP_PLAN = "phoenix-backup plan"
BACKUP_VERIFY = "phoenix-backup verify"

# The firewall's loader, on every host: try SECONDS, confirm.
FIREWALL_TRY = "/usr/local/sbin/phoenix-firewall try"
FIREWALL_CONFIRM = "/usr/local/sbin/phoenix-firewall confirm"

# What the pipeline's key may run on control (a forced command); a path, for there are fleets without a pipeline.
DEPLOY_COMMAND = "/usr/local/bin/phoenix-deploy"
