"""How hardened the machine is: by lynis, which lab.vm has run, and by what only a kernel of its own shows."""

import re

import pytest
from testinfra.host import Host

# What a well-known role for hardening brings a plain machine to (docs/hardening.md has what is left out, and why).
INDEX = 70


def test_the_index_of_lynis(machine: Host) -> None:
    report = machine.check_output("cat /var/log/lynis-report.dat")
    found = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert found, "lynis has not ended"
    left = re.findall(r"^suggestion\[\]=([^|]+)\|([^|]+)", report, re.MULTILINE)
    assert int(found[1]) >= INDEX, "\n".join(map(": ".join, left))


def test_the_audit_has_its_rules(machine: Host) -> None:
    assert machine.service("auditd").is_running
    rules = machine.check_output("auditctl -l")
    for key in ("identity", "privileges", "sshd", "time", "modules"):
        assert f"key=phoenix-{key}" in rules


@pytest.mark.parametrize("module", ["dccp", "usb-storage", "cramfs"])
def test_a_module_that_nothing_needs_is_not_loaded(machine: Host, module: str) -> None:
    assert machine.check_output(f"modprobe --dry-run --verbose {module}").split() == ["install", "/bin/false"]
