"""A cheaper copy of what Ansible has read from YAML: with Python's own, half of the time that a role takes to load."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

from ansible.parsing import dataloader


def copied(value: Any) -> Any:
    """Copy lists and dictionaries, down to what nothing can change: texts with their origins, which take the time."""
    if not isinstance(value, dict | list):
        return value
    twin = copy.copy(value)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        twin[key] = copied(item)
    return twin


def patch() -> None:
    """Have this process' Ansible copy each file that it has read so."""
    # An inner part of the pinned version: fail rather than be slow in silence when a later one lacks it.
    assert vars(dataloader)["copy"] is copy
    vars(dataloader)["copy"] = SimpleNamespace(deepcopy=copied)
