"""Paths and readers that the unit tests share."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
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
    """A program that a role copies to its hosts, as a module, with its neighbours importable as they are there.

    path: from the project's top; programs without a suffix are Python, too.
    """
    file = TOP / path
    name = "program_" + file.stem.replace("-", "_")
    spec = spec_from_loader(name, SourceFileLoader(name, str(file)))
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
