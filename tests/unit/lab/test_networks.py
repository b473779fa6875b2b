"""The lab's profile of two networks: what the engine is asked for, who reaches whom, what is written on the hosts."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import NotFound
from docker.types import EndpointConfig, NetworkingConfig

from lab import containers, fleet, settings
from phoenix.fleet.inventory import known_variables, shared_variables
from tests.unit.shared import SAMPLES, TOP, evaluate, read_yaml, rendered

INVENTORY = TOP / "inventories" / "networks"
FRONT, PRIVATE = "phoenix-networks-front", "phoenix-networks-private"
# An example of each kind of host, with the roles whose files differ there.
HOSTS = {
    "lb1": ("base", "firewall", "keepalived", "netdata", "nginx"),
    "app1": ("firewall", "nodejs", "phoenix"),
    "db3": ("firewall", "mongodb", "netdata"),
    "control1": (
        "alerting",
        "autoscaler",
        "backup",
        "deploy",
        "drills",
        "firewall",
        "netdata",
        "reconcile",
        "runner",
        "state",
    ),
    "bastion1": ("firewall",),
    "client1": ("firewall",),
}


class Engine:
    """Docker's, which makes nothing, and records what it is asked for."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.created: dict[str, Any] = {}
        self.connected: list[tuple[str, dict[str, Any]]] = []
        self.put: dict[str, str] = {}
        self.api = self.networks = self
        self.containers = SimpleNamespace(get=lambda name: SimpleNamespace(put_archive=self.put_archive, name=name))

    def create_host_config(self, **words: Any) -> dict[str, Any]:
        return words

    def create_endpoint_config(self, **words: Any) -> EndpointConfig:
        return EndpointConfig("1.41", **words)

    def create_networking_config(self, given: dict[str, EndpointConfig]) -> NetworkingConfig:
        return NetworkingConfig(given)

    def get(self, name: str) -> Any:
        if name not in self.made:
            raise NotFound(name)
        return SimpleNamespace(connect=lambda _, **words: self.connected.append((name, words)))

    def create(self, name: str, **words: Any) -> None:
        self.made[name] = words

    def create_container(self, _tag: str, **words: Any) -> dict[str, str]:
        self.created = words
        return {"Id": words["name"]}

    def put_archive(self, path: str, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for entry in archive:
                self.put[path + entry.name] = archive.extractfile(entry).read().decode()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def networks() -> fleet.Fleet:
    return fleet.read(INVENTORY)


@pytest.fixture(scope="module")
def usual() -> fleet.Fleet:
    """Of one network."""
    return fleet.read(TOP / "inventories" / "lab")


@pytest.fixture
def engine(networks: fleet.Fleet, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that has the fleet's networks, on a machine that reaches no others."""
    found = Engine()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="[]"))
    for network in networks.networks:
        containers._network(found, networks, network)
    return found


def host_of(found: fleet.Fleet, name: str) -> fleet.Host:
    return next(host for host in found.hosts if host.name == name)


def test_both_networks_have_both_kinds_of_address(engine: Engine) -> None:
    assert {
        name: [(pool["Subnet"], pool["Gateway"]) for pool in words["ipam"]["Config"]]
        for name, words in engine.made.items()
    } == {
        FRONT: [("10.186.2.0/24", "10.186.2.1"), ("fd00:186:2::/64", "fd00:186:2::1")],
        PRIVATE: [("10.186.3.0/24", "10.186.3.1"), ("fd00:186:3::/64", "fd00:186:3::1")],
    }
    for words in engine.made.values():
        assert words["enable_ipv6"] is True
        assert words["labels"] == {containers.LABEL: "networks", containers.CHECKOUT_LABEL: containers.CHECKOUT}


def test_a_network_of_one_kind_stays_one(usual: fleet.Fleet, engine: Engine) -> None:
    (network,) = usual.networks
    containers._network(engine, usual, network)
    assert engine.made["phoenix-lab"]["enable_ipv6"] is False
    containers._create(engine, usual, host_of(usual, "app1"), "image")
    endpoints = engine.created["networking_config"]["EndpointsConfig"]
    assert {name: one["IPAMConfig"] for name, one in endpoints.items()} == {
        "phoenix-lab": {"IPv4Address": "10.186.0.21"}
    }
    assert "net.ipv6.conf.all.disable_ipv6" not in engine.created["host_config"]["sysctls"]
    assert engine.connected == [] and engine.put == {}


