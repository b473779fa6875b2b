"""An inventory's own value of every setting reaches the roles, and every documented setting has an effect."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from phoenix.backup import state
from phoenix.build import project as packer
from phoenix.common import tar
from phoenix.fleet.inventory import known_variables, shared_variables
from phoenix.fleet.inventory.fleet import SAME_EVERYWHERE
from phoenix.fleet.inventory.model import PLAYBOOKS
from tests.unit.shared import CLEAN, TOP, evaluate, read_yaml, rendered, run_ansible

KNOWN = known_variables(TOP / "roles", TOP / "playbooks")
OPTIONS = {name: option for options in KNOWN.values() for name, option in options.items()}
SHARED = shared_variables(TOP / "playbooks")
# What a play says of one step, and an inventory therefore can't: the roles describe it, the plays set it.
ARGUMENTS = frozenset(
    {
        "ci_agent_key",
        "deploy_silent",
        "deploy_version",
        "deploy_what",
        "mongodb_compatibility",
        "mongodb_restart",
        "netdata_stream_former_keys",
        "phoenix_release_archive",
    }
    | {"ci_deploy_key"}
    | {"phoenix_placement"}  # scale.yml places around hosts that failed
    # Plays go by the record.
    | {"nginx_drained", "nginx_maintenance", "phoenix_recorded", "phoenix_recorded_configuration"}
    | {"phoenix_first_command"}  # site.yml, on a fleet without a release
    | {"deploy_configurations", "nginx_lock", "phoenix_donor", "phoenix_lock", "state_lock_kept"}
    | {"phoenix_release_checksum", "phoenix_restart", "phoenix_version", "release_serving", "release_source"}
    | {
        "release_build_as",
        "release_version",
        "runner_authorized_key",
        "runner_host_keys",
        "runner_libraries_folder",
        "state_lock_holder",
        "state_lock_lease",
    }
    | {"state_lock_purpose", "state_lock_wait", "state_values"}
    | set(KNOWN["archive"])  # other roles call it
)
SETTINGS = sorted(OPTIONS.keys() - ARGUMENTS)
PLAYS = "site.yml,deploy.yml,ci.yml,scale.yml,rollback.yml,verify.yml"


def sentinel(name: str, number: int) -> Any:
    """A value of the option's type that nothing else has."""
    kind = OPTIONS[name].get("type")
    values: dict[str, Any] = {
        "int": 20000 + number,
        "float": number + 0.5,
        "bool": not OPTIONS[name].get("default", False),
        "list": [f"own {name}"],
        "dict": {"own": name},
    }
    return values.get(str(kind), f"own-{name}")


OWN = {name: sentinel(name, number) for number, name in enumerate(SETTINGS)}


def write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def example(folder: Path) -> dict[str, Any]:
    """Copy the example, as README has it, but out of the repository, and add a host for Jenkins; returns its hosts."""
    shutil.copytree(TOP / "inventories" / "production", folder)
    hosts: dict[str, Any] = read_yaml(folder / "hosts.yml")
    hosts["all"]["children"]["jenkins"] = {"hosts": {"jenkins1": {"ansible_host": "192.0.2.61"}}}
    write(folder / "hosts.yml", hosts)
    return hosts


def in_the_documented_file(folder: Path) -> None:
    example(folder)
    path = folder / "group_vars" / "all" / "main.yml"
    write(path, read_yaml(path) | OWN)


def in_hosts_yml(folder: Path) -> None:
    hosts = example(folder)
    shutil.rmtree(folder / "group_vars")
    hosts["all"]["vars"] |= OWN
    write(folder / "hosts.yml", hosts)


def in_one_file_for_all(folder: Path) -> None:
    example(folder)
    shutil.rmtree(folder / "group_vars")
    write(folder / "group_vars" / "all.yml", OWN)


def in_files_of_groups(folder: Path) -> None:
    for group in example(folder)["all"]["children"]:
        write(folder / "group_vars" / f"{group}.yml", OWN)


def in_files_of_hosts(folder: Path) -> None:
    for group in example(folder)["all"]["children"].values():
        for part in (group, *group.get("children", {}).values()):
            for host in part["hosts"]:
                write(folder / "host_vars" / f"{host}.yml", OWN)


def with_a_setting_moved_back(folder: Path) -> None:
    """As when the wiring was linked beside the operator's own file."""
    in_the_documented_file(folder)
    write(folder / "group_vars" / "all" / "wiring.yml", {"phoenix_instances_per_host": 4})


