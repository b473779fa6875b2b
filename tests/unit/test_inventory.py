"""The checks of the whole inventory, each bad input with its message."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from phoenix import __version__
from phoenix.fleet.inventory import errors, known_variables
from phoenix.fleet.inventory.renamed import RENAMED
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, read_yaml, run_ansible

SPECS: dict[str, dict[str, dict[str, Any]]] = {
    "mongodb": {
        "mongodb_port": {"type": "int", "default": 27017},
        "mongodb_version": {"type": "str", "default": "6.0.5"},
        "mongodb_members": {"type": "list", "required": True},
        "mongodb_admin_password": {"type": "str", "required": True, "no_log": True},
        "mongodb_archive": {"type": "str", "required": True},
        "mongodb_archive_checksum": {"type": "str", "required": True},
    },
    "phoenix": {
        "phoenix_ports": {"type": "list", "default": []},
        "phoenix_spare_port": {"type": "int", "default": 3900},
        "phoenix_isolate_ports": {"type": "list", "default": []},
        "phoenix_db_connection_string": {"type": "str", "required": True, "no_log": True},
        "phoenix_health_timeout": {"type": "int", "default": 60},
        "phoenix_drain_timeout": {"type": "int", "default": 60},
    },
    "autoscaler": {
        "autoscaler_action_timeout_seconds": {"type": "float", "default": 180.0},
        "autoscaler_enabled": {"type": "bool", "default": True},
    },
    "acme": {
        "acme_certificates": {"type": "list", "default": []},
        "acme_email": {"type": "str", "default": "operations@example.org"},
        "acme_directory": {"type": "str", "default": "https://acme.example.org/directory"},
        "acme_dns_hook": {"type": "str", "default": ""},
        "acme_other_names": {"type": "list", "default": ["old.example.org"]},
        "acme_tls_enabled": {"type": "bool", "default": True},
    },
    "nginx": {
        "nginx_unwanted_policy": {"type": "str", "choices": ["block", "isolate"], "default": "block"},
        "nginx_tls_enabled": {"type": "bool", "default": False},
        "nginx_https_port": {"type": "int", "default": 443},
        "nginx_server_names": {"type": "list", "default": []},
        "nginx_certificates": {"type": "list", "default": []},
        "nginx_acme_names": {"type": "list", "default": []},
        "nginx_redirects": {"type": "list", "default": []},
    },
    "alerting": {
        "alerting_enabled": {"type": "bool", "default": True},
        "alerting_recipients": {"type": "dict", "default": {}},
        "alerting_channels": {"type": "dict", "default": {}, "no_log": True},
    },
    "playbooks": {
        "phoenix_source": {"type": "str", "required": True},
        "phoenix_url": {"type": "str"},
        "phoenix_address": {"type": "str"},
        "phoenix_front_addresses": {"type": "list"},
        "phoenix_floating_addresses": {"type": "list", "default": []},
        "phoenix_first_port": {"type": "int", "default": 3000},
        "phoenix_instances_per_host": {"type": "int", "default": 2},
    },
}
GOOD_URI = "mongodb://phoenix:%40%3A%2F@192.0.2.31:27017/phoenix"  # pragma: allowlist secret
SECRET = "Sesame-7!"  # pragma: allowlist secret
MAIL = {"type": "email", "host": "mail.example.org", "port": 25, "sender": "a@example.org", "to": ["b@example.org"]}
Hosts = dict[str, dict[str, Any]]


class Failing(Mapping[str, Any]):
    """Like Ansible's hostvars: a value that fails when it is evaluated."""

    def __init__(self, values: dict[str, Any], error: Exception) -> None:
        self.values_, self.error = values, error

    def __getitem__(self, name: str) -> Any:
        if self.values_[name] is self:
            raise self.error
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    archive = tmp_path / "mongodb.tar"
    archive.write_bytes(b"archive")
    checksum = hashlib.sha256(b"archive").hexdigest()
    database = {
        "mongodb_members": [{"host": "db1", "address": "192.0.2.31"}],
        "mongodb_admin_password": SECRET,
        "mongodb_archive": str(archive),
        "mongodb_archive_checksum": f"sha256:{checksum}",
        "mongodb_version": "6.0.5",
    }
    app = {"phoenix_ports": [3000, 3001], "phoenix_db_connection_string": GOOD_URI}
    everywhere = {"inventory_hostname": "x", "group_names": [], "omit": "x", "playbook_dir": "/x"}
    return {
        "lb1": {**everywhere, "nginx_unwanted_policy": "block", "nginx_tls_enabled": "yes"},
        "app1": {**everywhere, **app},
        "db1": {**everywhere, **database},
        "control1": {
            **everywhere,
            "phoenix_source": "app",
            "phoenix_url": "https://www.example.org",
            "alerting_recipients": {"default": ["mail"]},
            "alerting_channels": {"mail": MAIL},
        },
    }