def test_a_network_that_ipv6_would_hide_is_found(networks: fleet.Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {"-4": [], "-6": [{"dst": "fe80::/64", "dev": "eth0"}, {"dst": "fd00:186::/32", "dev": "wg0"}]}

    def shown(command: list[str], **_: Any) -> Any:
        return SimpleNamespace(stdout=json.dumps(routes[command[2]]))

    monkeypatch.setattr(subprocess, "run", shown)
    with pytest.raises(RuntimeError, match=r"reaches fd00:186::/32 on wg0, .*fd00:186:2::/64 would hide"):
        containers._network(Engine(), networks, networks.networks[0])


def test_balancers_are_in_both_networks(engine: Engine, networks: fleet.Fleet) -> None:
    containers._create(engine, networks, host_of(networks, "lb1"), "image")
    ((name, endpoint),) = engine.created["networking_config"]["EndpointsConfig"].items()
    # The first by its name, through which the engine lets a host in several reach package sources.
    assert name == FRONT
    assert endpoint["IPAMConfig"] == {"IPv4Address": "10.186.2.11", "IPv6Address": "fd00:186:2::11"}
    private = {"aliases": ["lb1"], "ipv4_address": "10.186.3.11", "ipv6_address": "fd00:186:3::11"}
    assert engine.connected == [(PRIVATE, private)]
    assert engine.created["host_config"]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] == "0"
    assert engine.put == {"/etc/ssh/sshd_config.d/10-lab.conf": "Port 2222\n"}
    assert networks.gateway(host_of(networks, "lb1")) == "10.186.2.1"


def test_only_balancers_and_the_bastion_are_in_both(networks: fleet.Fleet) -> None:
    where = {host.name: list(networks.attached(host)) for host in networks.hosts}
    assert {name for name, found in where.items() if found == [FRONT, PRIVATE]} == {"lb1", "lb2", "bastion1"}
    assert [name for name, found in where.items() if found == [FRONT]] == ["client1"]
    inside = [host for host in networks.hosts if where[host.name] == [PRIVATE]]
    assert {group for host in inside for group in host.groups} == {"private", "app", "db", "control"}
    assert {networks.gateway(host) for host in inside} == {"10.186.3.1"}
    # Each through the bastion, and nobody else.
    assert {host.name for host in networks.hosts if host.jump} == {host.name for host in inside}
    assert {host.jump for host in inside} == {"bastion1"}


def test_a_container_that_was_never_started_is_made_again(engine: Engine, networks: fleet.Fleet) -> None:
    app1 = host_of(networks, "app1")
    removed: list[str] = []

    def existing(status: str) -> Any:
        def remove(**_: Any) -> None:
            removed.append(status)

        return SimpleNamespace(
            status=status, labels={containers.LABEL: "networks"}, remove=remove, put_archive=engine.put_archive
        )

    for status in ("created", "exited", "running"):
        found = existing(status)
        engine.containers = SimpleNamespace(get=lambda _, found=found: found)
        containers._container(engine, networks, app1, "image")
    assert removed == ["created"]
    assert engine.created["name"] == "phoenix-app1"


def test_apt_asks_for_ipv4_where_ipv6_leads_nowhere(networks: fleet.Fleet, usual: fleet.Fleet) -> None:
    assert settings.apt_conf(host_of(networks, "app1"), "// own\n") == '// own\nAcquire::ForceIPv4 "true";\n'
    assert settings.apt_conf(host_of(usual, "app1"), "// own\n") == "// own\n"


def test_ssh_goes_through_the_bastion(networks: fleet.Fleet) -> None:
    text = containers._ssh_config(host_of(networks, "app1"), Path("/state"))
    assert "  HostName fd00:186:3::21\n  Port 2222\n  ProxyJump bastion1\n" in text
    assert "ProxyJump" not in containers._ssh_config(host_of(networks, "bastion1"), Path("/state"))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({}, "its hosts have no lab_network in common"),
        ({"lab_network": "198.51.100.0/24"}, "192.0.2.11 of vm1 is in no network"),
        ({"lab_networks": {"a": ["2001:db8::/64"]}}, "a is 2001:db8::/64; give one of IPv4"),
        (
            {"lab_networks": {"a": ["192.0.2.0/24", "2001:db8::/64"]}, "lab_addresses": ["2001:db8:1::1"]},
            "2001:db8:1::1 of vm1 is in no network",
        ),
    ],
)
def test_inventories_that_are_none_of_the_labs(own: dict[str, Any], message: str) -> None:
    usual = {"ansible_user": "debian", "lab_debian": "bookworm", "ansible_host": "192.0.2.11"}
    data = {"all": {"children": ["ungrouped"]}, "ungrouped": {"hosts": ["vm1"]}}
    with pytest.raises(RuntimeError, match=message):
        fleet.described(Path("own"), {**data, "_meta": {"hostvars": {"vm1": usual | own}}})


