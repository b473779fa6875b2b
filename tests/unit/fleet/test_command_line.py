"""Options of a command line, as tasks give them."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import command_line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lock": "-x", "seconds": 5}, ["--lock=-x", "--seconds=5"]),
        ({"down": ["a:1", "b:2"], "canary": []}, ["--down=a:1", "--down=b:2"]),
        ({"check": True, "keep-running": False}, ["--check"]),
        # Neither is False, nor nothing to say.
        ({"warmup": 0, "serving": ""}, ["--warmup=0", "--serving="]),
    ],
)
def test_options_of_each_kind(options: dict[str, Any], words: list[str]) -> None:
    assert command_line.arguments(options) == words
