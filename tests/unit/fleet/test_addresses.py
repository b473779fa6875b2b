"""The addresses by which hosts reach each other, compared within the inventory and with the hosts' own."""

import pytest

from phoenix.fleet import addresses

FACTS = {"all_ipv4_addresses": ["10.0.0.5"], "all_ipv6_addresses": ["fe80::1", "2001:db8::5"]}


def test_sound_addresses() -> None:
    assert not list(addresses.own_errors({"a": "192.0.2.1", "b": "192.0.2.2"}))
    assert not list(addresses.own_errors({"a": "2001:db8::1", "b": "2001:db8::2"}))
    assert not list(addresses.own_errors({"vm": "127.0.0.1"}))


@pytest.mark.parametrize(
    ("own", "host", "message"),
    [
        ({"a": "db1.example.org"}, "a", "'db1.example.org' is no address"),
        ({"a": "2001:DB8:0::1"}, "a", "write 2001:db8::1"),
        ({"a": "192.0.2.1", "b": "127.0.0.1"}, "b", "no address by which other hosts"),
        ({"a": "192.0.2.1", "b": "192.0.2.1"}, "", "that of a and of b"),
        ({"a": "192.0.2.1", "b": "2001:db8::1"}, "", "192.0.2.1 on a and 2001:db8::1 on b; hosts reach each other"),
    ],
)
def test_what_hosts_could_not_reach_each_other_by(own: dict[str, str], host: str, message: str) -> None:
    ((where, said),) = addresses.own_errors(own)
    assert where == host
    assert message in said


@pytest.mark.parametrize("address", ["10.0.0.5", "2001:db8::5", "2001:db8:0::5", "127.0.0.1"])
def test_a_host_has_its_address(address: str) -> None:
    assert addresses.misplaced(address, FACTS) == ""


def test_a_public_address_that_is_translated_on_the_way() -> None:
    said = addresses.misplaced("203.0.113.5", FACTS)
    assert "203.0.113.5 is on no interface of this host, which has 10.0.0.5, 2001:db8::5;" in said
