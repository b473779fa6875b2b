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