# --- what is written on the hosts


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, networks: fleet.Fleet) -> dict[str, dict[str, Any]]:
    """By host, the values that its roles get from the inventory and the wiring, as in a fleet that was just started."""
    top = tmp_path_factory.mktemp("checkout")
    folder = top / "inventories" / "networks"
    # With what its links lead to: secrets are generated beside it.
    shutil.copytree(INVENTORY, folder, ignore=lambda *_: [".secrets"])
    state = top / ".lab"
    state.mkdir()
    names = {host.container: host.name for host in networks.hosts}

    def started(name: str) -> Any:
        return SimpleNamespace(exec_run=lambda _: (0, f"ssh-ed25519 KEY{names[name]} root@x\n".encode()))

    containers._write_known_hosts(SimpleNamespace(containers=SimpleNamespace(get=started)), networks, state)
    set_here = {name for path in folder.glob("group_vars/**/*.yml") for name in read_yaml(path)}
    wanted = (shared_variables(TOP / "playbooks").keys() | set_here) - {"backup_store_host_key"}  # of a host's facts
    known = known_variables(TOP / "roles", TOP / "playbooks")
    expressions = {
        host: ", ".join(f"'{name}': {name}" for role in roles for name in sorted(known[role].keys() & wanted))
        for host, roles in HOSTS.items()
    }
    return evaluate(folder, {host: f"{{{text}}}" for host, text in expressions.items()})


def facts(networks: fleet.Fleet, name: str) -> dict[str, Any]:
    """Ansible's of a host, with an interface in each of its networks."""
    found: dict[str, Any] = {"interfaces": ["lo"], "default_ipv4": {}}
    own = networks.attached(host_of(networks, name)).values()
    for number, addresses in enumerate(own):
        v4, v6 = sorted(addresses, key=lambda address: ":" in address)
        known = {"ipv4": {"address": v4, "prefix": "24"}, "ipv6": [{"address": v6, "prefix": "64"}]}
        found |= {f"eth{number}": {"device": f"eth{number}", **known}}
        found["interfaces"].append(f"eth{number}")
    addresses = [one for addresses in own for one in addresses]
    found["all_ipv4_addresses"] = [one for one in addresses if ":" not in one]
    found["all_ipv6_addresses"] = [one for one in addresses if ":" in one]
    return {**SAMPLES["common"]["ansible_facts"], "virtualization_type": "docker", **found}


@pytest.fixture(scope="module")
def written(given: dict[str, dict[str, Any]], networks: fleet.Fleet, ansible_plugins: None) -> dict[str, str]:
    """Each role's templates as they are rendered for its host, by host and file."""
    found = {}
    for host, roles in HOSTS.items():
        for role in roles:
            # What the role derives itself comes before the samples.
            own = read_yaml(TOP / "roles" / role / "vars" / "main.yml")
            values = {**own, **given[host], "ansible_facts": facts(networks, host), "inventory_hostname": host}
            for path in sorted((TOP / "roles" / role / "templates").rglob("*.j2")):
                found[f"{host}/{role}/{path.name}"] = rendered(path, values)
    return found


def lines(text: str, *words: str) -> list[str]:
    """The lines that hold one of these words, without their indentation."""
    return [line.strip() for line in text.splitlines() if any(word in line for word in words)]


def test_every_file_writes_ipv6_with_a_port_in_brackets(written: dict[str, str]) -> None:
    bare = re.compile(r"(?<![\[\w:])fd00:186:[23]::\w+:\d+")
    assert bare.search(" fd00:186:3::21:3000") and not bare.search(" [fd00:186:3::21]:3000 fd00:186:3::21")
    assert {name: lines(text, *found) for name, text in written.items() if (found := bare.findall(text))} == {}
    assert len([name for name, text in written.items() if "fd00:186:3::" in text]) > len(HOSTS)


def test_no_file_knows_the_addresses_that_are_for_package_sources(written: dict[str, str]) -> None:
    """Nor a sample of tests/unit/sample_vars.yml, which would mean that nothing was rendered of this inventory."""
    found = {name: lines(text, "10.186.3.") for name, text in written.items() if "10.186.3." in text}
    assert found == {}
    assert [name for name, text in written.items() if re.search(r"\b192\.0\.2\.|2001:db8:", text)] == []


