"""Plays that are killed somewhere, and then played whole: as where an operator's machine is lost in the middle."""

from __future__ import annotations

import random
import subprocess
from typing import Any

from tests.harness import plays

# After which a play is killed at the latest; most take longer, and one that has ended by then is played twice.
LATEST_S = 180


class Cuts:
    """Cuts at moments that follow from a seed; `made` says which."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.made = list[str]()

    def cut(self, inventory: str, name: str, *options: str, **variables: Any) -> None:
        """Start a play, and kill it. Raises AssertionError where it fails before that."""
        after = self._draw.uniform(1, LATEST_S)
        running = plays.start(inventory, name, *options, **variables)
        try:
            output, _ = running.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            plays.kill(running)
            self.made.append(f"{name} after {after:.0f} s")
        else:
            assert running.returncode == 0, f"{name}.yml failed:\n{plays.excerpt(output)}"
            self.made.append(f"{name}, which had ended")
