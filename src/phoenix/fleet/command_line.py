"""Options of a command line, as tasks give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Words for these options: --name=value, a list once for each of its values, True alone, and False not at all."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}" if one is True else f"--{name}={one}" for one in values if one is not False]
    return words