PLACES: tuple[Callable[[Path], None], ...] = (
    in_the_documented_file,
    in_hosts_yml,
    in_one_file_for_all,
    in_files_of_groups,
    in_files_of_hosts,
)


def resolve(folders: list[Path], **environment: str) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Return the value that arrives, by inventory, role, option. Ansible reads its configuration once per process."""
    program, path = TOP / "tests" / "unit" / "resolve_settings.py", f"{TOP / 'src'}:{TOP}"
    if environment:
        command, env = (
            list(map(str, (sys.executable, program, PLAYS, *folders))),
            {**CLEAN, "PYTHONPATH": path, **environment},
        )
        done = subprocess.run(command, cwd=TOP, env=env, capture_output=True, text=True, check=False)
    else:
        done = run_ansible(program, PLAYS, *folders, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {Path(folder).name: found[folder] for folder in found}


def lost(arrived: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    """List the settings for which a role got another value than the inventory's own, with value and place."""
    return {
        name: seen
        for options in arrived.values()
        for name in options.keys() & OWN.keys()
        for seen in options[name]
        if seen[0] != OWN[name]
    }


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inventories")
    for place in (*PLACES, with_a_setting_moved_back):
        place(folder / place.__name__)
    return resolve([folder / place.__name__ for place in (*PLACES, with_a_setting_moved_back)])


@pytest.mark.parametrize("place", [place.__name__ for place in PLACES])
def test_an_inventorys_own_value_arrives(arrived: dict[str, Any], place: str) -> None:
    assert arrived[place].keys() == KNOWN.keys(), "a role that no play was seen to use"
    assert {name for options in arrived[place].values() for name in options} >= set(SETTINGS)
    assert lost(arrived[place]) == {}


def test_a_setting_that_is_moved_back_is_found(arrived: dict[str, Any]) -> None:
    assert lost(arrived[with_a_setting_moved_back.__name__]).keys() == {"phoenix_instances_per_host"}


def test_without_the_precedence_the_playbooks_would_override(tmp_path: Path) -> None:
    """The reason why the preflight refuses another ansible.cfg."""
    in_the_documented_file(tmp_path / "own")
    usual = "all_inventory,groups_inventory,all_plugins_inventory,all_plugins_play"
    assert lost(resolve([tmp_path / "own"], ANSIBLE_PRECEDENCE=usual)["own"]).keys() == SHARED.keys() & OWN.keys()


def test_no_inventory_holds_the_playbooks_files() -> None:
    """Beside them, the precedence of an inventory's own files would depend on their names."""
    found = [path for path in (TOP / "inventories").rglob("*") if path.name in ("wiring.yml", "defaults.yml")]
    assert found == []


def test_what_lies_beside_an_inventory_is_no_host(tmp_path: Path) -> None:
    """Ansible reads every file in an inventory's folder, and runs those that are executable, to ask them for hosts."""
    own = tmp_path / "own"
    example(own)
    for name in ("archives/node.tar.xz", "files/notes", "www.example.org.pem", "dns-hook"):
        path = own / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
        path.chmod(0o755)
    seen = evaluate(own, {"control1": "groups.all | sort"})
    assert seen["control1"] == ["app1", "app2", "app3", "control1", "db1", "db2", "db3", "jenkins1", "lb1"]
    assert not (tmp_path / "ran").exists()


