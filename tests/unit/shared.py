"""Paths and readers that the unit tests share."""

from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.name for path in (TOP / "roles").glob("*/meta"))


class AnsibleLoader(yaml.SafeLoader):
    """YAML as Ansible reads it: the tags of vaulted and unsafe values are accepted."""


for tag in ("!vault", "!unsafe"):
    AnsibleLoader.add_constructor(tag, lambda _, node: node.value)


def read_yaml(path: Path) -> Any:
    return (yaml.load(path.read_text(encoding="utf-8"), AnsibleLoader) or {}) if path.exists() else {}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
