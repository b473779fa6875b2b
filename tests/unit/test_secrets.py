"""Every secret has a line in docs/secrets.md, which says how it is replaced and what becomes of the former one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from phoenix.fleet.inventory import known_variables
from tests.unit.shared import TOP, read_yaml

TEXT = (TOP / "docs" / "secrets.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`]+)`", TEXT))
KEYS = read_yaml(TOP / "playbooks" / "rotate-keys.yml")[1]["vars"]["rotate_paths"]


def secret(options: Mapping[str, Any]) -> Iterator[str]:
    for name, option in options.items():
        if option.get("no_log") or any(secret(option.get("options") or {})):
            yield name


SECRETS = sorted(
    {name for options in known_variables(TOP / "roles", TOP / "playbooks").values() for name in secret(options)}
    | set(read_yaml(TOP / "inventories" / "generated-secrets.yml"))
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_has_a_line(name: str) -> None:
    assert name in NAMED, f"{name} is secret: add to docs/secrets.md how it is replaced"


@pytest.mark.parametrize(("kind", "path"), sorted(KEYS.items()))
def test_a_key_that_a_host_makes_has_a_line(kind: str, path: str) -> None:
    assert {kind, path} <= NAMED


def test_keys_are_made_nowhere_else() -> None:
    """A task that makes an SSH key makes one of those that can be replaced."""
    made = {
        path.relative_to(TOP).parts[1]
        for path in (TOP / "roles").glob("*/tasks/*.yml")
        if re.search(r"ssh-keygen|generate_ssh_key", path.read_text(encoding="utf-8"))
    }
    assert made == {"runner", "backup", "ci", "jenkins"}


@pytest.mark.parametrize("name", sorted(re.findall(r"`((?:rotate|site|ci|build)[a-z-]*\.yml)", TEXT)))
def test_the_plays_are_there(name: str) -> None:
    assert (TOP / "playbooks" / name).exists()