GROUPS = {"lb": ["lb1"], "app": ["app1"], "db": ["db1"], "control": ["control1"]}
ONE_VM = {group: ["vm"] for group in GROUPS}


def test_a_sound_inventory(hosts: Hosts) -> None:
    assert errors(hosts, GROUPS, SPECS) == []


def test_a_sound_inventory_of_one_vm(hosts: Hosts) -> None:
    merged = {name: value for host in hosts.values() for name, value in host.items()}
    assert errors({"vm": merged}, ONE_VM, SPECS) == []


def test_what_only_a_play_sets_is_not_suggested(hosts: Hosts) -> None:
    hosts["app1"]["phoenix_portz"] = [3000]
    (found,) = errors(hosts, GROUPS, SPECS, late_variables=["phoenix_portzz"])
    assert "did you mean phoenix_port" in found and "portzz" not in found


def members(count: int, **last: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = [{"host": f"db{n}", "address": f"192.0.2.{n}"} for n in range(1, count + 1)]
    listed[-1].update(last)
    return listed


BAD: list[tuple[str, str, Any, list[str]]] = [
    ("app1", "phoenix_port", [3000], ["phoenix_port:", "did you mean phoenix_ports?", "[app1]"]),
    ("app1", "mongodb_zzzzzz", 1, ["mongodb_zzzzzz: no role has"]),
    ("control1", "alerting_recipients", {}, ["alerting_recipients: {} names nobody", "alerting_enabled"]),
    ("control1", "alerting_recipients", {"default": []}, ["names nobody under `default`", "[control1]"]),
    ("control1", "alerting_recipients", {"default": ["hook"]}, ["names the channel 'hook'"]),
    ("control1", "alerting_channels", {"mail": {"type": "email", "to": []}}, ["mail lacks host, port, sender"]),
    ("control1", "alerting_channels", {"mail": {"type": "mail"}}, ["mail has no type", "email, webhook, slack"]),
    ("control1", "acme_certificates", [{"names": ["A.example.org"]}], ["'A.example.org' is no host name"]),
    ("control1", "acme_certificates", [{"names": ["old.example.org"]}], ["is in nginx_certificates as well"]),
    ("control1", "acme_certificates", [{"names": ["*.example.org"]}], ["*.example.org needs challenge: dns-01"]),
    ("control1", "acme_certificates", ["a.example.org"], ["acme_certificates[0]: 'a.example.org' has no list"]),
    ("control1", "phoenix_url", "www.example.org", ["phoenix_url: 'www.example.org' is no address of a web site"]),
    ("control1", "phoenix_url", "https://:443", ["phoenix_url: 'https://:443' is no address"]),
    ("control1", "phoenix_url", "https://a.example:x", ["phoenix_url: 'https://a.example:x' is no address"]),
    ("control1", "phoenix_url", "https://a.example/b", ["phoenix_url: 'https://a.example/b' has more than"]),
    (
        "control1",
        "phoenix_source",
        f"https://me:{SECRET}@git.example.org/x",
        ["phoenix_source: (hidden)", "deploy_key"],
    ),
    ("db1", "mongodb_archive_checksum", "sha256:" + "A" * 64, ["mongodb_archive_checksum:", "lower case"]),
    ("db1", "mongodb_members", members(2), ["mongodb_members: 2 voting members (db1, db2)", "votes: 0"]),
    ("db1", "mongodb_members", members(9), ["mongodb_members: 9 voting members", "limit of 7"]),
    ("db1", "mongodb_port", 22, ["mongodb_port: port 22 is taken by ansible_port", "another"]),
    ("db1", "mongodb_port", "seven", ["mongodb_port: 'seven' isn't a whole number"]),
    ("db1", "mongodb_port", 70000, ["mongodb_port: port 70000", "between 1 and 65535"]),
    ("db1", "mongodb_version", "4.4.1", ["mongodb_version: '4.4.1' isn't supported", "5.0, 6.0, 7.0"]),
    ("db1", "mongodb_admin_password", "", ["mongodb_admin_password: this secret is empty"]),
    ("db1", "mongodb_admin_password", "changeme", ["mongodb_admin_password: this secret is still a placeholder"]),
    ("db1", "mongodb_admin_password", None, ["mongodb_admin_password: this secret is empty"]),
    ("db1", "mongodb_archive", "/nowhere/x.tar", ["mongodb_archive: '/nowhere/x.tar' can't be read"]),
    ("db1", "mongodb_archive_checksum", "sha256:" + "0" * 64, ["mongodb_archive_checksum: 'sha256:000", "differs"]),
    ("db1", "mongodb_archive_checksum", "", ["mongodb_archive_checksum: missing"]),
    ("db1", "mongodb_archive_checksum", "md5:1", ["mongodb_archive_checksum: 'md5:1' is not a checksum"]),
    ("app1", "phoenix_ports", [3000, 3000], ["phoenix_ports: port 3000 is taken by phoenix_ports"]),
    ("app1", "phoenix_ports", [3000, 3900], ["phoenix_spare_port: port 3900 is taken by phoenix_ports"]),
    ("app1", "phoenix_isolate_ports", [3001], ["phoenix_isolate_ports: port 3001 is taken by phoenix_ports"]),
    ("lb1", "nginx_https_port", 8089, ["nginx_status_port: port 8089 is taken by nginx_https_port"]),
    ("app1", "phoenix_ports", [80], ["phoenix_ports: port 80 can't be used", "1024"]),
    ("app1", "phoenix_ports", "3000", ["phoenix_ports: '3000' isn't a list"]),
    ("app1", "phoenix_db_connection_string", "mongodb://u:p@ss@h/d", ["phoenix_db_connection_string: (hidden)"]),
    ("app1", "phoenix_db_connection_string", "mongodb://u:@h/d", ["phoenix_db_connection_string: (hidden)"]),
    ("lb1", "nginx_unwanted_policy", "blok", ["nginx_unwanted_policy: 'blok'", "block, isolate"]),
    ("lb1", "nginx_tls_enabled", "perhaps", ["nginx_tls_enabled: 'perhaps' isn't true or false"]),
    ("app1", "phoenix_drain_timeout", 91, ["phoenix_drain_timeout (91)", "180 on control1", "at least 181", "[app1]"]),
    ("app1", "phoenix_health_timeout", "100", ["phoenix_health_timeout (100)", "phoenix_drain_timeout (60)", "190"]),
    ("control1", "autoscaler_action_timeout_seconds", 149.5, ["timeout_seconds: 149.5", "at least 150", "[app1]"]),
    ("control1", "autoscaler_action_timeout_seconds", "soon", ["timeout_seconds: 'soon' isn't a number"]),
]


@pytest.mark.parametrize(("host", "name", "value", "parts"), BAD, ids=[f"{bad[1]}={bad[2]!r:.20}" for bad in BAD])
def test_bad_input(hosts: Hosts, host: str, name: str, value: Any, parts: list[str]) -> None:
    hosts[host][name] = value
    found = errors(hosts, GROUPS, SPECS)
    assert len(found) == 1, found
    assert all(part in found[0] for part in parts), found
    assert SECRET not in found[0]


@pytest.mark.parametrize(
    ("url", "names", "served"),
    [
        ("https://www.example.org", ["w.example.org"], False),
        ("https://www.example.org:8443", ["example.org", "www.example.org"], True),
        ("https://www.example.org:8443", ["www.example.org:8443"], False),
        ("https://WWW.example.org", ["www.Example.org"], True),
        ("https://www.example.org", ["*.example.org"], True),
        ("https://example.org", ["*.example.org"], False),
        ("https://example.org", [".example.org"], True),
        ("https://a.b.example.org", [".example.org"], True),
        ("https://www.example.org", ["www.*"], True),
        ("https://wwww.example.org", ["www.*"], False),
        ("https://www.example.org", [r"~^www\d*\.example\.org$"], True),
        # Of no meaning to nginx, which has a site for all other names already.
        ("https://www.example.org", ["_"], False),
        ("https://192.0.2.10", ["www.example.org"], False),
        ("https://192.0.2.10", ["www.example.org", "192.0.2.10"], True),
        ("https://[2001:db8::10]", ["[2001:DB8::10]"], True),
        ("https://[2001:db8::10]", ["2001:db8::10"], False),
        # The load balancer's own names, which are not known here.
        ("https://www.example.org", [], True),
        # Reported as what it is.
        ("www.example.org", ["www.example.com"], True),
    ],
)
def test_the_sites_address_has_to_be_one_that_load_balancers_serve(
    hosts: Hosts, url: str, names: list[str], served: bool
) -> None:
    """Or they would answer all clients with 421."""
    hosts["lb1"] |= {"phoenix_url": url, "nginx_server_names": names}
    found = [error for error in errors(hosts, GROUPS, SPECS) if "they would answer 421" in error]
    if served:
        assert found == []
    else:
        (error,) = found
        assert error.startswith(f"phoenix_url: {url!r} ") and f"nginx_server_names ({', '.join(names)})" in error


@pytest.mark.parametrize(
    "own",
    [
        {"nginx_certificates": [{"names": ["www.example.org"], "certificate": "", "key": ""}]},
        {"nginx_acme_names": [["example.org"], ["www.example.org"]]},
        {"nginx_redirects": [{"names": ["www.example.org"], "to": "example.org"}]},
    ],
)
def test_names_with_a_certificate_or_a_redirect_are_served_as_well(hosts: Hosts, own: dict[str, Any]) -> None:
    hosts["lb1"] |= {"phoenix_url": "https://www.example.org", "nginx_server_names": ["example.org"]}
    assert len(errors(hosts, GROUPS, SPECS)) == 1
    hosts["lb1"] |= own
    assert errors(hosts, GROUPS, SPECS) == []


def test_the_webhooks_port_counts_where_the_firewall_opens_it(hosts: Hosts) -> None:
    clash = "ci_webhook_port: port 19999 is taken by netdata_stream_port"
    hosts["control1"] |= {"ci_webhook_port": 19999, "netdata_parent_address": "192.0.2.41", "ci_webhook_sources": []}
    assert not any(clash in error for error in errors(hosts, GROUPS, SPECS))
    hosts["control1"]["ci_webhook_sources"] = ["any"]
    assert any(clash in error for error in errors(hosts, GROUPS, SPECS))


@pytest.mark.parametrize("name", ["mongodb_admin_password", "mongodb_members"])
def test_missing(hosts: Hosts, name: str) -> None:
    del hosts["db1"][name]
    (found,) = errors(hosts, GROUPS, SPECS)
    assert found.startswith(f"{name}: ")
    assert "undefined" in found


@pytest.mark.parametrize("group", list(GROUPS))
def test_empty_group(hosts: Hosts, group: str) -> None:
    assert any(m.startswith(f"group {group}:") for m in errors(hosts, {**GROUPS, group: []}, SPECS))


def test_ports_clash_on_one_vm(hosts: Hosts) -> None:
    merged = {name: value for host in hosts.values() for name, value in host.items()} | {"mongodb_port": 3001}
    (found,) = errors({"vm": merged}, ONE_VM, SPECS)
    assert "port 3001 is taken by mongodb_port" in found


def test_ports_of_a_later_growth_clash(hosts: Hosts) -> None:
    hosts["app1"] |= {"phoenix_first_port": 3000, "phoenix_instances_per_host": 4, "phoenix_spare_port": 3003}
    (found,) = errors(hosts, GROUPS, SPECS)
    assert "phoenix_spare_port: port 3003 is taken by phoenix_ports" in found


def test_a_member_without_a_vote_is_not_counted(hosts: Hosts) -> None:
    hosts["db1"]["mongodb_members"] = members(4, votes=0)
    assert errors(hosts, GROUPS, SPECS) == []


def test_all_errors_are_reported_at_once_and_each_once(hosts: Hosts) -> None:
    broken: Hosts = copy.deepcopy(hosts)
    for variables in broken.values():
        variables["phoenix_prots"] = 1
    broken["db1"]["mongodb_port"] = 0
    found = errors(broken, GROUPS, SPECS)
    assert len(found) == 2
    assert "[lb1, app1, db1, control1]" in found[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ValueError("'mongo_prot' is undefined"),
            "mongodb_port: its value can't be evaluated ('mongo_prot' is undefined)",
        ),
        (ValueError("'ansible_facts' is undefined"), ""),
        (ValueError("'later' is undefined"), ""),
        (ValueError("object of type 'dict' has no attribute 'default_ipv4'"), ""),
    ],
)
def test_a_failing_template_is_a_message(hosts: Hosts, error: Exception, expected: str) -> None:
    failing = Failing(hosts["db1"], error)
    failing.values_["mongodb_port"] = failing
    found = errors({**hosts, "db1": failing}, GROUPS, SPECS, late_variables=["later"])
    assert len(found) == bool(expected)
    assert all(message.startswith(expected) for message in found)


