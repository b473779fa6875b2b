"""A real nginx with the role's own configuration, for these tests."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader

from tests.harness import debian
from tests.harness.real_nginx import Instances, Site, Sites
from tests.unit.shared import inputs


@pytest.fixture(scope="session")
def nginx_program() -> str:
    return debian.program("nginx", "usr/sbin/nginx")


@pytest.fixture(scope="session")
def instances() -> Iterator[Instances]:
    started = Instances()
    started.start(*started.ordinary, started.spare)
    yield started
    started.stop(*started.processes)


@pytest.fixture(scope="session", autouse=True)
def plugins() -> None:
    """Ansible's own plugins, for the templates."""
    init_plugin_loader()


@pytest.fixture(scope="module")
def sites(nginx_program: str, instances: Instances, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Start an nginx with these settings; it ends with the module."""
    started: list[Site] = []

    def start(at: str = "", **settings: Any) -> Site:
        unknown = settings.keys() - inputs("nginx").keys()
        assert not unknown, unknown
        site = Site(nginx_program, tmp_path_factory.mktemp("nginx"), instances, at, **settings)
        started.append(site)
        site.start()
        return site

    yield start
    for site in started:
        site.stop()


@pytest.fixture
def mark() -> str:
    """By which a test knows its own requests among those that the instances and the log have."""
    return token_hex(4)


@pytest.fixture(scope="module")
def site(sites: Sites) -> Site:
    """The defaults."""
    return sites()
