"""Rules for every role: defaults against specs, the skeleton's files, every template under StrictUndefined."""

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from phoenix.fleet.inventory import errors, known_variables
from tests.unit.shared import ROLES, SAMPLES, TOP, read_yaml, rendered, trusted
from tests.unit.shared import inputs as inputs_of

TEMPLATES = sorted((TOP / "roles").glob("*/templates/**/*.j2"))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_equal_the_specs(role: str) -> None:
    specs = read_yaml(TOP / "roles" / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    assert specs, f"{role}: has no meta/argument_specs.yml"
    options: dict[str, Any] = {}
    for entry_point in specs.values():
        options.update(entry_point.get("options") or {})
    stated = {name: option["default"] for name, option in options.items() if "default" in option}
    assert read_yaml(TOP / "roles" / role / "defaults" / "main.yml") == stated
    both = [name for name, option in options.items() if option.get("required") and "default" in option]
    assert not both, f"{role}: required, and yet with a default: {both}"


@pytest.mark.parametrize("role", ROLES)
def test_options_are_typed_described_and_in_their_namespace(role: str) -> None:
    specs = read_yaml(TOP / "roles" / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    for entry_point in specs.values():
        for name, option in (entry_point.get("options") or {}).items():
            assert name.startswith(f"{role}_"), name
            assert option.get("type"), f"{name}: has no type"
            assert option.get("description"), f"{name}: has no description"


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_names_every_option(role: str) -> None:
    readme = (TOP / "roles" / role / "README.md").read_text(encoding="utf-8")
    specs = read_yaml(TOP / "roles" / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    missing = [n for entry in specs.values() for n in (entry.get("options") or {}) if n not in readme]
    assert not missing, f"roles/{role}/README.md doesn't name {missing}"


def cases() -> list[Any]:
    """Each template once with the role's samples, and once more for each entry of its own in sample_vars.yml."""
    found = []
    for path in TEMPLATES:
        role = path.relative_to(TOP / "roles").parts[0]
        key = f"{role}/{path.name}"
        for number, own in enumerate([{}, *SAMPLES.get("variants", {}).get(key, [])]):
            found.append(pytest.param(role, path, own, id=f"{key}-{number}"))
    return found


@pytest.mark.parametrize(("role", "path", "own"), cases())
@pytest.mark.usefixtures("ansible_plugins")
def test_template_renders(role: str, path: Path, own: dict[str, Any]) -> None:
    try:
        text = rendered(path, own)
    except Exception as error:  # noqa: BLE001 - any failure to render is this test's finding
        pytest.fail(f"{path.relative_to(TOP)}: {error} (an input that only tasks define belongs into sample_vars.yml)")
    assert text.strip()
    assert "{{" not in text
    assert "ansible_managed" in path.read_text(encoding="utf-8"), "the file doesn't say that it is managed"


def test_no_two_roles_write_the_same_unit() -> None:
    """One host may hold every group."""
    owners: dict[str, set[str]] = {}
    for path in TOP.glob("roles/*/templates/*"):
        if path.suffixes[-2:-1] in ([".service"], [".timer"], [".socket"], [".path"]):
            owners.setdefault(path.name, set()).add(path.parts[-3])
    assert owners and [name for name, roles in owners.items() if len(roles) > 1] == []


def refused_by_role(role: str, inputs: dict[str, Any]) -> bool:
    """Whether the role's own preflight, its first assertion, refuses these inputs."""
    preflight = read_yaml(TOP / "roles" / role / "tasks" / "preflight.yml")
    task = next(task for task in preflight if "ansible.builtin.assert" in task)
    variables = inputs_of(role) | task.get("vars", {}) | inputs
    loop = Templar(loader=DataLoader(), variables=trusted(variables)).template(trusted(task["loop"]))
    return not all(item["that"] for item in loop)


def refused_by_inventory(role: str, inputs: dict[str, Any]) -> bool:
    """Whether the check of the whole inventory objects to these inputs on one host that holds every group."""
    values = {
        "phoenix_source": "app",
        "alerting_recipients": {"default": ["mail"]},
        "alerting_channels": CHANNELS,
        **inputs,
    }
    specs = {name: {**options} for name, options in SPECS.items() if name in (role, "playbooks")}
    found = errors({"vm": values}, {group: ["vm"] for group in ("lb", "app", "db", "control", "jenkins")}, specs)
    return any(message.startswith(tuple(f"{name}:" for name in inputs)) for message in found)


SPECS = known_variables(TOP / "roles", TOP / "playbooks")
SUM = "sha256:" + "0a" * 32
CHANNELS = {"mail": {"type": "email", "host": "h", "port": 25, "sender": "s", "to": ["t"]}}
MEMBERS = [{"host": f"db{n}", "address": f"192.0.2.3{n}"} for n in range(1, 10)]
SECRETS = {f"mongodb_{name}_password": "p" for name in ("admin", "app", "backup", "monitor")}
# What else the role's assertion asks for, so that only the input in question decides.
SOUND: dict[str, dict[str, Any]] = {
    "alerting": {},
    "archive": {"archive_name": "x"},
    "jenkins": {"jenkins_plugin_manager_archive_checksum": SUM},
    "mongodb": {**SECRETS, "mongodb_keyfile_content": "abcdefgh", "mongodb_address": "192.0.2.31"},
    "nginx": {},
    "phoenix": {"phoenix_release_checksum": SUM},
    "release": {"release_source": "app"},
}


def agreed() -> list[tuple[str, dict[str, Any], bool]]:
    """(role, inputs, whether they are good), for each check that the roles and the inventory's check both have."""
    sums = [
        (SUM, True),
        (SUM.upper().replace("SHA", "sha"), False),
        ("md5:1", False),
        (SUM[:-1], False),
        (f"{SUM}\n", False),
    ]
    names = {"jenkins": "jenkins_archive", "release": "release_npm_archive"}
    url = "https://example.org/x"
    found: list[tuple[str, dict[str, Any], bool]] = [
        (role, {name: url, f"{name}_checksum": v}, good) for role, name in names.items() for v, good in sums
    ]
    versions = {
        "5.0.4": True,
        "6.0.5": True,
        "7.0.1": True,
        "4.4.1": False,
        "6.1.0": False,
        "7.3.2": False,
        "8.0.0": False,
    }
    found += [("mongodb", {"mongodb_version": version}, good) for version, good in versions.items()]
    found += [("mongodb", {"mongodb_members": MEMBERS[:n]}, good) for n, good in ((1, True), (2, False), (9, False))]
    found += [("mongodb", {"mongodb_members": [*MEMBERS[:3], {**MEMBERS[3], "votes": v}]}, v == 0) for v in (0, 1)]
    for default, good in ((["mail"], True), ("mail", True), ([], False), (["hook"], False)):
        found.append(("alerting", {"alerting_recipients": {"default": default}, "alerting_channels": CHANNELS}, good))
    hook = {"type": "webhook", "url": "u"}
    for channel, good in (
        ({"type": "slack", "url": "u"}, True),
        ({"type": "slack"}, False),
        ({"type": "fax"}, False),
        ({**hook, "token": "t"}, True),
        ({**hook, "token": "t\n"}, False),
        ({**hook, "url": "u\n"}, True),
        ({**hook, "url": "u u"}, False),
    ):
        found.append(("alerting", {"alerting_channels": {**CHANNELS, "more": channel}}, good))
    for name, good in (("on-call_2.x", True), ("on/call", False), (".call", False), ("on call", False)):
        found.append(("alerting", {"alerting_channels": {**CHANNELS, name: hook}}, good))
    for source, good in (("https://git.example.org/x", True), ("https://me:t@git.example.org/x", False)):
        found.append(("release", {"release_source": source, "release_npm_archive_checksum": SUM}, good))
    for port, good in ((8443, True), (80, False), (8089, False), (0, False), (70000, False)):
        found.append(("nginx", {"nginx_http_port": 80, "nginx_https_port": port, "nginx_status_port": 8089}, good))
    for ports, spare, good in (([3000], 3900, True), ([3000], 0, True), ([3000], 3000, False), ([80], 3900, False)):
        found.append(
            ("phoenix", {"phoenix_ports": ports, "phoenix_spare_port": spare, "phoenix_isolate_ports": []}, good)
        )
    return found


@pytest.mark.parametrize(("role", "inputs", "good"), agreed())
def test_a_role_and_the_inventorys_check_agree(role: str, inputs: dict[str, Any], good: bool) -> None:
    recipients = {"alerting_recipients": {"default": ["mail"]}} if role == "alerting" else {}
    assert refused_by_role(role, {**SOUND[role], **recipients, **inputs}) is not good
    assert refused_by_inventory(role, inputs) is not good


@pytest.mark.parametrize(("checksum", "good"), [(SUM, True), (SUM.upper(), False)])
@pytest.mark.parametrize(("role", "name"), [("archive", "archive_checksum"), ("phoenix", "phoenix_release_checksum")])
def test_a_checksum_that_another_role_hands_on_follows_the_same_rule(
    role: str, name: str, checksum: str, good: bool
) -> None:
    assert refused_by_role(role, {**SOUND[role], name: checksum}) is not good


@pytest.mark.parametrize(
    ("own", "good"),
    [
        ({}, True),
        ({"nginx_proxy_read_timeout": "4s"}, True),
        ({"nginx_paths": [{"path": "/a"}, {"path": "/b", "timeout": "1m"}]}, True),
        ({"nginx_proxy_read_timeout": "3s"}, False),
        ({"nginx_paths": [{"path": "/a"}, {"path": "/b", "timeout": "1"}]}, False),
        ({"nginx_paths": [{"path": "/b", "timeout": "500ms"}]}, False),
    ],
)
def test_no_timeout_ends_while_a_spare_may_be_asked_again(own: dict[str, Any], good: bool) -> None:
    (task,) = [one for one in read_yaml(TOP / "roles/nginx/tasks/preflight.yml") if one["name"] == "Check the inputs"]
    (check,) = [one["that"] for one in task["loop"] if "__nginx_timeouts" in one["that"]]
    variables = {**inputs_of("nginx"), "__nginx_timeouts": task["vars"]["__nginx_timeouts"], **own}
    assert Templar(loader=DataLoader(), variables=trusted(variables)).template(trusted(check)) is good
