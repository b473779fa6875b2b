"""Fixtures of the unit tests."""

from types import ModuleType

import pytest

from tests.unit.shared import load_program


@pytest.fixture(scope="session")
def plugin() -> ModuleType:
    """filter_plugins/phoenix.py, loaded by its path as Ansible loads it."""
    return load_program("filter_plugins/phoenix.py")
