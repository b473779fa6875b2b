"""Plays of the operation: what they stop, refuse and wait for."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from ansible.template import Templar

from tests.harness.plays import END_CHARACTERS, PLAYBOOK, excerpt
from tests.unit.shared import TOP, read_yaml, run_ansible, trusted

# The role that brings up what serves in each group.
OWNERS = {"lb": ["nginx"], "app": ["phoenix"], "db": ["mongodb"]}


@pytest.mark.parametrize("group", OWNERS)
def test_all_that_serves_on_a_removed_host_is_stopped(group: str) -> None:
    stopped = next(
        play["vars"]["remove_units"][group]
        for play in read_yaml(TOP / "playbooks" / "remove-host.yml")
        if "remove_units" in play.get("vars", {})
    )
    units = [
        path.name.removesuffix(".j2")
        for role in OWNERS[group]
        for path in (TOP / "roles" / role / "templates").glob("*.service.j2")
        if "\nRestart=always\n" in path.read_text(encoding="utf-8")
    ]
    assert units and [unit for unit in units if not any(fnmatch(unit, pattern) for pattern in stopped)] == []


@pytest.mark.parametrize("name", ["remove-host", "upgrade-debian"])
@pytest.mark.parametrize(("host", "taken"), [("app2", True), ("control1", False), ("backup1", False), ("app9", False)])
def test_neither_the_records_nor_the_backups_are_given_away_with_their_host(name: str, host: str, taken: bool) -> None:
    """upgrade-debian.yml deletes the host with its disk, where it has a provider."""
    hosts = ["app1", "app2", "backup1", "control1"]
    variables = {
        "groups": {"all": hosts, "control": ["control1"], "backup_store": ["backup1"]},
        "hostvars": {one: {"preflight_distribution_versions": ["12", "13"]} for one in hosts},
        "backup_store_host": "backup1",
        "phoenix_host": host,
        "phoenix_debian": "13",
    }
    checks = [task["ansible.builtin.assert"]["that"] for task in first_tasks(name) if "ansible.builtin.assert" in task]
    templar = Templar(loader=DataLoader(), variables=variables)
    # As a run does: the first refusal ends it.
    assert all(templar.template(trusted(f"{{{{ {check} }}}}")) for check in checks) == taken


def first_tasks(name: str) -> list[dict[str, Any]]:
    """The tasks of the first play, and of the files that it includes."""
    found: list[dict[str, Any]] = []
    for task in read_yaml(TOP / "playbooks" / f"{name}.yml")[0]["tasks"]:
        path = task.get("ansible.builtin.include_tasks")
        found += read_yaml(TOP / "playbooks" / path) if path else [task]
    return found


def test_a_restore_is_awaited_for_a_day_and_its_lock_never_lapses_meanwhile() -> None:
    """Each round includes the next: by a trial that takes 4 of Python's 1000 levels."""
    wait = read_yaml(TOP / "playbooks" / "tasks" / "await-restore.yml")[0]
    restore = read_yaml(TOP / "playbooks" / "restore.yml")[-1]
    rounds, asking_s = 240, 4
    tries = int(wait["until"].rpartition(">=")[2])
    assert tries < wait["retries"]
    assert rounds * tries * wait["delay"] >= 20 * 3600, "500 GB, by docs/backup.md"
    assert tries * (wait["delay"] + asking_s) < restore["vars"]["__restore_lease"]


