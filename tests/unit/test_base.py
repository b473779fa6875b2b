"""The role `base`: its kernel settings, and its timer of log rotation, to which the role `nginx` adds."""

from tests.unit.shared import TOP, read_yaml, rendered


def test_network_settings_name_every_interface() -> None:
    """The kernel takes a redirect where one of `all` and the interface allows it, and IPv6 asks the interface alone."""
    settings = read_yaml(TOP / "roles/base/defaults/main.yml")["base_sysctl"]
    names = [name for name in settings if ".conf." in name]
    assert names
    assert [name for name in names if name.split(".")[3] != "*"] == []


def test_the_timer_compares_sizes_every_minute_beside_the_times_of_the_role_base() -> None:
    """systemd reads drop-ins by their names, and that of the role base takes back whatever was set before."""
    name = "zz-phoenix-nginx.conf"
    configure = (TOP / "roles/nginx/tasks/configure.yml").read_text(encoding="utf-8")
    base = (TOP / "roles/base/vars/main.yml").read_text(encoding="utf-8")
    assert f"/etc/systemd/system/logrotate.timer.d/{name}\n" in configure
    assert "/etc/systemd/system/logrotate.timer.d/phoenix.conf\n" in base and name > "phoenix.conf"
    first, second = (
        [line for line in rendered(TOP / f"roles/{role}/templates/logrotate.timer.conf.j2").splitlines() if "=" in line]
        for role in ("base", "nginx")
    )
    assert first[:2] == ["OnCalendar=", "OnCalendar=hourly"]
    assert second == ["OnCalendar=minutely", "AccuracySec=1s", "RandomizedDelaySec=0"]
