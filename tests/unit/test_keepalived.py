"""keepalived's configuration, and that of the units from which it learns of nginx, as the role renders them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import TOP, inputs, read_yaml, rendered, trusted

pytestmark = pytest.mark.usefixtures("ansible_plugins")
TEMPLATES = TOP / "roles/keepalived/templates"
PAIR = {"keepalived_floating_addresses": ["192.0.2.100", "192.0.2.101"]}


def configuration(**own: Any) -> str:
    return rendered(TEMPLATES / "keepalived.conf.j2", own)


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^\s*{name} (.*)$", text, re.MULTILINE)


def test_no_check_has_a_weight_of_its_own() -> None:
    """keepalived's default is 1, with which a stopped nginx would only change the priority."""
    text = configuration(**PAIR)
    assert values(text, "weight") == ["0"] * text.count("track_file nginx {") + ["0"] * len(
        re.findall(r"^track_file away", text, re.MULTILINE)
    )
    assert text.count("    nopreempt\n") == text.count("vrrp_instance ") == 2


def test_each_address_has_a_router_of_its_own() -> None:
    text = configuration(**PAIR)
    assert values(text, "virtual_router_id") == ["51", "52"]
    assert values(text, "priority") == ["250", "240"]
    assert "192.0.2.100/32 dev eth0" in text and "192.0.2.101/32 dev eth0" in text


def test_an_ipv6_address() -> None:
    text = configuration(
        keepalived_floating_addresses=["2001:db8::9"],
        keepalived_address="2001:db8::10",
        keepalived_peers=["2001:db8::12"],
    )
    assert "2001:db8::9/128 dev eth0" in text and "\n        2001:db8::12 min_ttl" in text


def test_addresses_of_both_kinds_each_with_its_own_way_between_the_balancers() -> None:
    own = {
        "keepalived_floating_addresses": ["192.0.2.100", "2001:db8::9"],
        "keepalived_other_address": "2001:db8::10",
        "keepalived_peers": ["192.0.2.12", "2001:db8::12"],
    }
    _, first, second = configuration(**own).split("vrrp_instance ")
    assert values(first, "unicast_src_ip") == ["192.0.2.10"] and "192.0.2.100/32 dev eth0" in first
    assert values(second, "unicast_src_ip") == ["2001:db8::10"] and "2001:db8::9/128 dev eth0" in second
    assert "2001:db8::12" not in first and "192.0.2.12" not in second
    assert values(first, "priority") + values(second, "priority") == ["250", "240"]
    removed = rendered(TEMPLATES / "keepalived.service.d.conf.j2", own)
    assert "delete 192.0.2.100/32 dev eth0" in removed and "delete 2001:db8::9/128 dev eth0" in removed


def preflight(**own: Any) -> list[str]:
    """What the role's check of its inputs says of these."""
    variables = {**inputs("keepalived"), **own}
    (task, *_) = read_yaml(TOP / "roles/keepalived/tasks/preflight.yml")
    templar = Templar(loader=DataLoader(), variables=trusted({**variables, **task["vars"]}))
    return [item["message"] for item in templar.template(trusted(task["loop"])) if not item["that"]]


def test_inputs_are_checked() -> None:
    both = {"keepalived_floating_addresses": ["192.0.2.100", "2001:db8::9"], "keepalived_order": 1}
    assert preflight() == []
    peers = ["192.0.2.12", "2001:db8::12"]
    assert preflight(**both, keepalived_other_address="2001:db8::10", keepalived_peers=peers) == []
    missing, nowhere = preflight(**both, keepalived_peers=peers)
    assert "2001:db8::9 is IPv6, but this host has 192.0.2.10" in missing and "phoenix_front_addresses" in nowhere
    (alone,) = preflight(keepalived_peers=[])
    assert "add a second load balancer" in alone
    (elsewhere,) = preflight(keepalived_floating_addresses=["198.51.100.9"])
    assert "198.51.100.9 is no address for a host of 192.0.2.0/24" in elsewhere
    assert preflight(keepalived_floating_addresses=["198.51.100.9"], keepalived_notify_hook="move.sh") == []


def test_peers_are_neighbours_unless_the_network_moves_the_address() -> None:
    assert "192.0.2.12 min_ttl 255\n" in configuration()
    moved = configuration(keepalived_notify_hook="move.sh", __keepalived_hook="/x/hook")
    assert "min_ttl" not in moved and 'notify_master "/x/hook 192.0.2.100"' in moved


def test_real_time_where_it_is_allowed() -> None:
    assert "vrrp_rt_priority" in configuration()
    facts = {**inputs("keepalived")["ansible_facts"], "virtualization_type": "docker"}
    assert "vrrp_rt_priority" not in configuration(ansible_facts=facts)


def test_the_address_leaves_before_nginx_stops_and_a_failing_file_stops_nothing() -> None:
    text = rendered(TEMPLATES / "nginx-floating.conf.j2")
    _, *stops = values(text.replace("=", " "), "ExecStop")
    assert "echo 1" in stops[0] and "sleep" in stops[0] and "QUIT" in stops[1]
    commands = [line for line in text.splitlines() if line.startswith("Exec") and not line.endswith("=")]
    assert all("=-" in line for line in commands)


def test_a_generated_certificate_is_for_every_name_and_floating_address() -> None:
    variables = {
        **inputs("nginx"),
        "nginx_server_names": ["a.example", "192.0.2.11"],
        "nginx_floating_addresses": ["192.0.2.10", "2001:db8::9"],
    }

    def value(**own: Any) -> Any:
        templar = Templar(loader=DataLoader(), variables=trusted({**variables, **own}))
        return templar.template(trusted("{{ __nginx_tls_names }}"))

    assert value() == ["DNS:a.example", "IP:192.0.2.11", "IP:192.0.2.10", "IP:2001:db8::9"]
    # Without names, whichever balancer has the floating address at the moment.
    facts = variables["ansible_facts"]
    master = {**facts, "all_ipv4_addresses": [*facts["all_ipv4_addresses"], "192.0.2.10"]}
    assert value(nginx_server_names=[]) == value(nginx_server_names=[], ansible_facts=master)
    assert "IP:2001:db8::9" in value(nginx_server_names=[])