def test_a_secret_whose_template_fails(hosts: Hosts) -> None:
    failing = Failing(hosts["db1"], ValueError("'vaulted' is undefined"))
    failing.values_["mongodb_admin_password"] = failing
    (found,) = errors({**hosts, "db1": failing}, GROUPS, SPECS)
    assert found.startswith("mongodb_admin_password: this secret's value can't be evaluated")


def test_what_a_play_defines_is_accepted(hosts: Hosts) -> None:
    hosts["app1"]["phoenix_made_later"] = "x"
    assert errors(hosts, GROUPS, SPECS)
    assert errors(hosts, GROUPS, SPECS, late_variables=["phoenix_made_later"]) == []


def test_no_spare_instance_takes_no_port(hosts: Hosts) -> None:
    hosts["app1"]["phoenix_spare_port"] = 0
    assert errors(hosts, GROUPS, SPECS) == []


def test_settings_that_hosts_read_for_each_other_must_be_equal(hosts: Hosts) -> None:
    for host, port in (("app1", 27017), ("db1", 27018), ("lb1", 27017)):
        hosts[host]["mongodb_port"] = port
    (found,) = errors(hosts, GROUPS, SPECS)
    assert found.startswith("mongodb_port: 27017 on lb1, 27018 on db1; it must be the same on every host")


