"""Floating addresses: which inventories can have them, where each is meant to be, and what is wrong on the hosts."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import floating

PAIR = {"lb1": ["192.0.2.11"], "lb2": ["192.0.2.12"]}
BOTH = {"lb1": ["192.0.2.11", "2001:db8::1"], "lb2": ["192.0.2.12", "2001:db8::2"]}
OTHERS = {"192.0.2.21": "app1"}


def test_a_sound_pair() -> None:
    assert list(floating.errors([], {"lb1": ["192.0.2.11"]}, OTHERS)) == []
    assert list(floating.errors(["192.0.2.10"], PAIR, OTHERS)) == []
    assert list(floating.errors(["192.0.2.10", "192.0.2.9"], PAIR, OTHERS)) == []
    assert list(floating.errors(["2001:db8::9"], {"lb1": ["2001:db8::1"], "lb2": ["2001:db8::2"]}, OTHERS)) == []
    assert list(floating.errors(["192.0.2.10", "2001:db8::9"], BOTH, OTHERS)) == []


@pytest.mark.parametrize(
    ("addresses", "balancers", "message"),
    [
        (["192.0.2.10"], {"lb1": ["192.0.2.11"]}, "the group lb has lb1; add a second load balancer"),
        (["192.0.2.10", "192.0.2.9", "192.0.2.8"], PAIR, "give one address, or 2 different ones"),
        (["192.0.2.10", "192.0.2.10"], PAIR, "give one address, or 2 different ones"),
        (["192.0.2.10/24"], PAIR, "'192.0.2.10/24' is not an address"),
        (["192.0.2.12"], PAIR, "192.0.2.12 is the own address of lb2"),
        (["192.0.2.21"], PAIR, "192.0.2.21 is the own address of app1"),
        (["2001:db8::9"], PAIR, "2001:db8::9 is IPv6, but lb1 has 192.0.2.11"),
        (["2001:db8::2"], BOTH, "2001:db8::2 is the own address of lb2"),
        (["192.0.2.10", "2001:db8::9"], {**BOTH, "lb2": ["192.0.2.12"]}, "2001:db8::9 is IPv6, but lb2 has 192.0.2.12"),
    ],
)
def test_what_is_refused(addresses: list[str], balancers: dict[str, list[str]], message: str) -> None:
    assert any(message in error for error in floating.errors(addresses, balancers, OTHERS))


def test_two_addresses_are_at_home_on_a_balancer_each() -> None:
    addresses = ["192.0.2.10", "192.0.2.9"]
    assert list(floating.homes(addresses, ["lb1", "lb2"]).values()) == ["lb1", "lb2"]
    assert list(floating.homes(addresses, ["lb1", "lb2"], "lb2").values()) == ["lb2", "lb2"]
    # VRRP's priorities agree with that: of the balancers, the one at home has the greatest.
    for balancers in (2, 3):
        given = [floating.priorities(2, order, balancers) for order in range(balancers)]
        assert [max(range(balancers), key=lambda order: given[order][n]) for n in range(2)] == [0, 1]
        assert all(len({given[order][n] for order in range(balancers)}) == balancers for n in range(2))


FACTS: dict[str, Any] = {
    "interfaces": ["lo", "br-0", "eth0"],
    "lo": {"device": "lo", "ipv4": {"address": "127.0.0.1", "prefix": "8"}},
    "br_0": {"device": "br-0", "ipv4": {"address": "198.51.100.1", "netmask": "255.255.255.0"}},
    "eth0": {
        "device": "eth0",
        "ipv4": {"address": "192.0.2.11", "prefix": "24"},
        "ipv4_secondaries": [{"address": "203.0.113.7", "netmask": "255.255.255.128"}],
        "ipv6": [{"address": "2001:db8::1", "prefix": "64"}],
    },
}


@pytest.mark.parametrize(
    ("address", "name", "network"),
    [
        ("192.0.2.11", "eth0", "192.0.2.0/24"),
        ("203.0.113.7", "eth0", "203.0.113.0/25"),
        ("2001:db8::1", "eth0", "2001:db8::/64"),
        ("198.51.100.1", "br-0", "198.51.100.0/24"),
    ],
)
def test_the_interface_of_an_address(address: str, name: str, network: str) -> None:
    assert floating.interface(FACTS, address) == {"name": name, "network": network}


def test_an_address_of_no_interface() -> None:
    assert floating.interface(FACTS, "192.0.2.99") == {}


def test_addresses_that_no_host_of_the_network_can_have() -> None:
    asked = ["192.0.2.10", "192.0.2.0", "192.0.2.255", "198.51.100.1", "2001:db8::9", "2001:db8::", "2001:db8:1::9"]
    kept = floating.places(asked, FACTS, ["192.0.2.11", "2001:db8::1"], [], 0)
    assert floating.outside(kept) == [*asked[1:4], *asked[5:]]


def test_each_address_is_kept_by_the_balancers_own_addresses_of_its_kind() -> None:
    """The fleet's own network, in which the balancers reach the other hosts, may be another one."""
    peers = ["203.0.113.8", "2001:db8::2"]
    first, second = floating.places(["2001:db8::9", "203.0.113.9"], FACTS, ["203.0.113.7", "2001:db8::1"], peers, 1)
    assert first == {
        "address": "2001:db8::9", "own": "2001:db8::1", "peers": ["2001:db8::2"], "interface": "eth0",
        "network": "2001:db8::/64", "priority": 240,
    }  # fmt: skip
    assert (second["own"], second["peers"], second["priority"]) == ("203.0.113.7", ["203.0.113.8"], 250)
    (nowhere,) = floating.places(["2001:db8::9"], FACTS, ["203.0.113.7"], peers, 0)
    assert (nowhere["own"], nowhere["interface"], nowhere["network"]) == ("", "", "")


