"""Fixtures of the unit tests."""

import gc
import os
from types import ModuleType

import pytest
from ansible.plugins.loader import filter_loader, init_plugin_loader
from hypothesis import settings

from tests.unit.plugins import loaded
from tests.unit.shared import TOP

# Nothing depends on how fast or busy the machine is. The examples are the same in every run, so that a failure is that
# of a change; HYPOTHESIS_PROFILE=explore draws others.
settings.register_profile("repeat", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


# Until the tests are collected nearly everything stays. The process that the workers report to collects none.
if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()


def pytest_collection_finish() -> None:
    """Let each collection of garbage leave out what stays to the end anyway: Ansible, and some thousand tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def plugin() -> ModuleType:
    """filter_plugins/phoenix.py, loaded by its path as Ansible loads it."""
    return loaded("filter_plugins", "phoenix")


@pytest.fixture(scope="session")
def ansible_plugins() -> None:
    """Ansible's own plugins and the repository's filters, for templates that are rendered here."""
    init_plugin_loader()
    filter_loader.add_directory(str(TOP / "filter_plugins"))