def test_certificates_are_checked_before_what_other_hosts_derive_is_known(hosts: Hosts) -> None:
    certificates = [{"names": ["a.example.org"]}]
    derived = {"acme_other_names": None, "acme_tls_enabled": None}
    assert (
        errors(
            {**hosts, "control1": {**hosts["control1"], "acme_certificates": certificates, **derived}}, GROUPS, SPECS
        )
        == []
    )
    off = {**hosts["control1"], "acme_certificates": certificates, "acme_tls_enabled": False}
    assert "nginx_tls_enabled = false" in errors({**hosts, "control1": off}, GROUPS, SPECS)[0]


def test_floating_addresses_need_two_balancers_and_an_address_of_nobody(hosts: Hosts) -> None:
    for number, host in enumerate(hosts, 11):
        hosts[host] |= {"phoenix_floating_addresses": ["192.0.2.10"], "phoenix_address": f"192.0.2.{number}"}
        hosts[host]["phoenix_front_addresses"] = [f"192.0.2.{number}"]
    (found,) = errors(hosts, GROUPS, SPECS)
    assert "the group lb has lb1; add a second load balancer" in found
    groups = {**GROUPS, "lb": ["lb1", "lb2"]}
    hosts["lb2"] = {**hosts["lb1"], "phoenix_address": "192.0.2.99", "phoenix_front_addresses": ["192.0.2.99"]}
    assert errors(hosts, groups, SPECS) == []
    hosts["app1"]["phoenix_address"] = "192.0.2.10"
    (found,) = errors(hosts, groups, SPECS)
    assert "192.0.2.10 is the own address of app1" in found


