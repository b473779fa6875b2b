"""What only a machine with a kernel of its own can show: the settings of Phoenix are in force, not just written."""

import json
import re
from fnmatch import fnmatchcase

import pytest
from testinfra.host import Host

from tests.harness.hosts import remote

SERVERS = ("mongod.service", "nginx.service", "phoenix@*.service")


@pytest.fixture(scope="module")
def kernel(machine: Host) -> dict[str, str]:
    """Every kernel setting that is in force."""
    lines = machine.check_output("sysctl --all 2>/dev/null").splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(" = ") for line in lines)}


@pytest.fixture(scope="module")
def processes(machine: Host) -> dict[str, str]:
    """Unit -> main process, for the units that serve."""
    units = " ".join(f"'{unit}'" for unit in SERVERS)
    shown = machine.check_output(f"systemctl show --property=Id,MainPID {units}")
    found = re.findall(r"^(?:MainPID=(\d+)\nId=(\S+)|Id=(\S+)\nMainPID=(\d+))$", shown, re.MULTILINE)
    return {a or b: p or q for p, a, b, q in found}


def test_written_kernel_settings_are_in_force(machine: Host, kernel: dict[str, str]) -> None:
    lines = machine.check_output("cat /etc/sysctl.d/*phoenix*.conf /etc/sysctl.d/60-mongodb.conf").splitlines()
    written = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if line and line[0] not in "#;")
    assert len(written) > 10
    matched = {pattern: [name for name in kernel if fnmatchcase(name, pattern)] for pattern in written}
    assert [pattern for pattern, names in matched.items() if not names] == []
    seen = {name: (kernel[name], written[pattern]) for pattern, names in matched.items() for name in names}
    assert {name: values for name, values in seen.items() if values[0] != values[1]} == {}


@pytest.mark.parametrize("setting", ["accept_redirects", "accept_source_route", "send_redirects"])
def test_no_interface_lets_others_route(kernel: dict[str, str], setting: str) -> None:
    """The kernel takes a redirect where the interface's own setting allows it, whatever that of `all` is."""
    seen = {name: value for name, value in kernel.items() if re.fullmatch(rf"net\.ipv[46]\.conf\.\w+\.{setting}", name)}
    assert [name for name in seen if name.split(".")[3].startswith("e")]
    assert {name: value for name, value in seen.items() if value != "0"} == {}


@pytest.mark.parametrize("setting", ["enabled", "defrag"])
def test_transparent_huge_pages_are_off(machine: Host, setting: str) -> None:
    assert "[never]" in machine.check_output(f"cat /sys/kernel/mm/transparent_hugepage/{setting}")


def test_the_database_reads_little_ahead(machine: Host) -> None:
    assert machine.check_output("cat /sys/block/vda/queue/read_ahead_kb") == "16"


def test_one_hierarchy_of_cgroups(machine: Host) -> None:
    assert machine.check_output("stat --file-system --format=%T /sys/fs/cgroup") == "cgroup2fs"
    assert " cgroup " not in machine.check_output("cat /proc/mounts")


def test_no_limit_of_open_files_is_cut(machine: Host, processes: dict[str, str]) -> None:
    assert processes.keys() >= {"mongod.service", "nginx.service"}
    for unit, process in processes.items():
        wanted = machine.check_output(f"systemctl show --property=LimitNOFILE --value {unit}")
        limits = machine.check_output(f"cat /proc/{process}/limits")
        assert re.search(rf"^Max open files +{wanted} +{wanted} ", limits, re.MULTILINE), unit


def test_instances_have_users_of_their_own(machine: Host, processes: dict[str, str]) -> None:
    instances = [process for unit, process in processes.items() if unit.startswith("phoenix@")]
    assert instances
    for process in instances:
        # As the host's own: 0 0 4294967295.
        assert machine.check_output(f"cat /proc/{process}/uid_map").split()[2] != "4294967295"


def test_memory_of_instances_is_limited(machine: Host, processes: dict[str, str]) -> None:
    for unit in processes:
        if unit.startswith("phoenix@"):
            group = machine.check_output(f"systemctl show --property=ControlGroup --value {unit}")
            wanted = machine.check_output(f"systemctl show --property=MemoryMax --value {unit}")
            assert machine.check_output(f"cat /sys/fs/cgroup{group}/memory.max") == wanted != "infinity"


def test_the_clock_is_synchronized_by_its_own_daemon(machine: Host) -> None:
    assert machine.check_output("timedatectl show --property=NTP --value") == "yes"
    assert machine.service("systemd-timesyncd").is_running
    # By dbus, which has to know its account.
    assert "Server" in machine.check_output("timedatectl timesync-status")


def test_the_clock_is_monitored_as_the_kernel_has_it(machine: Host) -> None:
    """From within the sandbox Netdata shows a clock that it may not read as a synchronized one."""
    errors = machine.check_output("cat /var/log/netdata/error.log")
    assert "Cannot get clock synchronization state" not in errors
    url = "http://127.0.0.1:19999/api/v1/allmetrics?format=json"
    charts = json.loads(machine.check_output(remote("fetch", url)).partition("\n")[2])
    shown = charts["system.clock_sync_state"]["dimensions"]["state"]["value"]
    wanted = machine.check_output("timedatectl show --property=NTPSynchronized --value")
    assert shown == (wanted == "yes")


def test_security_updates_are_installed_at_night(machine: Host) -> None:
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert machine.service(timer).is_enabled
        assert machine.service(timer).is_running
    assert "Traceback" not in machine.check_output("unattended-upgrade --dry-run 2>&1")
