"""What the module database_clients sees on a host, and what a step of TLS or another CA would do to that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from phoenix.database import authority, clients, tls
from phoenix.instances import configurations
from tests.unit.plugins import loaded
from tests.unit.shared import TOP, read_yaml, rendered, trusted

FORMER, NEXT = (f"{authority.BEGIN}\n{name}\n{authority.END}\n" for name in ("former", "next"))
PLAIN = "mongodb://u:p@192.0.2.31/phoenix?replicaSet=phoenix"
CA = "/etc/ssl/phoenix/database-ca-{}.pem"


def configuration(mode: str) -> str:
    return rendered(TOP / "roles" / "mongodb" / "templates" / "mongod.conf.j2", {"mongodb_tls": mode})


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return loaded("library", "database_clients")


class Host:
    """An application host: an instance that runs, and what the others would be started with."""

    def __init__(self, root: Path) -> None:
        self.root, self.shown = root, ""
        for name, text in (("1", FORMER), ("2", FORMER + NEXT)):
            self.write(CA.format(name), text)

    def write(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def run(self, unit: str, pid: int, variables: dict[str, str]) -> None:
        self.shown += f"Id={unit}.service\nMainPID={pid}\n\n"
        self.write(f"/proc/{pid}/environ", "".join(f"{name}={value}\0" for name, value in variables.items()))

    def configure(self, name: str, variables: dict[str, str], file: str = "environment") -> None:
        text = "# comment\n" + "".join(f'{key}="{value}"\n' for key, value in variables.items())
        assert dict(configurations.VARIABLE.findall(text)) == variables
        self.write(f"/etc/phoenix/configurations/{name}/{file}", text)

    def link(self, path: str, name: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(self.root / "etc/phoenix/configurations" / name)

    def seen(self, module: ModuleType) -> dict[str, Any]:
        host = module.Host(self.root)
        return {"clients": [*host.started(self.shown), *host.configured(), *host.own()], "member": host.member()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def by_tls(ca: str) -> dict[str, str]:
    return {"DB_CONNECTION_STRING": f"{PLAIN}&ssl=true", "NODE_EXTRA_CA_CERTS": CA.format(ca)}


def shown(seen: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {one["name"]: (one["tls"], one["trusted"]) for one in [*seen["clients"], *seen["member"]]}


def test_an_instance_is_what_it_was_started_with(host: Host, module: ModuleType) -> None:
    """Its link is of the roll-out that was cut; the next start would take it."""
    host.run("phoenix@3000", 41, {"DB_CONNECTION_STRING": PLAIN})
    host.run("phoenix@3001", 42, by_tls("1"))
    host.run("phoenix@3002", 0, {})  # does not run
    host.run("phoenix-mail@7", 43, {"HOME": "/"})  # nothing of the database
    host.configure("new", by_tls("2"))
    host.configure("new", by_tls("2"), "environment.worker")
    host.link("etc/systemd/system/phoenix@3000.service.d", "new")
    host.link("etc/phoenix/configuration", "new")
    host.write("/var/lib/phoenix/processes/target.json", json.dumps({"configuration": "new"}))
    seen = host.seen(module)
    assert shown(seen) == {
        "phoenix@3000": (False, ""),
        "phoenix@3001": (True, FORMER),
        "phoenix@3000 at its next start": (True, FORMER + NEXT),
        "new instances": (True, FORMER + NEXT),
        "the process worker": (True, FORMER + NEXT),
    }
    assert "u:p@" not in json.dumps(seen), "neither address nor password"


def test_phoenixs_own_read_the_link_when_they_connect(host: Host, module: ModuleType) -> None:
    bundle = host.root / module.BUNDLE
    bundle.symlink_to("database-ca-2.pem")
    host.write("/etc/phoenix/backup/sender.json", json.dumps({"own": "a", "members": ["a"], "ca": f"/{module.BUNDLE}"}))
    host.write("/etc/phoenix/backup/store.json", "{}")
    host.write("/etc/netdata/phoenix.json", json.dumps({"mongodb": {"port": 27017}}))
    assert shown(host.seen(module)) == {"backup": (True, FORMER + NEXT), "monitoring": (False, "")}
    host.write("/etc/phoenix/backup/sender.json", json.dumps({"own": "b", "members": ["a"]}))
    host.write("/etc/phoenix/backup/store.json", json.dumps({"root": "/x"}))
    assert shown(host.seen(module)) == {"the store": (False, ""), "monitoring": (False, "")}


def test_a_server_trusts_what_it_has_read(host: Host, module: ModuleType) -> None:
    bundle = host.root / module.BUNDLE
    bundle.symlink_to("database-ca-1.pem")
    assert host.seen(module)["member"] == []
    host.write("/run/mongodb/mongod.conf", "")
    host.write("/run/mongodb/started", "")
    os.utime(bundle, (5, 5), follow_symlinks=False)
    for second, trust in ((4, ""), (6, FORMER)):
        os.utime(host.root / "run/mongodb/started", (second, second))
        assert shown(host.seen(module)) == {"mongod": (True, trust)}


def client(tls: bool, trust: str = "", name: str = "phoenix@3000") -> dict[str, Any]:
    return {"name": name, "tls": tls, "trusted": trust}


def of(*found: dict[str, Any], member: str = "") -> dict[str, Any]:
    return {"clients": [*found], "member": [client(True, member, "mongod")] if member else []}


def test_who_connects_without_tls_is_named_before_it_is_required() -> None:
    seen = {
        "app1": of(client(False), client(True, name="phoenix@3001")),
        "app2": of(client(False, name="new instances")),
        "db1": of(client(True, name="backup"), member=FORMER),
    }
    refusal = clients.step_refusal("requireTLS", "db1", configuration("preferTLS"), seen)
    assert "what connects without TLS: app1: phoenix@3000; app2: new instances." in refusal
    assert "site.yml with mongodb_tls = preferTLS first" in refusal
    whole = {host: of(client(True), member=FORMER) for host in seen}
    assert clients.step_refusal("requireTLS", "db1", configuration("preferTLS"), whole) == ""


def test_who_connects_by_tls_is_named_before_it_is_given_up() -> None:
    """The members' own connections follow their modes."""
    seen = {"app1": of(client(True)), "db1": of(client(False), member=FORMER)}
    refusal = clients.step_refusal("disabled", "db1", configuration("allowTLS"), seen)
    assert "what connects by TLS: app1: phoenix@3000. Run the whole site.yml with mongodb_tls = allowTLS" in refusal
    assert clients.step_refusal("disabled", "db1", configuration("allowTLS"), {"db1": seen["db1"]}) == ""