def test_floating_addresses_may_be_in_another_network_than_the_fleet(hosts: Hosts) -> None:
    hosts["lb2"] = {**hosts["lb1"]}
    for number, host in enumerate(hosts, 11):
        hosts[host] |= {"phoenix_floating_addresses": ["192.0.2.10", "2001:db8::10"]}
        hosts[host]["phoenix_address"] = f"2001:db8:1::{number}"
    front = {"lb1": ["192.0.2.11", "2001:db8::11"], "lb2": ["192.0.2.12", "2001:db8::12"]}
    for host, own in front.items():
        hosts[host]["phoenix_front_addresses"] = own
    groups = {**GROUPS, "lb": ["lb1", "lb2"]}
    assert errors(hosts, groups, SPECS) == []
    hosts["lb2"]["phoenix_front_addresses"] = ["2001:db8::12", "2001:db8::13"]
    missing, twice = errors(hosts, groups, SPECS)
    assert "192.0.2.10 is IPv4, but lb2 has 2001:db8::12, 2001:db8::13" in missing
    assert twice.endswith("give one IPv4, one IPv6 address, or one of each [lb2]")
    hosts["lb2"]["phoenix_front_addresses"] = ["lb2.example.org"]
    (found,) = errors(hosts, groups, SPECS)
    assert found.startswith("phoenix_front_addresses: 'lb2.example.org' is no address") and found.endswith("[lb2]")


