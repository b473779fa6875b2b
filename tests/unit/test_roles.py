"""What holds for every role: defaults against specs, the skeleton's files, every template under StrictUndefined."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.shared import ROLES, SAMPLES, TOP, read_yaml, rendered

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
