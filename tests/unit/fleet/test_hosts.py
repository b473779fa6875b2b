"""What roles read out of a host's facts."""

from typing import Any

import pytest

from phoenix.fleet import hosts


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


def test_only_a_dry_run_may_lack_the_bindings_of_apt() -> None:
    bare = {"failed": True, "msg": "python3-apt must be installed to use check mode."}
    assert not hosts.apt_failed(bare, check_mode=True)
    assert hosts.apt_failed(bare, check_mode=False)
    assert hosts.apt_failed({"failed": True, "msg": "No package matching 'x' is available"}, check_mode=True)
    assert not hosts.apt_failed({"changed": True}, check_mode=False)
