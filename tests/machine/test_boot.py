"""After a reboot that nobody helped: what has to be there, and in which order it came."""

import pytest
from testinfra.host import Host


def began(machine: Host, unit: str) -> int:
    """When a unit was active in this boot, in microseconds after the kernel."""
    shown = machine.check_output(f"systemctl show --property=ActiveEnterTimestampMonotonic --value {unit}")
    return int(shown)


def test_the_journal_keeps_the_boot_before(machine: Host) -> None:
    assert len(machine.check_output("journalctl --list-boots --no-pager").splitlines()) >= 2


def test_the_firewall_is_loaded_before_there_is_a_network(machine: Host) -> None:
    assert 0 < began(machine, "phoenix-firewall") < began(machine, "systemd-networkd")
    assert "policy drop" in machine.check_output("nft list chain inet phoenix input")


def test_kernel_settings_come_before_the_database(machine: Host) -> None:
    assert 0 < began(machine, "mongod-host") <= began(machine, "mongod")


@pytest.mark.parametrize("unit", ["mongod.service", "nginx.service", "phoenix@*.service"])
def test_nothing_had_to_be_started_twice(machine: Host, unit: str) -> None:
    """A server that starts before what it needs, such as its address, recovers, and serves later than it could."""
    seen = machine.check_output(f"systemctl show --property=NRestarts --value '{unit}'").split()
    assert seen
    assert set(seen) == {"0"}


def test_no_unit_has_failed(machine: Host) -> None:
    assert machine.check_output("systemctl list-units --failed --plain --no-legend") == ""
