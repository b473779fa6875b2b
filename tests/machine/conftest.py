"""The virtual machine of `make vm-test`, which runs these tests on it."""

import pytest
import testinfra
from testinfra.host import Host

from lab import vm


@pytest.fixture(scope="session")
def machine() -> Host:
    """The converged machine, as root."""
    seen = vm.the_machine()
    return testinfra.get_host(f"ssh://{seen.host.name}", ssh_config=str(seen.ssh_config), sudo=True)