def test_a_second_control_host_is_refused_with_the_way_to_replace_the_first(hosts: Hosts) -> None:
    groups = {**GROUPS, "control": ["control1", "control2"]}
    (message,) = errors({**hosts, "control2": hosts["control1"]}, groups, SPECS)
    assert message.startswith("group control: control1, control2; one host records and decides")
    assert "phoenix_recover=control" in message


def test_hosts_reach_each_other_by_addresses_of_one_kind(hosts: Hosts) -> None:
    hosts["app1"]["phoenix_address"], hosts["db1"]["phoenix_address"] = "192.0.2.21", "2001:db8::31"
    (message,) = errors(hosts, GROUPS, SPECS)
    assert message.startswith("phoenix_address: 192.0.2.21 on app1 and 2001:db8::31 on db1;")
    hosts["db1"]["phoenix_address"] = "db1.example.org"
    (message,) = errors(hosts, GROUPS, SPECS)
    assert message.endswith("[db1]")


def test_a_member_needs_a_name_that_hosts_resolve(hosts: Hosts) -> None:
    for name, good in (("db_1.phoenix.internal", True), ("db 1.phoenix.internal", False), ("db1..internal", False)):
        hosts["db1"]["mongodb_members"] = [{"host": "db1", "address": "2001:db8::31", "name": name}]
        found = errors(hosts, GROUPS, SPECS)
        assert [message.startswith(f"mongodb_members: {name!r} is no name") for message in found] == [True] * (not good)


def test_the_application_must_be_named(hosts: Hosts) -> None:
    del hosts["control1"]["phoenix_source"]
    (found,) = errors(hosts, GROUPS, SPECS)
    assert found.startswith("phoenix_source: undefined") and found.endswith("[control1]")


def test_another_precedence_is_all_that_is_reported(hosts: Hosts) -> None:
    hosts["app1"]["phoenix_prots"] = 1
    (found,) = errors(hosts, GROUPS, SPECS, precedence=["all_inventory", "all_plugins_play"])
    assert found.startswith("precedence: all_inventory, all_plugins_play: ") and "ansible.cfg" in found
    (found,) = errors(hosts, GROUPS, SPECS, precedence=["all_plugins_play", "all_inventory"])
    assert found.startswith("phoenix_prots:")


def test_known_variables_of_all_entry_points(tmp_path: Path) -> None:
    meta = tmp_path / "x" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {x_a: {type: int}}}, other: {options: {x_b: {}}}}", encoding="utf-8"
    )
    roles = {"x": {"x_a": {"type": "int"}, "x_b": {}}}
    assert known_variables(tmp_path) == known_variables(tmp_path, tmp_path / "nowhere") == roles
    assert known_variables(tmp_path, tmp_path / "x") == {**roles, "playbooks": roles["x"]}


PLAY = "- {hosts: all, gather_facts: false, roles: [preflight]}"
FAKE_SPECS = """
argument_specs:
  main:
    options:
      mongodb_members: {type: list, required: true}
      mongodb_port: {type: int, default: 27017}
      mongodb_admin_password: {type: str, required: true, no_log: true}
"""
FAULTY = """
all:
  vars:
    ansible_connection: local
    phoenix_address: 192.0.2.1
    mongodb_members: "{{ groups['db'] | phoenix_members(hostvars) }}"
  children:
    lb: {hosts: {h1: }}
    app: {hosts: {h1: {preflight_min_disk: 5}}}
    db: {hosts: {h1: , h2: {mongodb_port: "{{ mongo_prot }}", mongodb_admin_password: "{{ nowhere }}"}}}
    control: {hosts: {h2: {phoenix_address: 192.0.2.2}}}
"""


