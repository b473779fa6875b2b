"""What roles read out of a host's facts."""

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from phoenix.fleet import hosts
from tests.unit.shared import TOP, inputs, read_yaml, trusted


@pytest.mark.parametrize(
    ("facts", "container"),
    [
        ({"virtualization_type": "docker", "virtualization_role": "guest"}, True),
        ({"virtualization_type": "podman"}, True),
        ({"virtualization_type": "kvm"}, False),
        ({}, False),
    ],
)
def test_a_container_shares_the_kernel_below(facts: dict[str, Any], container: bool) -> None:
    assert hosts.in_container(facts) is container


@pytest.mark.parametrize(("major", "package"), [("11", "libcurl4"), ("12", "libcurl4"), ("13", "libcurl4t64")])
def test_libcurl_has_another_name_from_debian_13_on(major: str, package: str) -> None:
    assert hosts.libcurl({"distribution_major_version": major}) == package


@pytest.mark.parametrize("major", ["12", "13"])
@pytest.mark.parametrize("variable", ["jenkins_java_package", "ci_java_package"])
@pytest.mark.usefixtures("ansible_plugins")
def test_java_is_the_one_that_the_distribution_has(variable: str, major: str) -> None:
    """Debian 12 has no 21, and Debian 13 no 17."""
    variables = inputs(variable.split("_", 1)[0])
    variables["ansible_facts"] = {"distribution_major_version": major}
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    package = {"12": "openjdk-17-jre-headless", "13": "openjdk-21-jre-headless"}[major]
    assert templar.template(trusted(variables[variable])) == package
    assert hosts.java(variables["ansible_facts"]) == package


def test_an_agent_is_set_up_in_plays_without_facts() -> None:
    """The rotation of its key gathers none, and what the role's inputs default to is checked before its first task."""
    assert hosts.java({}) == hosts.java({"distribution_major_version": "12"})
    facts, install = read_yaml(TOP / "roles/ci/tasks/agent.yml")[:2]
    assert "ansible.builtin.setup" in facts and "packages" in install


def test_a_site_without_names_is_served_under_all_of_the_load_balancers() -> None:
    """An address as it is in a URL; link-local ones are not, and a floating one is named once."""
    facts = {
        "hostname": "lb1",
        "fqdn": "lb1",
        "all_ipv4_addresses": ["192.0.2.10", "192.0.2.100"],
        "all_ipv6_addresses": ["fe80::1", "2001:db8::10", "2001:db8::9"],
    }
    floating = ["192.0.2.100", "2001:db8::9"]
    own = ["lb1", "localhost", "127.0.0.1", "192.0.2.10"]
    assert hosts.site_names(facts, floating, ipv6=True) == [*own, "[2001:db8::10]", "192.0.2.100", "[2001:db8::9]"]
    assert hosts.site_names(facts, floating[:1], ipv6=False) == [*own, "192.0.2.100"]