def test_one_holder_is_right() -> None:
    assert floating.holder_error({}) == ""
    assert floating.holder_error({"192.0.2.10": ["lb2"]}) == ""
    assert "192.0.2.10 is on none" in floating.holder_error({"192.0.2.10": []})
    assert "192.0.2.10 is on lb1 and lb2" in floating.holder_error({"192.0.2.10": ["lb1", "lb2"]})


def test_where_addresses_may_be_moved() -> None:
    wanted = {"192.0.2.10": "lb2"}
    here = {"held": {"192.0.2.10": True}, "obstacle": ""}
    idle = {"held": {"192.0.2.10": False}, "obstacle": ""}
    assert floating.refusal(wanted, {"lb1": here, "lb2": idle}) == ""
    # The one that is left may be in any state.
    assert floating.refusal(wanted, {"lb2": idle}) == ""
    assert "lb2 does not answer" in floating.refusal(wanted, {"lb1": here, "lb2": {}})
    assert "nginx" in floating.refusal(wanted, {"lb1": here, "lb2": {**idle, "obstacle": "nginx does not answer"}})


def test_who_stays_away_until_an_address_has_moved() -> None:
    seen = {
        "lb1": {"held": {"a": True, "b": False}, "obstacle": ""},
        "lb2": {"held": {"a": False, "b": True}, "obstacle": ""},
        "lb3": {"held": {"a": False, "b": False}, "obstacle": ""},
    }
    wanted = {"a": "lb2", "b": "lb2"}
    assert [floating.leaving(wanted, host, seen) for host in seen] == [["a"], [], ["a"]]
    assert floating.leaving({"a": "lb1", "b": "lb2"}, "lb2", seen) == []


LB1 = {"obstacle": "", "held": {"192.0.2.10": True}}
LB2 = {"obstacle": "", "held": {"192.0.2.10": False}}
DEAD = {"obstacle": "nginx does not answer", "held": {}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"lb1": LB1, "lb2": LB2}, {"from": "lb1", "to": "lb2"}),
        ({"lb1": LB2, "lb2": LB1}, {"from": "lb2", "to": "lb1"}),
        ({"lb1": LB1, "lb2": DEAD}, {"from": "lb1", "to": ""}),
        ({"lb1": LB1, "lb2": {}}, {"from": "lb1", "to": ""}),
        ({"lb1": LB1, "lb2": {**LB1, "held": {"192.0.2.9": True}}}, {"from": "", "to": "lb2"}),
    ],
)
def test_a_failover_goes_to_another_one_and_back(seen: dict[str, Any], expected: dict[str, str]) -> None:
    assert floating.failover(["lb1", "lb2"], seen) == expected