def test_the_role_refuses_through_ansible(tmp_path: Path) -> None:
    """Real hostvars, with Ansible's own lazy values and wiring that uses hostvars: messages, and no traceback."""
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    (tmp_path / "inventory.yml").write_text(FAULTY, encoding="utf-8")
    (tmp_path / "roles" / "mongodb" / "meta").mkdir(parents=True)
    (tmp_path / "roles" / "mongodb" / "meta" / "argument_specs.yml").write_text(FAKE_SPECS, encoding="utf-8")
    (tmp_path / "roles" / "preflight").symlink_to(TOP / "roles" / "preflight")
    words = ("-i", tmp_path / "inventory.yml", tmp_path / "play.yml", "-e", f"preflight_roles_dir={tmp_path}/roles")
    result = run_ansible(PLAYBOOK, *words)
    output = result.stdout + result.stderr
    # An inventory that names no version has to follow every change.
    changes = read_yaml(TOP / "roles" / "preflight" / "vars" / "main.yml")["__preflight_breaking_changes"]
    assert result.returncode != 0
    for message in (
        f"The inventory has {6 + len(changes)} error(s); nothing was changed:",
        f"preflight_validated_version: undefined, and this is Phoenix {__version__}; check the inventory against "
        f"CHANGELOG.md, then set preflight_validated_version: {__version__} in its group_vars/all/main.yml [h1, h2]",
        "preflight_min_disk: no role has a variable of this name; did you mean preflight_min_disk_mb? [h1]",
        "mongodb_port: its value can't be evaluated ('mongo_prot' is undefined); define what it refers to",
        "mongodb_admin_password: this secret is undefined; define it",
        "mongodb_admin_password: this secret's value can't be evaluated ('nowhere' is undefined); define it",
        "mongodb_members: 2 voting members (h1, h2) is an even number",
    ):
        assert message in output, output
    assert "Traceback" not in output


def test_the_waits_of_scaling_may_be_long_without_an_autoscaler(hosts: Hosts) -> None:
    hosts["app1"] |= {"phoenix_drain_timeout": 90}
    assert errors(hosts, GROUPS, SPECS) == []
    hosts["app1"] |= {"phoenix_drain_timeout": 600}
    hosts["control1"] |= {"autoscaler_enabled": "no"}
    assert errors(hosts, GROUPS, SPECS) == []


def test_alarms_that_are_off_need_no_recipient(hosts: Hosts) -> None:
    hosts["control1"] |= {"alerting_recipients": {}, "alerting_enabled": False}
    assert errors(hosts, GROUPS, SPECS) == []


def test_an_old_name_is_answered_with_the_new_one() -> None:
    hosts = {"control1": {"netdata_channels": {}, "netdata_heartbeat_url": "https://watch.example.org/x"}}
    found = errors(hosts, {}, {**SPECS, "netdata": {}})
    assert "netdata_channels: renamed; set alerting_channels instead [control1]" in found
    assert "netdata_heartbeat_url: renamed; set alerting_deadman_url instead [control1]" in found
    assert not [message for message in found if "no role has a variable" in message]


def test_every_new_name_is_an_option_and_no_old_one_is() -> None:
    known = {name for options in known_variables(TOP / "roles").values() for name in options}
    assert set(RENAMED.values()) <= known
    assert not set(RENAMED) & known


PROVIDED = {
    "ansible_host": "192.0.2.21",
    "ansible_user": "debian",
    "phoenix_provider": "libvirt",
    "phoenix_provider_settings": {"gateway": "192.0.2.1/24"},
    "phoenix_provider_size": {"cpus": 2},
    "phoenix_provider_image": "debian-12.qcow2",
    "phoenix_provider_fleet": "www.example.org",
    "phoenix_provider_authorized_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDu3 ann"],
}
PROVIDER_SPECS = {
    **SPECS,
    "playbooks": {**SPECS["playbooks"], **known_variables(TOP / "roles", TOP / "playbooks")["playbooks"]},
}