def test_clients_come_to_other_ports_by_both_kinds_of_address(written: dict[str, str]) -> None:
    site = written["lb1/nginx/nginx.conf.j2"]
    listened = {line.split()[1].rstrip(";") for line in lines(site, "listen ")}
    assert {"8080", "[::]:8080", "8443", "[::]:8443"} <= listened
    assert [one for one in listened if re.search(r"(^|:)(80|443)$", one)] == []
    assert any("308 https://$host:8443$request_uri" in line for line in site.splitlines())
    assert "[fd00:186:2::10]" in "".join(lines(site, "server_name "))
    pool = written["lb1/nginx/upstreams.conf.j2"]
    assert "server [fd00:186:3::21]:3000 " in pool and "server [fd00:186:3::22]:3000 " in pool


def test_balancers_agree_on_each_address_in_the_clients_network(written: dict[str, str]) -> None:
    text = written["lb1/keepalived/keepalived.conf.j2"]
    assert lines(text, "unicast_src_ip") == ["unicast_src_ip 10.186.2.11", "unicast_src_ip fd00:186:2::11"]
    assert lines(text, "min_ttl") == ["10.186.2.12 min_ttl 255", "fd00:186:2::12 min_ttl 255"]
    assert lines(text, " dev ") == ["10.186.2.10/32 dev eth0", "fd00:186:2::10/128 dev eth0"]


def test_the_firewalls_admit_the_bastion_to_private_hosts_and_clients_to_no_others(written: dict[str, str]) -> None:
    rules = {host: lines(written[f"{host}/firewall/firewall.nft.j2"], " accept comment ") for host in HOSTS}
    for host, found in rules.items():
        assert [rule for rule in found if "dport { 22 }" in rule] == []
        assert any("fd00:186:3::5" in rule and "dport { 2222 }" in rule for rule in found), host
        assert host == "lb1" or not [rule for rule in found if rule.startswith(("tcp", "udp"))], "open to anybody"
    assert 'tcp dport { 8080, 8443 } accept comment "web"' in rules["lb1"]
    assert [rule for rule in rules["lb1"] if "l4proto 112" in rule] == [
        'ip saddr { 10.186.2.12/32 } meta l4proto 112 accept comment "vrrp"',
        'ip6 saddr { fd00:186:2::12/128 } meta l4proto 112 accept comment "vrrp"',
    ]
    (application,) = (rule for rule in rules["app1"] if "application" in rule)
    assert application.startswith("ip6 saddr { fd00:186:3::11/128, fd00:186:3::12/128 } tcp dport { 3000-3003, 3900 }")


def test_what_leaves_the_private_hosts_stays_in_their_network(given: dict[str, dict[str, Any]]) -> None:
    control = given["control1"]
    assert control["alerting_channels"]["hook"]["url"] == "http://[fd00:186:3::5]:8025/webhook"
    assert control["alerting_deadman_url"] == "http://[fd00:186:3::5]:8025/heartbeat"
    assert control["backup_offsite_repository"] == "sftp://offsite@[fd00:186:3::5]:2222//phoenix"
    assert control["backup_offsite_ssh_host_key"] == "ssh-ed25519 KEYbastion1"
    assert (control["backup_store_address"], control["backup_store_port"]) == ("fd00:186:3::41", 2222)
    assert control["reconcile_hosts"]["lb1"] == ["fd00:186:3::11", 2222]
    known = control["runner_hosts"]["lb2"]
    assert (known["ansible_host"], known["ansible_port"]) == ("fd00:186:3::12", 2222)
    assert known["phoenix_front_addresses"] == ["10.186.2.12", "fd00:186:2::12"]
    assert "client1" not in control["netdata_hosts"] and "bastion1" in control["netdata_hosts"]


def test_the_site_is_watched_from_where_clients_network_is_reached(given: dict[str, dict[str, Any]]) -> None:
    asked = {site["address"] for site in given["lb1"]["netdata_sites"]}
    assert {"10.186.2.10", "fd00:186:2::10"} < asked
    assert {site["url"] for site in given["lb1"]["netdata_sites"]} == {
        "http://phoenix.lab:8080/",
        "https://phoenix.lab:8443/",
    }
    assert given["control1"]["netdata_sites"] == given["db3"]["netdata_sites"] == []
    # Which see the application during maintenance, by whichever address they come.
    own = {"fd00:186:3::41", "fd00:186:3::11", "10.186.2.11", "fd00:186:2::12", "10.186.2.10", "fd00:186:2::10"}
    assert own <= set(given["lb1"]["nginx_maintenance_visitors"])
