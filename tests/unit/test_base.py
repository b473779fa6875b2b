"""The role `base`: its kernel settings."""

from tests.unit.shared import TOP, read_yaml


def test_network_settings_name_every_interface() -> None:
    """The kernel takes a redirect where one of `all` and the interface allows it, and IPv6 asks the interface alone."""
    settings = read_yaml(TOP / "roles/base/defaults/main.yml")["base_sysctl"]
    names = [name for name in settings if ".conf." in name]
    assert names
    assert [name for name in names if name.split(".")[3] != "*"] == []