def test_a_host_that_its_provider_can_make(hosts: Hosts) -> None:
    for change in (
        {},
        {"phoenix_provider": "docker", "phoenix_provider_settings": {}, "phoenix_provider_size": {}},
        {"phoenix_provider": "exec", "phoenix_provider_settings": {"command": ["own"], "zone": "a"}},
    ):
        hosts["app1"] |= PROVIDED | change
        assert errors(hosts, GROUPS, PROVIDER_SPECS) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phoenix_provider": "aws"}, "phoenix_provider: 'aws' is not known; use docker, libvirt or exec"),
        ({"ansible_host": "app1.example.org"}, "ansible_host: 'app1.example.org' is no IP address"),
        ({"ansible_user": None}, "ansible_user: None; name the user"),
        ({"phoenix_provider_image": ""}, "phoenix_provider_image: empty"),
        ({"phoenix_provider_authorized_keys": []}, "phoenix_provider_authorized_keys: []; give the public keys"),
        ({"phoenix_provider_fleet": "2001:db8::1"}, "phoenix_provider_fleet: '2001:db8::1' can't be a tag"),
        ({"phoenix_provider_settings": {}}, "phoenix_provider_settings: gateway is missing"),
        ({"phoenix_provider_settings": {"gateway": "192.0.2.300"}}, "gateway = '192.0.2.300' is no address"),
        ({"phoenix_provider_settings": {"gateway": "192.0.2.1/24", "colour": "red"}}, "libvirt has no colour; use uri"),
        ({"phoenix_provider_size": {"cpus": "two"}}, "size has {'cpus': 'two'}"),
        ({"phoenix_provider": "docker"}, "docker has no gateway; use max_hosts"),
        ({"phoenix_provider": "exec"}, "phoenix_provider_settings: command is None"),
    ],
    ids=str,
)
def test_a_host_that_its_provider_can_not_make(hosts: Hosts, change: dict[str, Any], message: str) -> None:
    hosts["app1"] |= PROVIDED | change
    found = errors(hosts, GROUPS, PROVIDER_SPECS)
    assert any(message in error and error.endswith("[app1]") for error in found), found


def test_a_host_whose_name_can_not_be_a_hosts(hosts: Hosts) -> None:
    hosts["app_1"] = hosts.pop("app1") | PROVIDED
    groups = {**GROUPS, "app": ["app_1"]}
    assert any("becomes its own" in error for error in errors(hosts, groups, PROVIDER_SPECS))


DEMAND = {
    "demand_command": ["phoenixctl", "provider", "serve", "libvirt"],
    "demand_addresses": ["192.0.2.61"],
    "demand_settings": {"gateway": "192.0.2.1/24"},
    "demand_size": {},
    "demand_network": "",
    "demand_image": "prepared",
    "demand_fleet": "www.example.org.demand",
    "demand_user": "debian",
    "demand_authorized_keys": [],
    "demand_prefix": "extra",
    "demand_balancers": ["lb1"],
    "demand_reference": "app1",
    "demand_room": "12",
    "demand_instances_per_host": 4,
    "demand_creations_per_hour": 10,
    "demand_boot_seconds": 300,
    "demand_idle_seconds": "600",
}
DEMAND_SPECS = {**SPECS, "demand": known_variables(TOP / "roles")["demand"]}


def test_hosts_that_can_be_made_on_demand(hosts: Hosts) -> None:
    hosts["control1"] |= DEMAND
    assert errors(hosts, GROUPS, DEMAND_SPECS) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"demand_image": ""}, "demand_image: empty; name the image"),
        ({"demand_addresses": ["app9"]}, "demand_addresses: 'app9' is no IP address"),
        ({"demand_boot_seconds": "soon"}, "invalid literal"),
        ({"demand_addresses": ["192.0.2.21"]}, "demand_addresses: 192.0.2.21 is this host's; reserve another"),
    ],
    ids=str,
)
def test_hosts_that_can_not_be_made_on_demand(hosts: Hosts, change: dict[str, Any], message: str) -> None:
    hosts["app1"] |= {"phoenix_address": "192.0.2.21"}
    hosts["control1"] |= DEMAND | change
    assert any(message in error for error in errors(hosts, GROUPS, DEMAND_SPECS))


@pytest.mark.parametrize(("port", "demand", "good"), [(22, True, True), (2222, True, False), (2222, False, True)])
def test_control_reaches_hosts_on_demand_at_the_usual_port(hosts: Hosts, port: int, demand: bool, good: bool) -> None:
    hosts["app1"] |= {"firewall_ssh_port": port}
    hosts["control1"] |= DEMAND if demand else {}
    specs = {**DEMAND_SPECS, "firewall": {"firewall_ssh_port": {"type": "int", "default": 22}}}
    found = errors(hosts, GROUPS, specs)
    assert [message.partition(",")[0] for message in found] == ([] if good else ["firewall_ssh_port: 2222"])