@pytest.mark.parametrize("series", ["beside", "", None])
def test_only_a_restore_of_time_series_asks_for_what_earlier_packages_do_not_know(series: str | None) -> None:
    (task,) = [one for one in first_tasks("restore") if one["name"] == "Compose the request"]
    given = {"mongodb_admin_password": "x", "backup_members": ["db1"], "phoenix_restore_check_room": "no"}
    given |= {} if series is None else {"phoenix_restore_series": series}
    templar = Templar(loader=DataLoader(), variables=trusted({**given, **task["vars"]}))
    order = templar.template(trusted(task["ansible.builtin.set_fact"]["__restore_order"]))
    assert order == {
        "dump": "newest", "collection": "", "time": "", "check_room": False, "user": "admin", "password": "x",
        "members": ["db1"], **({"series": series} if series else {}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "covered", "again", "shown", "safe"),
    [
        (None, True, {"rc": 0}, "because the store has every second", False),
        (None, True, {"rc": 1}, "because the store has every second", True),
        (None, True, {"msg": "phoenixctl did not run", "failed": True}, "because the store has every second", True),
        (None, False, {"skipped": True}, "a safety dump of everything comes first", True),
        ("no", False, {"skipped": True}, "because of -e phoenix_restore_safety_dump=no", False),
        ("yes", True, {"skipped": True}, "a safety dump of everything comes first", True),
    ],
)
def test_a_safety_dump_is_decided_once_more_after_the_confirmation(
    given: str | None, covered: bool, again: dict[str, Any], shown: str, safe: bool
) -> None:
    tasks = {one["name"]: one for one in first_tasks("restore")}
    asking = tasks["Ask the store again whether it has every second until now"]
    variables = {
        **read_yaml(TOP / "playbooks" / "restore.yml")[0]["vars"],
        "__restore_plan": {"stdout": json.dumps({"covered": covered})},
        "__restore_covered": again,
        **({"phoenix_restore_safety_dump": given} if given else {}),
    }

    def template(text: str, **more: Any) -> Any:
        return Templar(loader=DataLoader(), variables=trusted({**variables, **more})).template(trusted(text))

    decided = "__restore_safe"
    first = template(tasks["Decide whether a safety dump is taken"]["ansible.builtin.set_fact"][decided])
    assert shown in template(tasks["Ask for confirmation"]["ansible.builtin.pause"]["prompt"], __restore_safe=first)
    assert template(f"{{{{ {asking['when']} }}}}", __restore_safe=first) == ("skipped" not in again)
    last = tasks["Take the safety dump where it has not any more"]["ansible.builtin.set_fact"][decided]
    assert template(last, __restore_safe=first) is safe


