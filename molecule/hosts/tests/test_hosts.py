"""The promises of the roles `base`, `hardening` and `firewall`, checked on the hosts themselves."""

import time

import pytest
from testinfra.host import Host

from tests.harness import programs
from tests.harness.hosts import remote

OWN_FILES = {
    "/etc/ssh/sshd_config.d/10-phoenix.conf": 0o644,
    "/etc/systemd/journald.conf.d/60-phoenix.conf": 0o644,
    "/etc/sysctl.d/99-zz-phoenix.conf": 0o644,
    "/etc/systemd/system.conf.d/60-phoenix.conf": 0o644,
    "/etc/security/limits.d/60-phoenix.conf": 0o644,
    "/etc/apt/apt.conf.d/60phoenix-upgrades": 0o644,
    "/etc/sudoers.d/60-phoenix": 0o440,
    "/etc/ssh/sshd_config.d/20-phoenix-hardening.conf": 0o644,
    "/etc/sysctl.d/99-zy-phoenix-hardening.conf": 0o644,
    "/etc/modprobe.d/60-phoenix-hardening.conf": 0o644,
    "/etc/tmpfiles.d/phoenix-hardening.conf": 0o644,
    "/etc/profile.d/zz-phoenix-hardening.sh": 0o644,
    "/etc/security/limits.d/60-phoenix-hardening.conf": 0o644,
    "/etc/systemd/system.conf.d/60-phoenix-hardening.conf": 0o644,
    "/etc/systemd/coredump.conf.d/60-phoenix-hardening.conf": 0o644,
}


@pytest.mark.parametrize(("path", "mode"), OWN_FILES.items())
def test_files_are_managed_and_owned_by_root(host: Host, path: str, mode: int) -> None:
    with host.sudo():
        file = host.file(path)
        assert file.contains("Ansible managed")
        assert (file.user, file.group, file.mode) == ("root", "root", mode)


def test_sshd_takes_keys_only(host: Host) -> None:
    seen = host.check_output("sshd -T").splitlines()
    for line in ("passwordauthentication no", "permitrootlogin no", "pubkeyauthentication yes", "maxauthtries 6"):
        assert line in seen
    assert host.service("ssh").is_running


def test_user_logs_in_by_key_and_may_sudo(host: Host) -> None:
    assert host.file("/home/ada/.ssh/authorized_keys").contains("ada")
    assert host.check_output("su -s /bin/sh ada -c 'sudo -n id -u'") == "0"


def test_sshd_is_hardened_and_still_takes_ansibles_sessions(host: Host) -> None:
    seen = host.check_output("sshd -T").splitlines()
    for line in ("loglevel VERBOSE", "compression no", "tcpkeepalive no", "allowtcpforwarding local", "maxsessions 10"):
        assert line in seen


def test_what_root_creates_by_sudo_is_readable_whatever_the_umask_before(host: Host) -> None:
    assert host.check_output("su -s /bin/sh ada -c 'umask 077; sudo -n sh -c umask'") == "0022"


def test_new_files_of_shells_are_their_owners_and_those_of_scripts_as_before(host: Host) -> None:
    assert host.check_output("su ada -c 'bash -lic umask' 2>/dev/null") == "0027"
    # 0022, and 0002 on Debian 13.
    assert host.check_output("su ada -c 'bash -lc umask'") == host.check_output("su ada -c 'sh -c umask'")


def test_other_accounts_do_not_read_what_is_roots(host: Host) -> None:
    for path, mode in {"/etc/ssh/sshd_config": 0o600, "/etc/sudoers.d": 0o750, "/etc/cron.daily": 0o700}.items():
        assert host.file(path).mode == mode


def test_journal_is_persistent(host: Host) -> None:
    assert host.file("/var/log/journal").is_directory
    assert "/var/log/journal" in host.check_output("journalctl --header | grep -m1 'File path'")
    assert "SystemMaxUse=64M" in host.check_output("systemd-analyze cat-config systemd/journald.conf")


def test_security_updates_alone_and_daily(host: Host) -> None:
    assert host.service("apt-daily-upgrade.timer").is_enabled
    seen = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1"' in seen
    origins = [line for line in seen.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    assert len(origins) == 1
    assert "Debian-Security" in origins[0]


def test_kernel_settings_are_read_last(host: Host) -> None:
    """Or else another file of the distribution has the last word at boot."""
    read = [
        line for line in host.check_output("systemd-analyze cat-config sysctl.d").splitlines() if line.startswith("# /")
    ]
    assert read[-1] == "# /etc/sysctl.d/99-zz-phoenix.conf"


def test_open_files(host: Host) -> None:
    assert host.check_output("systemctl show -p DefaultLimitNOFILE --value") != "1024"


def test_rules_are_loaded_confirmed_and_come_back_at_boot(host: Host) -> None:
    rules = host.check_output("nft list table inet phoenix")
    assert "policy drop" in rules
    assert "ip saddr 192.0.2.0/24 tcp dport 22 accept" in rules
    assert "ip6 saddr 2001:db8::41 tcp dport 22 accept" in rules
    assert "ip saddr 198.51.100.0/24 tcp dport 3000-3009 accept" in rules
    assert "9999" not in rules
    assert not host.file("/etc/phoenix/firewall.nft.new").exists
    assert host.run("systemctl is-active phoenix-firewall-rollback.timer").rc != 0
    assert host.service("phoenix-firewall").is_enabled
    assert host.run("systemctl restart phoenix-firewall").rc == 0, host.check_output(
        "journalctl -u phoenix-firewall -n 20"
    )
    assert host.check_output("nft list table inet phoenix") == rules


def test_unconfirmed_rules_are_taken_back(host: Host) -> None:
    rules = host.check_output("nft list table inet phoenix")
    host.check_output("sed 's/dport { 22 }/dport { 2222 }/' /etc/phoenix/firewall.nft > /etc/phoenix/firewall.nft.new")
    host.check_output(f"{programs.FIREWALL_TRY} 3")
    assert "dport 2222" in host.check_output("nft list table inet phoenix")
    end = time.monotonic() + 20
    while host.file("/etc/phoenix/firewall.nft.new").exists and time.monotonic() < end:
        time.sleep(0.5)
    assert host.check_output("nft list table inet phoenix") == rules
    # Too late to keep them.
    assert host.run(programs.FIREWALL_CONFIRM).rc != 0


def test_other_tables_stay(host: Host) -> None:
    host.check_output("nft add table inet other")
    host.check_output("systemctl restart phoenix-firewall")
    assert "other" in host.check_output("nft list tables")
    host.check_output("nft delete table inet other")


def test_one_address_opens_only_so_many_connections(host: Host) -> None:
    """From a host of its own, a network namespace; others are not affected."""

    def passed(source: str, count: int) -> int:
        runner = "ip netns exec client python3"
        return int(host.check_output(remote("openings", source, "192.0.2.193", 80, count, runner=runner)))

    host.check_output(
        "ip netns add client && ip link add outside type veth peer name inside netns client"
        " && ip address add 192.0.2.193/28 dev outside && ip link set outside up"
        " && ip -n client address add 192.0.2.194/28 dev inside && ip -n client address add 192.0.2.195/28 dev inside"
        " && ip -n client link set inside up"
    )
    try:
        first = passed("192.0.2.194", 60)
        assert 25 <= first < 60, "the burst, and what the rate let in meanwhile"
        assert passed("192.0.2.195", 1) == 1
    finally:
        host.check_output(f"ip netns delete client && {programs.FIREWALL_LOAD}")
