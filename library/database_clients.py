#!/usr/bin/python
"""Report how this host's programs connect to the database: by TLS or without, and which CAs they trust."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_clients
short_description: How programs on this host connect to the database, as they were started
description:
  - Reads what runs, and what the next start would take. Node.js reads the CAs that it trusts once, when it starts, so
    that files alone say little.
  - Changes nothing, and returns no address and no password. Needs nothing on the host but Python.
options: {}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Read how the instances connect
  database_clients:
  register: seen
"""
RETURN = r"""
clients:
  description: Each client's C(name), whether it connects by TLS (C(tls)), and the CAs that it trusts (C(trusted), PEM).
  type: list
  elements: dict
  returned: always
member:
  description: The same of the database's server, which connects to the others; empty without one, or without TLS.
  type: list
  elements: dict
  returned: always
"""

import json
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

BUNDLE = "etc/ssl/phoenix/database-ca.pem"
# Instances and processes of the application, as systemd names them.
UNITS = ("phoenix@*.service", "phoenix-*@*.service")
VARIABLE = re.compile(r'^([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"$', re.M | re.S)
BY_TLS = re.compile(r"[?&](ssl|tls)=true\b")


class Host:
    """The files of a host. root: where they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def text(self, path: str) -> str:
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def client(self, name: str, tls: bool, ca: str) -> dict[str, Any]:
        return {"name": name, "tls": tls, "trusted": self.text(ca) if tls and ca else ""}

    def of_environment(self, name: str, variables: dict[str, str]) -> list[dict[str, Any]]:
        """The client with this environment; none where it has no database."""
        address = variables.get("DB_CONNECTION_STRING", "")
        tls = bool(BY_TLS.search(address))
        return [self.client(name, tls, variables.get("NODE_EXTRA_CA_CERTS", ""))] if address else []

    def started(self, shown: str) -> list[dict[str, Any]]:
        """What runs, with the environment that it was started with. shown: Id and MainPID by systemctl."""
        found: list[dict[str, Any]] = []
        for block in shown.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            pid = values.get("MainPID", "0")
            pairs = self.text(f"proc/{pid}/environ").split("\0") if pid != "0" else []
            variables = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            found += self.of_environment(values.get("Id", "").replace(".service", ""), variables)
        return found

    def configured(self) -> list[dict[str, Any]]:
        """What the next start of an instance, a new instance and the processes would take."""
        found: list[dict[str, Any]] = []
        named = {"new instances": "etc/phoenix/configuration/environment"}
        for link in sorted((self.root / "etc/systemd/system").glob("phoenix@*.service.d")):
            named[f"{link.name.split('.')[0]} at its next start"] = f"etc/systemd/system/{link.name}/environment"
        try:
            target = json.loads(self.text("var/lib/phoenix/processes/target.json"))["configuration"]
        except (ValueError, KeyError, TypeError):
            target = ""
        folder = self.root / "etc/phoenix/configurations" / str(target)
        for file in sorted(folder.glob("environment.*")) if target else []:
            named[f"the process {file.name.partition('.')[2]}"] = f"etc/phoenix/configurations/{target}/{file.name}"
        for name, path in named.items():
            found += self.of_environment(name, dict(VARIABLE.findall(self.text(path))))
        return found

    def own(self) -> list[dict[str, Any]]:
        """Phoenix's own: what takes backups, keeps them and watches the member reads the CAs when it connects."""
        found: list[dict[str, Any]] = []
        for name, path in (("backup", "sender"), ("the store", "store")):
            settings = self.json(f"etc/phoenix/backup/{path}.json")
            if name != "backup" or settings.get("own") in settings.get("members", ()):
                found += [self.client(name, bool(settings.get("ca")), BUNDLE)] if settings else []
        watched = self.json("etc/netdata/phoenix.json").get("mongodb")
        return found + ([self.client("monitoring", bool(watched.get("ca")), BUNDLE)] if watched else [])

    def json(self, path: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.text(path)))
        except (ValueError, TypeError):
            return {}

    def member(self) -> list[dict[str, Any]]:
        """The server itself, which connects to the others: it has read the CAs unless they are newer."""
        run, bundle = self.root / "run/mongodb", self.root / BUNDLE
        if not (run / "mongod.conf").exists() or not bundle.is_symlink():
            return []
        markers = [path.stat().st_mtime_ns for path in (run / "started", run / "certificates") if path.exists()]
        read = max(markers, default=0)
        return [self.client("mongod", True, BUNDLE if bundle.lstat().st_mtime_ns <= read else "")]


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    _, shown, _ = module.run_command(["systemctl", "show", "--property=Id,MainPID", *UNITS])
    host = Host(Path("/"))
    module.exit_json(clients=[*host.started(shown), *host.configured(), *host.own()], member=host.member())


if __name__ == "__main__":
    main()
