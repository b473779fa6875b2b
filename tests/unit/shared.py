"""Paths and readers that the unit tests share."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
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


def load_program(path: str) -> ModuleType:
    """A program that a role copies to its hosts, as a module; path from the project's top."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, TOP / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
