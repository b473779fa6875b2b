"""The shim: names, order of arguments, and errors as Ansible's own."""

from types import ModuleType

import pytest
from ansible.errors import AnsibleFilterError

HOSTVARS = {name: {"phoenix_address": f"192.0.2.{n}"} for n, name in enumerate(("a", "b", "c"), start=1)}


def test_place(plugin: ModuleType) -> None:
    assert plugin.FilterModule().filters()["phoenix_place"](2, ["a", "b"], []) == {"a": [3000], "b": [3000]}


def test_errors_are_ansibles(plugin: ModuleType) -> None:
    with pytest.raises(AnsibleFilterError, match="capacity is 0"):
        plugin.FilterModule().filters()["phoenix_place"](0, ["a"], [])


def test_uri_takes_the_password_first(plugin: ModuleType) -> None:
    made = plugin.FilterModule().filters()["mongodb_uri"]("p/", "user", [{"address": "192.0.2.1"}], 27017, "d", "rs")
    assert made == "mongodb://user:p%2F@192.0.2.1:27017/d?replicaSet=rs&authSource=admin"  # pragma: allowlist secret


def test_members_with_an_ipv6_address_have_names(plugin: ModuleType) -> None:
    filters = plugin.FilterModule().filters()
    hostvars = {"DB1": {"phoenix_address": "2001:db8::1", "phoenix_database_domain": "x.internal"}}
    members = filters["phoenix_members"](["DB1"], hostvars)
    assert members == [{"host": "DB1", "address": "2001:db8::1", "name": "db1.x.internal"}]
    assert filters["phoenix_member_addresses"](members) == {"db1.x.internal": "2001:db8::1"}
    assert filters["mongodb_configured_members"](members, 27017)[0]["host"] == "db1.x.internal:27017"
    assert filters["mongodb_former_hosts"](members, 27017) == {"db1.x.internal:27017": "[2001:db8::1]:27017"}
    without = {"DB1": {**hostvars["DB1"], "phoenix_database_domain": ""}}
    for unnamed in (filters["phoenix_members"](["DB1"], without), [{"host": "a", "address": "192.0.2.1"}]):
        assert "name" not in unnamed[0]
        assert filters["phoenix_member_addresses"](unnamed) == filters["mongodb_former_hosts"](unnamed, 1) == {}


def test_wiring(plugin: ModuleType) -> None:
    filters = plugin.FilterModule().filters()
    placement = {"a": [3000, 3001], "b": [3000], "c": []}
    assert filters["phoenix_members"](["a", "b"], HOSTVARS) == [
        {"host": "a", "address": "192.0.2.1"},
        {"host": "b", "address": "192.0.2.2"},
    ]
    assert filters["phoenix_upstreams"](["a", "b", "c"], HOSTVARS, placement, 3900) == [
        {"name": "a", "address": "192.0.2.1", "ports": [3000, 3001], "spare_port": 3900},
        {"name": "b", "address": "192.0.2.2", "ports": [3000], "spare_port": 3900},
    ]
    assert filters["phoenix_isolated"](["a", "c"], HOSTVARS, placement, [3950]) == [
        {"address": "192.0.2.1", "port": 3950}
    ]
