"""Plugins and modules of the repository, loaded by their paths as Ansible does; actions that are given a host."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.unit.shared import TOP


def loaded(folder: str, name: str) -> ModuleType:
    """Return the module of this name in a folder of the repository."""
    spec = importlib.util.spec_from_file_location(f"phoenix_{folder}_{name}", TOP / folder / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def action(name: str, arguments: dict[str, Any], *, check: bool) -> Any:
    """Return an action that knows its task; how it reaches its host is set afterwards."""
    made = object.__new__(loaded("action_plugins", name).ActionModule)
    made._task = SimpleNamespace(
        args=arguments, check_mode=check, async_val=0, diff=False, environment=None, delegate_to=None
    )
    made._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None), become=None)
    made.validate_argument_spec = lambda spec: (
        None,
        {option: arguments.get(option, one.get("default")) for option, one in spec.items()},
    )
    return made
