"""The virtual machine of `make vm-test`, which runs these tests on it."""

import pytest
import testinfra
from testinfra.host import Host

from lab import vm


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The converged machine, as root, by one connection: emulated, each takes it seconds."""
    seen = vm.the_machine()
    connection = tmp_path_factory.mktemp("ssh") / "master"
    return testinfra.get_host(
        f"ssh://{seen.host.name}", ssh_config=str(seen.ssh_config), controlpath=str(connection), timeout=60, sudo=True
    )