@pytest.mark.parametrize("path", sorted((TOP / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_one_host_is_the_store(path: Path) -> None:
    """The first of its group, as the wiring has it: a former one may follow, whose dumps are old."""
    hosts = [str(play.get("hosts", "")) for play in read_yaml(path)]
    assert [text for text in hosts if "'backup_store'" in text.replace("'backup_store' in groups", "")] == []


@pytest.mark.parametrize(
    ("name", "register", "seen", "said"),
    [
        (
            "leave",
            "service_busy",
            {
                "rc": 0,
                "stdout": "phoenix-backup@nightly.service loaded activating start A dump\nphoenix-ci.service loaded",
            },
            "phoenix-backup@nightly.service, phoenix-ci.service still runs",
        ),
        (
            "return-lb",
            "service_balancer",
            {"rc": 1, "stdout": '{"held": {}, "obstacle": "keepalived does not run"}', "stderr": ""},
            "keepalived does not run",
        ),
    ],
)
def test_a_wait_in_vain_says_for_what(name: str, register: str, seen: dict[str, Any], said: str) -> None:
    """Once its tries are used up, a task with `until` fails by itself, and gives no reason."""
    tasks = read_yaml(TOP / "playbooks" / "tasks" / "service" / f"{name}.yml")
    (at,) = [number for number, task in enumerate(tasks) if task.get("register") == register]
    wait, report = tasks[at : at + 2]
    last = {**seen, "attempts": wait["retries"] - 1, "stdout_lines": seen["stdout"].splitlines()}
    templar = Templar(loader=DataLoader(), variables={register: last})
    assert templar.template(trusted(f"{{{{ {wait['until']} }}}}")), "it ends before that"
    assert templar.template(trusted(f"{{{{ {report['when']} }}}}"))
    assert said in templar.template(trusted(report["ansible.builtin.fail"]["msg"]))
    assert "failed_when" not in wait or wait["failed_when"] is False


@pytest.mark.parametrize("name", ["site", "patch"])
@pytest.mark.parametrize(("run", "moved"), [(["lb1", "lb2"], True), (["lb1"], False), (["lb2"], False)])
def test_a_run_without_a_load_balancer_leaves_the_addresses_where_they_are(
    name: str, run: list[str], moved: bool
) -> None:
    """switch.yml refuses to move one to a host that it has not asked, and would end the run: with --limit '!lb1'."""
    (move,) = [
        play
        for play in read_yaml(TOP / "playbooks" / f"{name}.yml")
        if play.get("ansible.builtin.import_playbook", play.get("import_playbook")) == "switch.yml"
    ]
    variables = {
        "phoenix_floating_addresses": ["192.0.2.10", "192.0.2.11"],
        "groups": {"lb": ["lb1", "lb2"]},
        "ansible_play_hosts_all": run,
        "patch_due": [{"host": "lb1", "why": "a reboot"}],
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    conditions = move["when"] if isinstance(move["when"], list) else [move["when"]]
    assert all(templar.template(trusted(f"{{{{ {condition} }}}}")) for condition in conditions) == moved


def test_a_run_for_control_alone_goes_on_with_what_other_hosts_have_said(tmp_path: Path) -> None:
    """With --limit control1 nothing else is gathered: neither hosts' keys for control, nor those of senders."""
    plays = {play["name"]: play for play in read_yaml(TOP / "playbooks" / "site.yml")}
    publish = plays["Publish the inventory to control"]
    read, keep = plays["Receive, verify and keep them at the store"]["tasks"][:2]
    (tmp_path / "id_ed25519.pub").write_text("ssh-ed25519 APP\n", encoding="utf-8")
    assert read["ansible.builtin.slurp"]["src"] == "/etc/phoenix/backup/id_ed25519.pub"
    read["ansible.builtin.slurp"]["src"] = str(tmp_path / "id_ed25519.pub")
    hosts = ["control1", "app1", "db1"]
    run = {
        "hosts": "control1",
        "gather_facts": False,
        "become": False,
        "vars": {
            "runner_hosts": {host: {} for host in hosts},
            "phoenix_address": "{{ ansible_host }}",
            "backup_senders": f"{{{{ {hosts} | phoenix_senders(hostvars, []) }}}}",
            **publish["tasks"][0]["vars"],
        },
        "tasks": [
            {
                "ansible.builtin.set_fact": {
                    "ssh_host_key_ed25519_public": "OWN",
                    "backup_public_key": "ssh-ed25519 CONTROL",
                    "cacheable": True,
                }
            },
            read,
            keep,
            {
                "ansible.builtin.copy": {
                    "content": "{{ [runner_host_keys, backup_senders | items2dict('host', 'key')] | to_json }}",
                    "dest": str(tmp_path / "seen"),
                }
            },
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([run]), encoding="utf-8")
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {
        host: {"ansible_host": f"192.0.2.{number}", "phoenix_address": f"192.0.2.{number}", **local}
        for number, host in enumerate(hosts, 1)
    }
    inventory["db1"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": "1"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": inventory}}), encoding="utf-8")
    done = run_ansible(PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    keys, senders = json.loads((tmp_path / "seen").read_text(encoding="utf-8"))
    assert keys == {"192.0.2.1": "OWN"}
    assert senders == {"control1": "ssh-ed25519 CONTROL", "app1": "ssh-ed25519 APP", "db1": ""}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ("phoenix_since=2 hours ago", "hours ago"),
        ("phoenix_command=node --max-old-space-size=64", "--max-old-space-size"),
        ("phoenix_since='2 hours ago'", ""),
    ],
)
@pytest.mark.parametrize("name", ["run", "logs"])
@pytest.mark.usefixtures("ansible_plugins")
def test_a_value_that_the_command_line_cuts_at_its_space_is_refused(name: str, given: str, refused: str) -> None:
    """Without its second quotes `npm run report` is `npm`, and `2 hours ago` the number 2."""
    (task,) = read_yaml(TOP / "playbooks" / "tasks" / "no-stray-words.yml")
    first = read_yaml(TOP / "playbooks" / f"{name}.yml")[0]["tasks"][0]
    assert first["ansible.builtin.include_tasks"] == "tasks/no-stray-words.yml"
    variables = {**parse_kv(given), **trusted({**first["vars"], **task["vars"]})}
    templar = Templar(loader=DataLoader(), variables=variables)
    check = task["ansible.builtin.assert"]
    assert templar.template(trusted(f"{{{{ {check['that']} }}}}")) is (not refused)
    message = templar.template(trusted(check["fail_msg"]))
    assert not refused or message.startswith(f'"{refused}" on the command line belongs to no variable')


def test_a_new_ca_is_made_beside_all_that_the_fleet_trusts() -> None:
    """Of a run that was cut, hosts trust different CAs; database hosts that the limit leaves out are asked as well."""
    whole = read_yaml(TOP / "playbooks" / "tasks" / "trust-database.yml")[-2]
    block = whole["block"]
    others = [
        {"item": "db1", "unreachable": True, "msg": "No route to host"},
        {"item": "db3", "content": "dGhyZWUK"},
        {"item": "db4", "msg": "file not found"},
    ]
    variables = {
        "groups": {"db": ["db1", "db2", "db3", "db4"]},
        "ansible_play_hosts": ["control1", "app1", "db2"],
        "trust_database_others": {"results": others},
        "hostvars": {
            "control1": {"mongodb_trusted_before": ""},
            "app1": {"mongodb_trusted_before": "one\n"},
            "db2": {"mongodb_trusted_before": "two\n"},
        },
        **whole["vars"],
        **block[1]["vars"],
    }
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    assert sorted(templar.template(trusted(block[0]["loop"]))) == ["db1", "db3", "db4"]
    assert templar.template(trusted("{{ mongodb_trusted.split() }}")) == ["one", "two"]
    members = {"db1": None, "db2": "two\n", "db3": "three\n", "db4": ""}
    assert templar.template(trusted("{{ mongodb_trusted_members }}")) == members


def test_what_a_host_has_no_more_stays_sealed() -> None:
    """A host's state may hold the CA of a database whose TLS was given up, or the account of an ACME that was."""
    (play,) = [
        play
        for play in read_yaml(TOP / "playbooks" / "recover.yml")
        if play["name"] == "Bring back the state of each host"
    ]
    sealed = {"state": "/a/1.age", "authority": "/a/2.age", "acme": "/a/3.age"}
    variables = {
        "inventory_hostname": "control1",
        "backup_store_host": "control1",
        # Of the first play, on the same host.
        "hostvars": {"control1": {"recover_holdings": {"state": {"control1": sealed}}, "__recover_held": {}}},
        "backup_state": [{"name": "state", "paths": ["/var/lib/phoenix/state"]}],
        **{name: value for name, value in play["vars"].items() if name != "__recover_cache"},
        "__recover_held": {"stdout": "{}"},
    }
    report = play["tasks"][0]
    templar = Templar(loader=DataLoader(), variables=trusted({**variables, **report["vars"]}))
    assert templar.template(trusted("{{ __recover_parts }}")) == {"state": "/a/1.age"}
    assert "has acme, authority of control1" in templar.template(trusted(report["ansible.builtin.debug"]["msg"]))


def test_an_excerpt_begins_with_the_tasks_that_failed() -> None:
    """Hundreds of lines after the reason of a roll-out's end say how the fleet was put back."""
    rescued = (
        "TASK [deploy : Check the canary] ***\nok: [app2]\n[ERROR]: Task failed: slow\nfatal: [app1]: FAILED! => {}\n"
    )
    item = "TASK [deploy : Switch] ***\nok: [app1] => (item=a)\nfailed: [app1] (item=b) => {}\n"
    end = "TASK [deploy : Put back] ***\nok: [app1]\n" * 200
    shown = excerpt(f"PLAY [all] ***\n{rescued}{item}{end}")
    assert shown.startswith(
        "TASK [deploy : Check the canary]\n[ERROR]: Task failed: slow\nfatal: [app1]: FAILED! => {}\n\n"
        "TASK [deploy : Switch]\nfailed: [app1] (item=b) => {}\n"
    )
    assert "app2" not in shown and len(shown) < END_CHARACTERS + 300