def test_a_host_that_was_not_asked_is_named() -> None:
    refusal = clients.step_refusal("requireTLS", "db1", configuration("preferTLS"), {"app1": None, "db1": of()})
    assert "app1 is not in this run" in refusal and "remove-host.yml" in refusal


@pytest.mark.parametrize(
    ("present", "wanted"),
    [("requireTLS", "requireTLS"), ("disabled", "disabled"), ("disabled", "allowTLS"), ("requireTLS", "preferTLS"),
     ("allowTLS", "preferTLS"), ("preferTLS", "allowTLS"), ("", "requireTLS")],
)  # fmt: skip
def test_other_runs_need_not_know_who_connects(present: str, wanted: str) -> None:
    """Neither those between modes that accept both, nor a fleet that stays as it is with a host that is away."""
    running = configuration(present) if present else ""
    assert clients.step_refusal(wanted, "db1", running, {"app1": None, "app2": of(client(wanted == "disabled"))}) == ""
    assert "more than one step" in clients.step_refusal("requireTLS", "db1", configuration("disabled"), {})


def test_a_ca_issues_once_all_that_runs_was_started_with_it() -> None:
    seen = {
        "app1": of(client(True, FORMER + NEXT), client(True, FORMER, "phoenix@3001")),
        "app2": of(client(False)),
        "app3": None,
        "db1": of(client(True, NEXT, "backup"), member=FORMER),
    }
    assert clients.distrusting(NEXT, seen) == ["app1: phoenix@3001", "app3: not in this run", "db1: mongod"]
    assert clients.distrusting(FORMER, seen) == ["app3: not in this run", "db1: backup"]
    assert clients.distrusting(NEXT, {"app1": of(client(True, FORMER + NEXT)), "app2": of(client(False))}) == []
    assert clients.bundles(seen) == sorted([FORMER, NEXT, FORMER + NEXT])
    assert tls.MODES[0] == "disabled"


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize(
    ("due", "other_ca", "trust", "issued"),
    [
        ("it ends on 2030-01-01", True, FORMER + NEXT, True),
        ("another CA has issued it", True, FORMER, False),
        ("it is for db1", True, FORMER, False),
        ("it ends on 2030-01-01", False, None, True),
        ("asked for", False, None, True),
        ("there is none", False, FORMER, True),
    ],
)
def test_a_member_keeps_its_certificate_until_then(due: str, other_ca: bool, trust: str | None, issued: bool) -> None:
    """But for a new member, which has none: others serve meanwhile. The same CA renews it whichever hosts are away."""
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.template import Templar  # noqa: PLC0415

    tasks = read_yaml(TOP / "roles" / "mongodb" / "tasks" / "certificate.yml")
    (issue,) = (task for task in tasks if task["name"] == "Have one issued")
    (later,) = (task for task in tasks if task["name"] == "Report that it is issued later")
    variables = {
        **read_yaml(TOP / "roles" / "mongodb" / "vars" / "main.yml"),
        "mongodb_tls_certificate": "",
        "mongodb_tls_authority": NEXT,
        "mongodb_clients": {"app1": of(client(True, trust)) if trust else None},
        "__mongodb_certificate_due": {"stdout": json.dumps({"reason": due, "other_ca": other_ca})},
        "ansible_check_mode": False,
        "inventory_hostname": "db1",
    }
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    holds = [all(templar.template(trusted("{{ " + one + " }}")) for one in task["when"]) for task in (issue, later)]
    assert holds == [issued, not issued]
    if not issued:
        assert "by app1: phoenix@3000" in templar.template(trusted(later["ansible.builtin.debug"]["msg"]))