def test_the_example_passes_the_preflight_once_it_is_filled_in_as_readme_says(tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(TOP / "inventories" / "production", own)
    main = own / "group_vars" / "all" / "main.yml"
    text = main.read_text(encoding="utf-8")
    (own / "archives").mkdir()
    for name in re.findall(r"/archives/([^\"]+)", text):
        (own / "archives" / name).write_bytes(b"archive")
    digest = hashlib.sha256(b"archive").hexdigest()
    main.write_text(re.sub(r"sha256:(…|[0-9a-f]{64})", f"sha256:{digest}", text), encoding="utf-8")
    named = re.findall(r"`(vault_\w+)`", (TOP / "README.md").read_text(encoding="utf-8"))
    special = {"stream_key": "11111111-2222-3333-4444-555555555555", "url": "https://hooks.example.org/1"}
    values = {name: next((special[end] for end in special if name.endswith(end)), "QUJDREVGR0g=") for name in named}
    write(own / "group_vars" / "all" / "vault.yml", values)
    words = ["lb1", "-i", str(own), "--playbook-dir", str(TOP / "playbooks"), "-m", "include_role"]
    program = Path(sys.executable).with_name("ansible")
    done = run_ansible(program, *words, "-a", "name=preflight tasks_from=inventory")
    assert done.returncode == 0, done.stdout + done.stderr


def test_settings_are_plain_and_the_wiring_derives() -> None:
    settings = read_yaml(TOP / "playbooks/group_vars/all/defaults.yml")
    derivations = read_yaml(TOP / "playbooks/group_vars/all/wiring.yml")
    assert [name for name, value in settings.items() if "{{" in str(value)] == []
    assert [name for name, value in derivations.items() if "{{" not in str(value)] == []
    assert settings.keys() & derivations.keys() == set()
    assert [name for name in SHARED if name not in OPTIONS] == [], "described in no argument_specs.yml"


def test_a_setting_has_one_default() -> None:
    settings = read_yaml(TOP / "playbooks/group_vars/all/defaults.yml")
    assert {name: OPTIONS[name].get("default") for name in settings} == settings
    own = KNOWN[PLAYBOOKS]
    assert {name for name in own if "default" in own[name]} <= settings.keys()
    assert {name for name in own if "default" not in own[name]} - {"phoenix_source"} <= SHARED.keys()
    assert set(SAME_EVERYWHERE) <= SHARED.keys()


def test_ports_arrive_wherever_they_count(tmp_path: Path) -> None:
    """In the firewall, in what is watched, in the address, in Jenkins' way through the load balancers."""
    example(tmp_path / "own")
    ports = {"nginx_http_port": 8001, "nginx_https_port": 8002, "nginx_status_port": 8003}
    main = tmp_path / "own" / "group_vars" / "all" / "main.yml"
    write(main, {name: value for name, value in read_yaml(main).items() if name != "phoenix_url"})
    write(tmp_path / "own" / "group_vars" / "lb.yml", {**ports, "nginx_server_names": ["a.example"]})
    write(tmp_path / "own" / "group_vars" / "control.yml", {"firewall_ssh_port": 8007})
    write(tmp_path / "own" / "group_vars" / "db.yml", {"firewall_ssh_port": 8008})
    write(tmp_path / "own" / "group_vars" / "jenkins.yml", {"jenkins_port": 8004, "jenkins_prefix": "/own"})
    write(tmp_path / "own" / "group_vars" / "all" / "more.yml", {"netdata_stream_port": 8005, "autoscaler_port": 8006})
    webhook = {"ci_webhook_port": 8009, "ci_webhook_sources": ["203.0.113.0/24"]}
    write(tmp_path / "own" / "group_vars" / "all" / "webhook.yml", webhook)
    wanted = {
        "lb1": "[firewall_allow, netdata_nginx_status_url, nginx_private_services]",
        "control1": "[firewall_allow, phoenix_url, netdata_sites, netdata_certificates, ci_ssh_port]",
        "jenkins1": "[firewall_allow, jenkins_agent_port]",
        "db1": "[backup_store_port, firewall_ssh_port]",
    }
    seen = evaluate(tmp_path / "own", wanted)
    web, status, private = seen["lb1"]
    assert web == [
        {"name": "proxies", "ports": [8001, 8002], "sources": []},
        {"name": "web", "ports": [8001, 8002], "sources": ["any"], "new_connections": 100},
    ]
    assert (seen["control1"][3][0]["port"], status) == (8002, "http://127.0.0.1:8003/status")
    assert (private[0]["path"], private[0]["port"]) == ("/own", 8004)
    assert [rule["ports"] for rule in seen["control1"][0]] == [[8005], [8006], [8009]]
    assert seen["control1"][0][-1]["sources"] == ["203.0.113.0/24"]
    assert seen["control1"][1] == "https://a.example:8002"
    assert {site["url"] for site in seen["control1"][2]} == {"http://a.example:8001/", "https://a.example:8002/"}
    assert [rule["ports"] for rule in seen["jenkins1"][0]] == [[8004]]
    assert [int(seen["control1"][4]), int(seen["jenkins1"][1]), *map(int, seen["db1"])] == [8007, 8007, 8007, 8008]


def test_ipv6_arrives_wherever_addresses_count(tmp_path: Path) -> None:
    hosts = example(tmp_path / "own")
    text = yaml.safe_dump(hosts).replace("192.0.2.", "2001:db8::")
    write(tmp_path / "own" / "group_vars" / "all" / "vault.yml", {"vault_mongodb_app_password": "p"})
    # The operator's own way to a host does not count.
    write(tmp_path / "own" / "hosts.yml", yaml.safe_load(text))
    write(
        tmp_path / "own" / "host_vars" / "lb1.yml", {"ansible_host": "203.0.113.5", "phoenix_address": "2001:db8::11"}
    )
    wanted = {
        "lb1": "[nginx_metering_address, nginx_listen_ipv6, nginx_upstream_hosts, preflight_address]",
        "app1": "[phoenix_db_connection_string, firewall_allow, firewall_ssh_sources]",
        "control1": "[autoscaler_address, autoscaler_balancers, runner_hosts.lb1, netdata_stream_sources]",
        "db1": "[ci_denied_addresses]",
    }
    seen = evaluate(tmp_path / "own", wanted)
    metering, listen, upstreams, own = seen["lb1"]
    assert (metering, listen, own) == ("[2001:db8::41]:5140", True, "2001:db8::11")
    assert [host["address"] for host in upstreams] == ["2001:db8::21", "2001:db8::22"]
    uri, allowed, ssh = seen["app1"]
    seeds = ",".join(f"db{number}.phoenix.internal:27017" for number in (1, 2, 3))
    assert f"@{seeds}/phoenix?" in uri
    assert (allowed[0]["sources"], ssh) == (["2001:db8::11"], ["2001:db8::41"])
    address, balancers, published, sources = seen["control1"]
    assert (address, balancers, published["ansible_host"]) == ("::", ["2001:db8::11"], "2001:db8::11")
    assert "2001:db8::11" in sources and "203.0.113.5" not in sources
    # As on a control host that is one of the database's, too.
    assert seen["db1"] == [["2001:db8::32", "2001:db8::33"]]


def test_tls_of_the_database_reaches_every_client(tmp_path: Path) -> None:
    """With one variable; the connection string of the application is as it was without."""
    example(tmp_path / "own")
    all_hosts = tmp_path / "own" / "group_vars" / "all"
    write(all_hosts / "vault.yml", {"vault_mongodb_app_password": "p"})
    wanted = {
        "app1": "[phoenix_db_connection_string, phoenix_db_ca]",
        "db1": "[mongodb_client_ca, backup_ca, netdata_mongodb_ca, netdata_certificates | map(attribute='host') | list,"
        " preflight_mongodb_tls, preflight_mongodb_clients, mongodb_clients]",
        "control1": "[backup_ca, backup_state | map(attribute='name') | list, backup_state_triggers, "
        "mongodb_tls_internal]",
    }
    ca = "/etc/ssl/phoenix/database-ca.pem"
    plain = evaluate(tmp_path / "own", wanted)
    (uri, empty), member, control = plain["app1"], plain["db1"], plain["control1"]
    assert (empty, *member[:3], control[0]) == ("",) * 5
    assert ("db1" in member[3], member[4]) == (False, "disabled")
    # Nothing has been asked yet: every application host has to be, and those that missed a run before it serves.
    unasked = dict.fromkeys(("app1", "app2", "app3"))
    assert member[5].items() >= {**unasked, "db1": None}.items() and member[6] == unasked
    assert "authority" not in control[1] and control[3] is False
    write(all_hosts / "tls.yml", {"mongodb_tls": "preferTLS"})
    seen = evaluate(tmp_path / "own", wanted)
    assert seen["app1"] == [f"{uri}&ssl=true", ca]
    assert seen["db1"][:3] == [ca, ca, ca] and "db1" in seen["db1"][3] and seen["db1"][4] == "preferTLS"
    assert seen["control1"][0] == ca and "authority" in seen["control1"][1] and seen["control1"][3] is True
    assert state.parts({"name": name, "paths": []} for name in seen["control1"][1]), "each is a name of a part"
    assert "/var/lib/phoenix/database-ca" in seen["control1"][2]
    write(all_hosts / "tls.yml", {"mongodb_tls": "allowTLS"})
    seen = evaluate(tmp_path / "own", wanted)
    assert seen["app1"] == [uri, ""] and seen["control1"][3] is True


@pytest.mark.parametrize(
    ("template", "own", "line"),
    [
        ("autoscaler/templates/phoenix-autoscaler.socket.j2", {"autoscaler_address": "::"}, "ListenDatagram=[::]:5140"),
        ("netdata/templates/stream.conf.j2", {"netdata_parent": False}, "destination = [2001:db8::41]:19999"),
        ("netdata/templates/netdata.conf.j2", {}, " [2001:db8::41]:19999=streaming"),
        ("mongodb/templates/mongod.conf.j2", {"mongodb_address": "2001:db8::31"}, "  bindIp: 127.0.0.1,2001:db8::31"),
        ("mongodb/templates/mongod.conf.j2", {"mongodb_address": "2001:db8::31"}, "  ipv6: true"),
    ],
)
@pytest.mark.usefixtures("ansible_plugins")
def test_ipv6_is_written_as_each_program_reads_it(template: str, own: dict[str, Any], line: str) -> None:
    assert line in rendered(TOP / "roles" / template, {"netdata_parent_address": "2001:db8::41", **own})


@pytest.mark.usefixtures("ansible_plugins")
def test_yaml_with_ipv6_is_read_as_it_was_written() -> None:
    """To YAML `::` is no string, and neither is what ends with a colon."""
    own = {"autoscaler_address": "::", "autoscaler_metrics_address": "::1", "autoscaler_balancers": ["2001:db8::"]}
    read = yaml.safe_load(rendered(TOP / "roles/autoscaler/templates/autoscaler.yml.j2", own))
    assert read["listen"].items() >= {"address": "::", "balancers": ["2001:db8::"]}.items()
    assert read["metrics"]["address"] == "::1"


def test_jenkins_reaches_its_agents_over_ssh_and_no_other_host(tmp_path: Path) -> None:
    hosts = example(tmp_path / "own")
    # The store takes what each host sends, so it does not belong to control here.
    hosts["all"]["children"]["backup_store"] = {"hosts": {"store1": {"ansible_host": "192.0.2.71"}}}
    write(tmp_path / "own" / "hosts.yml", hosts)
    others = ("lb1", "app1", "db1", "jenkins1")
    admitted = evaluate(tmp_path / "own", dict.fromkeys((*others, "control1"), "firewall_ssh_sources"))
    assert [admitted[host] for host in others] == [["192.0.2.41"]] * 4
    assert admitted["control1"] == ["192.0.2.41", "192.0.2.61"]


def test_controls_copy_resolves_the_same(tmp_path: Path) -> None:
    """Of the project as it is packed for control, with the inventory that is written there."""
    hosts = example(tmp_path / "own")
    hosts["all"]["vars"] |= {"phoenix_instances_per_host": 9, "deploy_load_balancers": ["lb1"]}
    hosts["all"]["children"]["app"]["hosts"]["app1"] |= {"phoenix_health_path": "/own", "release_ca_file": "/own.pem"}
    write(tmp_path / "own" / "hosts.yml", hosts)
    hosts["all"]["vars"] |= {"demand_command": ["own"], "demand_addresses": ["192.0.2.91", "192.0.2.92"]}
    write(tmp_path / "own" / "hosts.yml", hosts)
    names = ("runner_hosts", "runner_groups", "runner_demand_hosts", "runner_demand_variables")
    expression = (
        "[phoenix_instances_per_host, phoenix_placement, phoenix_ports, deploy_load_balancers, nginx_upstream_hosts,"
        " release_ca_file, phoenix_health_path, phoenix_url, phoenix_demand_hosts | int, phoenix_room | int,"
        " release_secrets_known | bool]"
    )
    resolved = evaluate(tmp_path / "own", {"control1": f"[{', '.join(names)}]", "app1": expression})
    values = resolved["control1"]
    known, *_ = values
    assert known["app1"].items() >= {"ansible_host": "192.0.2.21", "phoenix_health_path": "/own"}.items()
    assert "phoenix_ports" not in known["app1"], "derived from the capacity, which changes"
    assert not any("password" in name or "channels" in name for name in known["control1"])

    control = tmp_path / "control"
    with tarfile.open(fileobj=io.BytesIO(tar.pack(TOP, packer.members(TOP)))) as archive:
        archive.extractall(control, filter="data")
    template = (TOP / "roles/runner/templates/inventory.yml.j2").read_text(encoding="utf-8")
    variables = {**dict(zip(names, values, strict=True)), "ansible_managed": ""}
    written = Templar(loader=DataLoader(), variables=variables).template(trust_as_template(template))
    (control / "inventory.yml").write_text(written, encoding="utf-8")
    seen = evaluate(control / "inventory.yml", {"app1": expression}, control)["app1"]
    *same, secrets_known = resolved["app1"]
    assert seen == [*same, False] and secrets_known
    assert seen[0] == 9 and seen[5] == "/own.pem" and seen[8] == 2


def test_no_play_repeats_a_port_that_is_a_setting() -> None:
    settings = read_yaml(TOP / "playbooks/group_vars/all/defaults.yml")
    ports = "|".join(str(value) for name, value in settings.items() if name.endswith("_port"))
    paths = [
        *TOP.glob("playbooks/*.yml"),
        *TOP.glob("playbooks/tasks/**/*.yml"),
        TOP / "playbooks/group_vars/all/wiring.yml",
    ]
    assert [path.name for path in paths if re.search(rf"\b({ports})\b", path.read_text(encoding="utf-8"))] == []


# --- what is documented

CODE = [
    path
    for pattern in ("roles/*/tasks/*", "roles/*/templates/*", "roles/*/vars/*", "roles/*/handlers/*", "playbooks/*.yml")
    for path in TOP.glob(pattern)
] + [*TOP.glob("playbooks/tasks/**/*.yml"), *TOP.glob("playbooks/group_vars/all/*"), *TOP.glob("inventories/*.yml")]
WORD = re.compile(r"\w+")


def readers() -> Iterator[str]:
    """Every name that is used, other than as the key by which it is given a value."""
    for path in CODE:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from WORD.findall(re.sub(r"^\s*(- )?\w+:(?=\s|$)", "", line.split(" # ")[0]))
    # By their names, in Python.
    for name in ("wiring.py", "inventory/version.py"):
        yield from re.findall(r'"(\w+)"', (TOP / "src" / "phoenix" / "fleet" / name).read_text(encoding="utf-8"))


READ = frozenset(readers())
# The tables of what is watched, and of how each alarm was provoked, name metrics and alarms.
DOCUMENTS = [
    path
    for path in (TOP / "README.md", *TOP.glob("docs/**/*.md"), *TOP.glob("roles/*/README.md"))
    if path.name not in ("coverage.md", "alarms-provoked.md")
]
EXAMPLES = [*TOP.glob("inventories/production/**/*.yml")]
NAMESPACES = "|".join(sorted(role for role in KNOWN if role != PLAYBOOKS))
NAMED = re.compile(rf"`((?:{NAMESPACES})_[a-z0-9_]+)(?:`|:|=)|-e ((?:{NAMESPACES})_[a-z0-9_]+)=")
IN_YAML = re.compile(rf"^[# ]*((?:{NAMESPACES})_[a-z0-9_]+):", re.MULTILINE)


# What bears such a name and is no variable: alarms, and what programs call so (metrics, modules).
ALARMS = set(
    re.findall(r"^## Alarm: phoenix_(\w+)", (TOP / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
)
PROGRAMS = {path.stem for path in TOP.glob("library/*.py")} | {
    word
    for path in TOP.glob("src/phoenix/**/*.py")
    for word in WORD.findall(path.read_text(encoding="utf-8"))
    if word not in OPTIONS
}


def documented() -> dict[str, list[str]]:
    """{name: the documents} for what is written as a variable: in backticks, after -e, or as a key of the example."""
    found: dict[str, list[str]] = {}
    for path in DOCUMENTS + EXAMPLES:
        text = path.read_text(encoding="utf-8")
        names = {name for pair in NAMED.findall(text) for name in pair if name}
        if path in EXAMPLES:
            names |= set(IN_YAML.findall(text))
        for name in names - ALARMS - PROGRAMS:
            if not name.endswith("_total"):  # Prometheus' suffix of counters
                found.setdefault(name, []).append(str(path.relative_to(TOP)))
    return found


def test_every_documented_variable_has_an_effect() -> None:
    found = documented()
    assert len(found) > 300
    assert {name: where for name, where in found.items() if name not in READ} == {}


def test_the_document_on_settings_is_complete() -> None:
    text = (TOP / "docs" / "settings.md").read_text(encoding="utf-8")
    wanted = {*KNOWN[PLAYBOOKS], *SAME_EVERYWHERE, *(ARGUMENTS - KNOWN["archive"].keys())}
    assert [name for name in sorted(wanted) if f"`{name}`" not in text] == []


def test_every_option_is_read() -> None:
    assert sorted(OPTIONS.keys() - READ) == []
