"""The promises of the role `jenkins`, checked on the host: with the stand-ins, or with the real archives."""

import re

from testinfra.host import Host

from tests.harness.hosts import remote


def status(host: Host, path: str) -> str:
    answer = str(host.check_output(remote("fetch", f"http://127.0.0.1:8080{path}")))
    return answer.splitlines()[0].removeprefix("status ")


def test_serves_and_shows_nothing_without_a_login(host: Host) -> None:
    assert host.service("jenkins").is_running
    assert host.service("jenkins").is_enabled
    assert status(host, "/jenkins/login") == "200"
    assert status(host, "/jenkins/api/json") == "403"


def test_runs_unprivileged_and_sandboxed(host: Host) -> None:
    pid = host.check_output("systemctl show -p MainPID --value jenkins")
    assert host.check_output(f"ps -o user= -p {pid}").strip() == "jenkins"
    report = host.check_output("systemd-analyze security jenkins --no-pager | tail -1")
    exposure = re.search(r"([\d.]+) \w+", report.split(":")[1])
    assert exposure and float(exposure[1]) <= 2.5, report


def test_secrets_are_readable_by_no_other_user(host: Host) -> None:
    with host.sudo():
        for path in ("/etc/jenkins/secrets/admin-password", "/etc/jenkins/secrets/agent-key"):
            file = host.file(path)
            assert (file.user, file.mode) == ("root", 0o600), path
        pid = host.check_output("systemctl show -p MainPID --value jenkins")
        seen = host.check_output(f"cat /proc/{pid}/cmdline /proc/{pid}/environ | tr '\\0' ' '")
        assert "password of the scenario" not in seen
        seen = host.check_output("cat /etc/jenkins/jenkins.yaml; journalctl -u jenkins")
        assert "password of the scenario" not in seen


def test_exactly_the_pinned_plugins(host: Host) -> None:
    with host.sudo():
        host.check_output("touch /var/lib/jenkins/plugins/by-hand.jpi")
        host.check_output("systemctl restart jenkins")
        assert not host.file("/var/lib/jenkins/plugins/by-hand.jpi").exists
        assert host.file("/var/lib/jenkins/plugins/configuration-as-code.jpi").exists


def test_home_is_packed_without_what_can_be_rebuilt(host: Host) -> None:
    with host.sudo():
        host.check_output("systemctl start phoenix-jenkins-backup")
        (path,) = host.check_output("ls /var/backups/jenkins/*.tar.gz").splitlines()
        assert host.file(path).mode == 0o600
        names = host.check_output(f"tar -tzf {path}")
        assert "jenkins/plugins" not in names
        assert names.startswith("jenkins/")
    assert host.service("phoenix-jenkins-backup.timer").is_enabled
